use std::io::{Cursor, Write};
use std::path::PathBuf;

use ::tar::{Builder, EntryType, Header};
use ::zip::ZipWriter;
use ::zip::write::SimpleFileOptions;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::image::{Image, OpenOptions};
use crate::{Client, Digest};

const MIB: usize = 1 << 20;

/// Bytes that resemble no format, and do not compress well.
fn disk(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(step).collect()
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn zip_of(files: &[(&str, &[u8])], method: ::zip::CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn deflated(files: &[(&str, &[u8])]) -> Vec<u8> {
    zip_of(files, ::zip::CompressionMethod::Deflated)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An archive in a file.
struct Archive {
    _dir: TempDir,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Archive {
    fn new(bytes: Vec<u8>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("archive");
        std::fs::write(&path, &bytes).unwrap();
        Self { _dir: dir, path, bytes }
    }

    fn open(&self, member: Option<&str>, sha256: Option<Digest>) -> Result<Image> {
        let options =
            OpenOptions { sha256, member: member.map(str::to_owned), ..OpenOptions::default() };
        Image::open(&Client::default(), self.path.to_str().unwrap(), &options, &CancelToken::new())
    }

    /// Returns the content of the image, and checks the digest of the archive.
    fn read(&self, member: Option<&str>) -> Result<Vec<u8>> {
        let digest = Digest::of(&self.bytes);
        let image = self.open(member, Some(digest))?;
        let content = read(&image)?;
        assert_eq!(image.read_fully(&(), &CancelToken::new())?.source_sha256, digest);
        Ok(content)
    }
}

fn read(image: &Image) -> Result<Vec<u8>> {
    use crate::extent::Extent;
    use crate::read_context::ReadContext;
    let mut extents = image.extents(&ReadContext::new(4, &CancelToken::new()), false)?;
    let mut content = Vec::new();
    while let Some(extent) = extents.next()? {
        match extent {
            Extent::Data { block, .. } => content.extend_from_slice(&block),
            Extent::Zero { len, .. } => {
                content.resize(content.len() + usize::try_from(len).unwrap(), 0);
            }
        }
    }
    Ok(content)
}

#[test]
fn the_only_image_is_read_from_every_kind_of_archive() {
    let disk = disk(3 * MIB + 17);
    let files: [(&str, &[u8]); 3] =
        [("README.txt", b"read me"), ("d/disk.img", &disk), ("._disk.img", b"mac")];
    let packed = gzip(&disk);
    let packed_files: [(&str, &[u8]); 2] = [("README.txt", b"read me"), ("disk.img.gz", &packed)];
    for archive in [
        deflated(&files),
        zip_of(&files, ::zip::CompressionMethod::Stored),
        tar_of(&files),
        gzip(&tar_of(&files)),
        deflated(&packed_files),
        gzip(&tar_of(&packed_files)),
    ] {
        let archive = Archive::new(archive);
        assert!(archive.read(None).unwrap() == disk);
        let image = archive.open(None, None).unwrap();
        assert!(read(&image).unwrap() == disk, "without a digest");
        assert!(
            image.info().source.contains("archive#") && image.info().name.starts_with("disk.img")
        );
    }
}

#[test]
fn several_images_are_listed_and_one_is_chosen() {
    let (one, two) = (disk(5000), disk(9000));
    let files: [(&str, &[u8]); 2] = [("a/one.img", &one), ("a/two.img", &two)];
    for archive in [deflated(&files), tar_of(&files), gzip(&tar_of(&files))] {
        let archive = Archive::new(archive);
        let error = archive.open(None, None).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(error.next_step(), Some("choose one with ARCHIVE#NAME: a/one.img, a/two.img"));
        assert!(archive.read(Some("a/two.img")).unwrap() == two);
        assert!(archive.read(Some("one.img")).unwrap() == one);
        let error = archive.open(Some("three.img"), None).err().unwrap();
        assert!(format!("{error:#}").contains("holds no file \"three.img\""), "{error}");
        let by_name = format!("{}#a/one.img", archive.path.display());
        let image =
            Image::open(&Client::default(), &by_name, &OpenOptions::default(), &CancelToken::new())
                .unwrap();
        assert!(read(&image).unwrap() == one);
    }
}

#[test]
fn a_second_image_found_while_reading_is_an_error() {
    let (one, two) = (disk(5000), disk(9000));
    let bytes = tar_of(&[("one.img", &one), ("two.img", &two)]);
    let open = |bytes: &[u8]| Box::new(Cursor::new(bytes.to_vec()));
    let member = tar::find(open(&bytes), None, None, false).unwrap();
    assert_eq!(member.name(), "one.img");
    let options = DecodeOptions { threads: 1, memory_bytes: 16 << 20 };
    let mut found = Vec::new();
    let error =
        member.reader(open(&bytes), true, options).unwrap().read_to_end(&mut found).unwrap_err();
    assert!(Error::unwrap_io(error).unwrap().next_step().unwrap().contains("one.img, two.img"));
}

#[test]
fn a_file_of_any_name_is_the_image_when_it_is_the_only_one() {
    let disk = disk(5000);
    for archive in [deflated(&[("firmware", &disk)]), tar_of(&[("firmware", &disk)])] {
        assert!(Archive::new(archive).read(None).unwrap() == disk);
    }
    let error = Archive::new(tar_of(&[("a", &disk), ("b", &disk)])).open(None, None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Format);
    assert_eq!(error.next_step(), Some("choose one with ARCHIVE#NAME: a, b"));
}

#[test]
fn old_headers_long_names_and_sparse_files_are_supported() {
    let disk = disk(5000);
    // v7: no magic
    let mut old = tar_of(&[("disk.img", &disk)]);
    old[257..265].fill(0);
    let sum: u32 =
        (0..512).map(|i| if (148..156).contains(&i) { 32 } else { u32::from(old[i]) }).sum();
    old[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(Archive::new(old).read(None).unwrap() == disk);
    let long = format!("{}/disk.img", "directory/".repeat(30));
    assert!(Archive::new(tar_of(&[(&long, &disk)])).read(Some(&long)).unwrap() == disk);
    assert!(
        Archive::new(sparse(2 * 512)).read(None).unwrap()
            == [&[0; 4096][..], &[7; 1024], &[0; 3072]].concat()
    );
    let error = Archive::new(sparse(512)).read(None).unwrap_err();
    assert!(format!("{error:#}").contains("map of a sparse file"), "{error}");
}

/// A sparse file of 8 KiB whose map says 1 KiB of data, with `packed` bytes.
fn sparse(packed: u64) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_path("disk.raw").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(packed);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(8192);
    gnu.sparse[0].set_offset(4096);
    gnu.sparse[0].set_length(1024);
    header.set_cksum();
    [&header.as_bytes()[..], &vec![7; usize::try_from(packed).unwrap()], &[0; 1024]].concat()
}

#[test]
fn damage_is_found_before_the_end() {
    let disk = disk(200_000);
    let files: [(&str, &[u8]); 1] = [("disk.img", &disk)];
    for (bytes, at) in
        [(deflated(&files), 100_000), (zip_of(&files, ::zip::CompressionMethod::Stored), 100_000)]
    {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        let error = Archive::new(bad).open(None, None).and_then(|image| read(&image)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format, "{error}");
        assert!(Archive::new(bytes[..bytes.len() - 30].to_vec()).open(None, None).is_err(), "cut");
    }
    let cut = tar_of(&files)[..100_000].to_vec();
    let error = Archive::new(cut).open(None, None).and_then(|image| read(&image)).unwrap_err();
    assert!(format!("{error:#}").contains("ends early"), "{error}");
}

#[test]
fn the_memory_for_metadata_is_limited() {
    let mut header = Header::new_gnu();
    header.set_path("././@LongLink").unwrap();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let bytes = [&header.as_bytes()[..], &[b'x'; 4096]].concat();
    let error = Archive::new(bytes).open(None, None).err().unwrap();
    assert!(format!("{error:#}").contains("headers of one file"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_archives_never_panic(
        which in 0usize..4,
        flips in prop::collection::vec((0usize..20_000, any::<u8>()), 1..8),
        cut in 0usize..40_000,
    ) {
        let disk = disk(3000);
        let files: [(&str, &[u8]); 2] = [("README", b"read me"), ("disk.img", &disk)];
        let mut bytes = match which {
            0 => deflated(&files),
            1 => tar_of(&files),
            2 => sparse(1024),
            _ => zip_of(&files, ::zip::CompressionMethod::Stored),
        };
        for (at, with) in flips {
            let at = at % bytes.len();
            bytes[at] ^= with;
        }
        bytes.truncate(cut.max(1));
        let _ = Archive::new(bytes).open(None, None).and_then(|image| read(&image));
    }
}
