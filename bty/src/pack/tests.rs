use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::extent::Extent;
use crate::image::OpenOptions;
use crate::read_context::ReadContext;
use crate::{CancelToken, Client, Digest, Error, ErrorKind, Image};

fn image(bytes: &[u8]) -> Image {
    let (options, bytes): (_, Arc<[u8]>) = (OpenOptions::default(), bytes.into());
    Image::from_source(&Client::default(), "memory", bytes, &options, &CancelToken::new()).unwrap()
}

fn open(path: &Path) -> crate::Result<Image> {
    let (options, cancel) = (OpenOptions::default(), CancelToken::new());
    Image::open(&Client::default(), path.to_str().unwrap(), &options, &cancel)
}

/// A disk image of `len` bytes: a boot signature, and data only in the ranges of `data`.
fn disk(len: usize, data: &[(usize, usize)]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for &(start, end) in data {
        for (at, byte) in bytes[start..end].iter_mut().enumerate() {
            *byte = (((start + at) * 31) >> 5).to_le_bytes()[0] | 1;
        }
    }
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

fn packed(dir: &Path, bytes: &[u8], options: &PackOptions) -> (PathBuf, PackReport) {
    let path = dir.join("packed.img.zst");
    let _ = std::fs::remove_file(&path);
    let _ = std::fs::remove_file(dir.join("packed.img.zst.sha256"));
    let report = pack(&image(bytes), &path, options, &(), &CancelToken::new()).unwrap();
    (path, report)
}

fn checked(path: &Path) -> Result<PackCheck, Error> {
    let _ = std::fs::remove_file(path.with_extension("zst.sha256"));
    let source = Client::default().open(path.to_str().unwrap(), &CancelToken::new())?;
    check(&source, &CancelToken::new())
}

#[test]
fn a_packed_image_is_a_zstd_file_with_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk(3 << 20, &[(0, 100_000), (1 << 20, (1 << 20) + 5000), (2_500_000, 3 << 20)]);
    let (path, report) = packed(dir.path(), &bytes, &PackOptions::default());
    let file = std::fs::read(&path).unwrap();
    assert!(zstd::decode_all(&file[..]).unwrap() == bytes);
    assert_eq!(report.file_bytes, file.len() as u64);
    assert_eq!(report.sha256, Digest::of(&file));
    assert_eq!(report.disk_bytes, 3 << 20);
    let index = image_index(&path);
    assert_eq!(index.sha256(), report.index_sha256);
    // 64 KiB frames: two at the start, one in the middle, the last 10; zeros between them
    let kinds: Vec<bool> = index.frames().iter().map(|frame| frame.blake3.is_some()).collect();
    assert_eq!(kinds, [&[true; 2][..], &[false, true, false], &[true; 10]].concat());
    assert_eq!(index.data_bytes(), report.data_bytes);
    let frame = index.frames()[3];
    let content = &bytes[frame.disk_offset as usize..][..frame.disk_bytes as usize];
    assert_eq!(frame.blake3, Some(*blake3::hash(content).as_bytes()));
}

#[test]
fn a_promised_index_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let (path, report) = packed(dir.path(), &disk(1 << 20, &[(0, 4000)]), &PackOptions::default());
    let open = |path: &Path, digest| {
        let options = OpenOptions::default().pack_index_sha256(digest);
        Image::open(&Client::default(), path.to_str().unwrap(), &options, &CancelToken::new())
    };
    assert!(open(&path, report.index_sha256).is_ok());
    let wrong = open(&path, Digest::of(b"other")).err().unwrap();
    assert_eq!(wrong.kind(), ErrorKind::Integrity);
    let plain = dir.path().join("plain.img");
    std::fs::write(&plain, disk(1 << 20, &[(0, 4000)])).unwrap();
    let plain = open(&plain, report.index_sha256).err().unwrap();
    assert!(format!("{plain:#}").contains("is not a packed image"), "{plain:#}");
}

