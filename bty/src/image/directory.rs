//! Directories of image files, such as the image partition of a USB stick, and the checksum files
//! next to the images.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::create::part::{PACK_INDEX_NOTE, digest_path};
use crate::digest::{ChecksumList, Checksums};
use crate::image::name;
use crate::{Digest, Error, ErrorKind, Result, size, text};

/// Maximum size of a checksum file in bytes.
const MAX_SIDECAR_BYTES: u64 = size::MIB;

/// An image file, described by its name and its directory entry. Its content is not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ImageFile {
    /// Name of the file, without its directory.
    pub name: String,
    /// Path: the listed directory and the file name.
    #[serde(with = "crate::text::path")]
    pub path: PathBuf,
    /// Format id that the name suggests, such as `img.zst`.
    pub format: &'static str,
    /// Size of the file in bytes.
    pub size_bytes: u64,
    /// SHA-256 in its `.sha256` file. `None` also if that file is malformed; opening the image then
    /// fails.
    pub sha256: Option<Digest>,
    /// Architecture that the name suggests.
    pub arch: Option<&'static str>,
}

/// An [`ImageFile`] with owned strings, for deserialization.
#[derive(Deserialize)]
struct ImageFileData {
    name: String,
    #[serde(with = "crate::text::path")]
    path: PathBuf,
    format: String,
    size_bytes: u64,
    sha256: Option<Digest>,
    arch: Option<String>,
}

impl TryFrom<ImageFileData> for ImageFile {
    type Error = String;

    fn try_from(data: ImageFileData) -> Result<Self, String> {
        let ImageFileData { name, path, format, size_bytes, sha256, arch } = data;
        let format =
            name::known_format(&format).ok_or_else(|| format!("{format:?} is not a format"))?;
        let arch = arch.map(|arch| {
            name::known_architecture(&arch)
                .ok_or_else(|| format!("{arch:?} is not an architecture"))
        });
        Ok(Self { name, path, format, size_bytes, sha256, arch: arch.transpose()? })
    }
}

// not derived: a derived implementation would borrow the static strings from its input
impl<'de> Deserialize<'de> for ImageFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ImageFileData::deserialize(deserializer)?.try_into().map_err(D::Error::custom)
    }
}

impl ImageFile {
    /// Describes an image file that may not exist, for dry runs. `None` when `path` is not named
    /// like an image.
    #[must_use]
    pub fn simulated(path: &Path, size_bytes: u64) -> Option<Self> {
        let name = text::shown_name(path.file_name()?);
        let format = name::format(&name)?;
        let arch = name::architecture(&name);
        Some(Self { name, path: path.to_owned(), format, size_bytes, sha256: None, arch })
    }
}