#[test]
fn a_packed_image_opens_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk(1 << 20, &[(0, 200_000)]);
    let (path, _) = packed(dir.path(), &bytes, &PackOptions::default());
    let image = open(&path).unwrap();
    assert_eq!(image.info().disk_bytes, Some(1 << 20));
    assert!(image.info().pack_index_sha256.is_some());
    let contents = image.read_fully(&(), &CancelToken::new()).unwrap();
    assert_eq!(contents.disk_bytes, 1 << 20);
    assert_eq!(contents.source_sha256, Digest::of(&std::fs::read(&path).unwrap()));
    assert_eq!(checked(&path).unwrap().disk_bytes, 1 << 20);
}

#[test]
fn all_extents_come_in_order_and_hold_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk((9 << 20) + 700, &[(0, 5 << 20), (6 << 20, 6_400_000), (8 << 20, 9 << 20)]);
    let (path, _) = packed(dir.path(), &bytes, &PackOptions::default());
    let mut found = vec![9; bytes.len()];
    let mut position = 0;
    let context = ReadContext::new(4, &CancelToken::new());
    let mut extents = open(&path).unwrap().extents(&context, true).unwrap();
    while let Some(extent) = extents.next().unwrap() {
        let (offset, content) = match &extent {
            Extent::Data { offset, block } => (*offset, block.to_vec()),
            Extent::Zero { offset, len } => (*offset, vec![0; *len as usize]),
        };
        assert_eq!(offset, position);
        position += content.len() as u64;
        found[offset as usize..][..content.len()].copy_from_slice(&content);
    }
    assert!(found == bytes);
}

#[test]
fn no_frame_that_differs_from_the_index_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk(1 << 20, &[(0, 70_000)]);
    let (path, _) = packed(dir.path(), &bytes, &PackOptions::default());
    std::fs::remove_file(dir.path().join("packed.img.zst.sha256")).unwrap();
    let file = std::fs::read(&path).unwrap();
    // the first frame, replaced by another valid frame of the same length in the file
    let other = disk(64 << 10, &[(0, 1)]);
    let mut frame = zstd::bulk::compress(&other, 3).unwrap();
    let len = image_index(&path).frames()[0].file_bytes as usize;
    frame.resize(len, 0);
    let changed = [&frame[..], &file[len..]].concat();
    std::fs::write(&path, changed).unwrap();
    let result = open(&path).and_then(|image| image.read_fully(&(), &CancelToken::new()));
    let error = result.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Format), "{error:?}");
}

fn image_index(path: &Path) -> PackIndex {
    let source = Client::default().open(path.to_str().unwrap(), &CancelToken::new()).unwrap();
    find_index(&source, &CancelToken::new()).unwrap().unwrap()
}

#[test]
fn the_same_image_packs_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk(5 << 20, &[(0, 2 << 20), (3 << 20, (3 << 20) + 1)]);
    let first = std::fs::read(packed(dir.path(), &bytes, &PackOptions::default()).0).unwrap();
    // packed again from the packed image: the source is cut differently
    let again = dir.path().join("again.img.zst");
    let source = open(&dir.path().join("packed.img.zst")).unwrap();
    pack(&source, &again, &PackOptions::default(), &(), &CancelToken::new()).unwrap();
    assert!(std::fs::read(again).unwrap() == first);
}

/// A packed image as version 1 has it: future versions must read it.
#[test]
fn a_packed_image_of_version_1_is_read() {
    let golden = include_bytes!("golden/v1.img.zst");
    let expected: Digest =
        "a38a8392ba27b6c36c68cf2b5510425dc4dae16371aaf5c2f0f6e619e0638460".parse().unwrap();
    assert_eq!(Digest::of(&zstd::decode_all(&golden[..]).unwrap()), expected);
    let image = image(golden);
    let index = image.pack_index().expect("it has an index");
    assert_eq!((index.disk_bytes(), index.data_bytes()), (717_100, 454_956));
    assert_eq!(
        index.sha256(),
        "42ce347017da196d722f712d3867c982fdb45882310167772c54db98d8572edb".parse().unwrap()
    );
    let options = OpenOptions::default().image_sha256(expected);
    let bytes: Arc<[u8]> = golden[..].into();
    let (client, cancel) = (Client::default(), CancelToken::new());
    let image = Image::from_source(&client, "memory", bytes, &options, &cancel).unwrap();
    assert_eq!(image.read_fully(&(), &cancel).unwrap().disk_bytes, 717_100);
}

#[test]
fn options_out_of_range_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(&disk(1 << 16, &[]));
    let path = dir.path().join("a.img.zst");
    for options in [
        PackOptions::default().level(20),
        PackOptions::default().frame_bytes(5000),
        PackOptions::default().frame_bytes(2 << 20),
    ] {
        let error = pack(&image, &path, &options, &(), &CancelToken::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
    for name in ["a.img", "a.img.gz"] {
        let path = dir.path().join(name);
        let options = PackOptions::default();
        let error = pack(&image, &path, &options, &(), &CancelToken::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{name}");
    }
    std::fs::write(&path, b"precious").unwrap();
    let options = PackOptions::default();
    let error = pack(&image, &path, &options, &(), &CancelToken::new()).unwrap_err();
    assert!(error.to_string().contains("already exists"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_cancelled_packing_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let cancel = CancelToken::new();
    let observer = |_: &crate::Event| cancel.cancel();
    let path = dir.path().join("a.img.zst");
    let image = image(&disk(1 << 20, &[(0, 1 << 20)]));
    let error = pack(&image, &path, &PackOptions::default(), &observer, &cancel).unwrap_err();
    assert!(error.is_cancelled());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_damaged_packed_image_fails_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk(1 << 20, &[(0, 70_000)]);
    let (path, report) = packed(dir.path(), &bytes, &PackOptions::default());
    let file = std::fs::read(&path).unwrap();
    let index_start = file.len() - 17 - 4 * 8 - usize::try_from(report.index_bytes).unwrap();
    // in both data frames, the frame of zeros, a block hash, and the seek table
    for at in [100, index_start - 20, index_start + 128 + 3 * 40 + 9, file.len() - 30] {
        let mut damaged = file.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let error = checked(&path).expect_err(&format!("byte {at}"));
        assert!(
            matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Format),
            "byte {at}: {error:?}"
        );
    }
    let mut longer = file.clone();
    longer.push(0);
    for changed in [&longer[..], &file[..file.len() - 1]] {
        std::fs::write(&path, changed).unwrap();
        let error = checked(&path).unwrap_err();
        assert!(error.to_string().contains("not a packed image"), "{error}");
    }
}

#[test]
fn other_zstd_files_are_not_packed_images() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plain.img.zst");
    std::fs::write(&path, zstd::encode_all(&disk(1 << 20, &[])[..], 3).unwrap()).unwrap();
    let source = Client::default().open(path.to_str().unwrap(), &CancelToken::new()).unwrap();
    assert!(find_index(&source, &CancelToken::new()).unwrap().is_none());
    assert!(checked(&path).unwrap_err().next_step().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_layout_of_data_survives(
        len in 512usize..(2 << 20),
        pieces in proptest::collection::vec((0usize..(2 << 20), 1usize..200_000), 0..6),
        frame_log in 14u32..18,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let data: Vec<_> = pieces
            .into_iter()
            .map(|(start, bytes)| (start % len, (start % len + bytes).min(len)))
            .collect();
        let bytes = disk(len, &data);
        let options = PackOptions::default().frame_bytes(1 << frame_log).level(1);
        let (path, report) = packed(dir.path(), &bytes, &options);
        prop_assert_eq!(report.disk_bytes, len as u64);
        let decoded = zstd::decode_all(&std::fs::read(&path).unwrap()[..]).unwrap();
        prop_assert!(decoded == bytes);
    }
}

fn open_promised(path: &Path, index: Digest) -> crate::Result<Image> {
    let options = OpenOptions::default().pack_index_sha256(index).ignore_sidecar(true);
    Image::open(&Client::default(), path.to_str().unwrap(), &options, &CancelToken::new())
}

#[test]
fn a_promised_index_is_compared_when_the_image_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let (path, report) =
        packed(dir.path(), &disk(1 << 20, &[(0, 70_000)]), &PackOptions::default());
    let image = open_promised(&path, report.index_sha256).unwrap();
    assert_eq!(image.info().expected_pack_index_sha256, Some(report.index_sha256));
    let other = open_promised(&path, Digest::of(b"other")).err().unwrap();
    assert_eq!(other.kind(), ErrorKind::Integrity);
    assert!(other.to_string().contains(&report.index_sha256.to_string()), "{other}");
    assert!(other.next_step().is_some());
    let plain = dir.path().join("plain.img.zst");
    std::fs::write(&plain, zstd::encode_all(&disk(1 << 20, &[])[..], 3).unwrap()).unwrap();
    let raw = dir.path().join("raw.img");
    std::fs::write(&raw, disk(1 << 20, &[])).unwrap();
    for path in [plain, raw] {
        let error = open_promised(&path, report.index_sha256).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Integrity);
        assert!(error.to_string().contains("is not a packed image"), "{error}");
    }
}

#[test]
fn a_promised_index_of_a_pipe_needs_the_digest_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (path, report) =
        packed(dir.path(), &disk(1 << 20, &[(0, 70_000)]), &PackOptions::default());
    let open = |sha256: Option<Digest>| {
        let file = std::fs::File::open(&path).unwrap();
        let options = OpenOptions::default().pack_index_sha256(report.index_sha256).sha256(sha256);
        Image::from_reader(&Client::default(), "pipe", file, &options, &CancelToken::new())
    };
    let error = open(None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(error.to_string().contains("only from its start"), "{error}");
    let image = open(Some(report.sha256)).unwrap();
    assert_eq!(image.info().pack_index_sha256, None);
    assert_eq!(image.read_fully(&(), &CancelToken::new()).unwrap().source_sha256, report.sha256);
}

#[test]
fn a_full_read_refuses_a_frame_of_zeros_that_holds_data() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = packed(dir.path(), &disk(1 << 20, &[(0, 70_000)]), &PackOptions::default());
    std::fs::remove_file(dir.path().join("packed.img.zst.sha256")).unwrap();
    let zeros = image_index(&path).frames()[2];
    assert_eq!(zeros.blake3, None);
    let mut file = std::fs::read(&path).unwrap();
    // the byte that the last block of the frame repeats
    let at = usize::try_from(zeros.file_offset).unwrap() + zeros.file_bytes as usize - 1;
    file[at] = 7;
    std::fs::write(&path, file).unwrap();
    let error = open(&path).unwrap().read_fully(&(), &CancelToken::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(error.to_string().contains("it is not a frame of zeros"), "{error}");
}

#[test]
fn chosen_frames_are_read_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk(1 << 20, &[(0, 200_000)]);
    let (path, _) = packed(dir.path(), &bytes, &PackOptions::default());
    let (image, cancel) = (open(&path).unwrap(), CancelToken::new());
    let frames: Result<Vec<_>, Error> = read_frames(&image, vec![0, 2], &cancel).unwrap().collect();
    let frames = frames.unwrap();
    assert_eq!(frames.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 2]);
    assert!(frames[1].1 == bytes[128 << 10..192 << 10]);
    // a frame of zeros, a number beyond the last, and an order that does not ascend
    for wrong in [vec![4], vec![99], vec![2, 0], vec![1, 1]] {
        let error = read_frames(&image, wrong, &cancel).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}