/// Lists the files in `dir` that are named like images, sorted by name. Subdirectories and symbolic
/// links are skipped.
///
/// # Errors
/// [`ErrorKind::Source`] when the directory cannot be read.
pub fn list(dir: &Path) -> Result<Vec<ImageFile>> {
    let failed = |e: io::Error| {
        Error::new(ErrorKind::Source, format!("listing {}", dir.display()))
            .because(e)
            .with_path(dir.display())
            .hint("name a directory that holds image files")
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = text::shown_name(&entry.file_name());
        let Some(format) = name::format(&name) else { continue };
        // does not follow links; skips files that have vanished in the meantime
        let Ok(meta) = entry.metadata() else { continue };
        if !meta.is_file() {
            continue;
        }
        let path = entry.path();
        let sha256 = sidecar_digest(&path).ok().flatten();
        let arch = name::architecture(&name);
        found.push(ImageFile { name, path, format, size_bytes: meta.len(), sha256, arch });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The SHA-256 in the file `<image>.sha256` next to `image`. `None` when there is no such file.
///
/// # Errors
/// [`ErrorKind::Integrity`] when the file exists but has no digest for `image`; see
/// [`sidecar_checksums`].
pub fn sidecar_digest(image: &Path) -> Result<Option<Digest>> {
    Ok(sidecar(image, ".sha256")?.and_then(|found| found.sha256))
}

/// The digests in the files `<image>.sha256` and `<image>.sha512` next to `image`. Empty when there
/// are no such files.
///
/// Such a file holds a bare digest, or lines as [`ChecksumList`] reads them. If it holds a single
/// digest, that one counts for any name, so that an image can be renamed together with the file.
///
/// # Errors
/// [`ErrorKind::Integrity`] when a file exists but has no digest for `image`, or two files
/// contradict each other. A broken checksum file is an error, because ignoring it would flash the
/// image unchecked.
pub fn sidecar_checksums(image: &Path) -> Result<Checksums> {
    let mut all = Checksums::default();
    for extension in [".sha256", ".sha512"] {
        let found = sidecar(image, extension)?.unwrap_or_default();
        all = all.merged(found).ok_or_else(|| {
            let message =
                format!("the checksum files next to {} contradict each other", image.display());
            Error::new(ErrorKind::Integrity, message)
                .with_path(image.display())
                .hint("correct or remove one of them")
        })?;
    }
    Ok(all)
}

/// The digest of the index of the packed image `image` in the file `<image>.sha256`, where
/// [`pack`](crate::pack::pack) writes it. `None` when there is none.
///
/// # Errors
/// [`ErrorKind::Integrity`] when the file exists but cannot be read, or has something else there.
pub fn sidecar_pack_index(image: &Path) -> Result<Option<Digest>> {
    let path = digest_path(image);
    let Some(text) = read_sidecar(&path)? else { return Ok(None) };
    let line = text.lines().find_map(|line| line.strip_prefix(PACK_INDEX_NOTE));
    let digest = line.map(|digest| digest.trim().parse::<Digest>()).transpose();
    digest.map_err(|e| sidecar_error(&path, "has no valid digest of the pack index").because(e))
}

/// The digests for `image` in the file next to it with the additional `extension`. `None` when
/// there is no such file.
fn sidecar(image: &Path, extension: &str) -> Result<Option<Checksums>> {
    let mut path = OsString::from(image);
    path.push(extension);
    let path = PathBuf::from(path);
    let Some(text) = read_sidecar(&path)? else { return Ok(None) };
    let list = ChecksumList::parse(&text);
    let directory = image.parent().unwrap_or(Path::new("")).to_string_lossy();
    match list.find(&image.to_string_lossy(), &directory) {
        Ok(found) => Ok(Some(found)),
        Err(reason) => match list.only() {
            Some(found) => Ok(Some(found)),
            None => Err(sidecar_error(&path, &reason.to_string())),
        },
    }
}

/// The text of a checksum file; `None` when there is no such file.
fn read_sidecar(path: &Path) -> Result<Option<String>> {
    match read_small_file(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(e) => Err(sidecar_error(path, "cannot be read").because(e)),
    }
}

fn sidecar_error(sidecar: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Integrity, format!("{} {why}", sidecar.display()))
        .with_path(sidecar.display())
        .hint("write the digest of the image into it, or remove it")
}

fn read_small_file(path: &Path) -> io::Result<String> {
    // checked before opening: opening a pipe would wait for a writer
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = String::new();
    let read = File::open(path)?.take(MAX_SIDECAR_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_SIDECAR_BYTES {
        return Err(io::Error::other(format!(
            "it is larger than {}",
            size::human(MAX_SIDECAR_BYTES)
        )));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn dir_with(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        dir
    }

    #[test]
    fn lists_images_sorted_and_nothing_else() {
        let dir = dir_with(&[
            ("b-arm64.img.zst", b"12345"),
            ("a-amd64.ISO", b""),
            ("a.img.zst.sha256", b"x"),
            ("readme.txt", b"x"),
            ("rootfs.tar.gz", b"x"),
        ]);
        fs::create_dir(dir.path().join("sub.img")).unwrap();
        fs::write(dir.path().join("sub.img/inner.img"), b"x").unwrap();
        std::os::unix::fs::symlink("b-arm64.img.zst", dir.path().join("link.img")).unwrap();
        let listed = list(dir.path()).unwrap();
        let shown: Vec<_> =
            listed.iter().map(|f| (f.name.as_str(), f.format, f.size_bytes, f.arch)).collect();
        assert_eq!(
            shown,
            [
                ("a-amd64.ISO", "iso", 0, Some("x86_64")),
                ("b-arm64.img.zst", "img.zst", 5, Some("arm64"))
            ]
        );
        let json = serde_json::to_value(&listed[1]).unwrap();
        assert_eq!(json["path"], dir.path().join("b-arm64.img.zst").to_str().unwrap());
        assert_eq!(json["sha256"], serde_json::Value::Null);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = list(Path::new("/nonexistent/images")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Source);
        assert!(format!("{error:#}").starts_with("listing /nonexistent/images: "), "{error:#}");
    }

    #[test]
    fn reads_what_sha256sum_writes() {
        let dir = dir_with(&[("a b.img", b"hello"), ("c.img", b"")]);
        let summed = Command::new("sha256sum")
            .args(["c.img", "a b.img"])
            .current_dir(&dir)
            .output()
            .unwrap()
            .stdout;
        fs::write(dir.path().join("a b.img.sha256"), &summed).unwrap();
        let digest = sidecar_digest(&dir.path().join("a b.img")).unwrap();
        assert_eq!(digest, Some(Digest::of(b"hello")));
        assert_eq!(list(dir.path()).unwrap()[0].sha256, digest);
        assert_eq!(sidecar_digest(&dir.path().join("c.img")).unwrap(), None);
    }

    #[test]
    fn a_single_digest_counts_for_any_name() {
        let hex = Digest::of(b"x").to_string();
        for text in
            [hex.clone(), format!("{}\n", hex.to_uppercase()), format!("{hex}  old-name.img\n")]
        {
            let dir = dir_with(&[("a.img", b"x"), ("a.img.sha256", text.as_bytes())]);
            assert_eq!(
                sidecar_digest(&dir.path().join("a.img")).unwrap(),
                Some(Digest::of(b"x")),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_sidecar_without_a_digest_is_an_error_but_does_not_hide_the_image() {
        let hex = Digest::of(b"x").to_string();
        let others = format!("{hex}  one.img\n{hex}  two.img\n");
        let large = vec![b'\n'; MAX_SIDECAR_BYTES as usize + 1];
        for text in
            [&b""[..], b"<html>", b"\xff\xfe", &hex.as_bytes()[1..], others.as_bytes(), &large]
        {
            let dir = dir_with(&[("a.img", b"x"), ("a.img.sha256", text)]);
            let error = sidecar_digest(&dir.path().join("a.img")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Integrity);
            assert!(error.path().unwrap().ends_with("/a.img.sha256"));
            assert_eq!(list(dir.path()).unwrap()[0].sha256, None);
        }
    }

    #[test]
    fn sidecars_of_both_kinds_and_in_bsd_format_count() {
        let (short, long) = (Digest::of(b"x"), crate::digest::Sha512::of(b"x"));
        let bsd = format!("# a.img: 1 bytes\nSHA256 (a.img) = {short}\n");
        let dir = dir_with(&[("a.img", b"x"), ("a.img.sha256", bsd.as_bytes())]);
        fs::write(dir.path().join("a.img.sha512"), format!("{long}  a.img\n")).unwrap();
        let found = sidecar_checksums(&dir.path().join("a.img")).unwrap();
        assert_eq!(found, Checksums { sha256: Some(short), sha512: Some(long) });
        fs::write(
            dir.path().join("a.img.sha512"),
            format!("SHA256 (a.img) = {}", Digest::of(b"y")),
        )
        .unwrap();
        let error = sidecar_checksums(&dir.path().join("a.img")).unwrap_err();
        assert!(error.to_string().contains("contradict each other"), "{error}");
        fs::write(dir.path().join("a.img.sha512"), "d41d8cd98f00b204e9800998ecf8427e  a.img")
            .unwrap();
        let error = sidecar_checksums(&dir.path().join("a.img")).unwrap_err();
        assert!(error.to_string().contains("holds only MD5 for the image"), "{error}");
    }

    #[test]
    fn a_checksum_file_may_have_the_digest_of_the_pack_index() {
        let (file, index) = (Digest::of(b"file"), Digest::of(b"index"));
        let text = format!("{file}  a.img.zst\n{PACK_INDEX_NOTE}{index}\n");
        let dir = dir_with(&[("a.img.zst", b"x"), ("a.img.zst.sha256", text.as_bytes())]);
        let path = dir.path().join("a.img.zst");
        assert_eq!(sidecar_pack_index(&path).unwrap(), Some(index));
        assert_eq!(sidecar_checksums(&path).unwrap().sha256, Some(file));
        fs::write(dir.path().join("a.img.zst.sha256"), format!("{PACK_INDEX_NOTE}no digest"))
            .unwrap();
        let error = sidecar_pack_index(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity);
        assert_eq!(sidecar_pack_index(&dir.path().join("b.img")).unwrap(), None);
    }

    #[test]
    fn a_pipe_as_sidecar_does_not_hang() {
        let dir = dir_with(&[("a.img", b"x")]);
        assert!(
            Command::new("mkfifo").arg(dir.path().join("a.img.sha256")).status().unwrap().success()
        );
        assert_eq!(
            sidecar_digest(&dir.path().join("a.img")).unwrap_err().kind(),
            ErrorKind::Integrity
        );
    }
}
