//! Boot media, built by `media/build`, and disk images that print a marker on their consoles when
//! they have booted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::command::{bty_path, tool};

/// What a marker image prints when it has booted.
pub const MARKER: &str = "the flashed system runs";

/// Products that are up to date. The lock also serializes builds, because they share a directory of
/// parts.
static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Returns the files of a product without the full environment, with the programs that the tests
/// run. Builds it first if an input has changed.
#[must_use]
pub fn product(name: &str, arch: &str) -> Vec<PathBuf> {
    build(name, arch, "target/media-test", &["--quick"])
}

/// Like [`product`], but with the full environment, as it is published.
#[must_use]
pub fn full_product(name: &str, arch: &str) -> Vec<PathBuf> {
    build(name, arch, "target/media-test-full", &[])
}

fn build(name: &str, arch: &str, out: &str, options: &[&str]) -> Vec<PathBuf> {
    let out = root().join(out);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let key = format!("{name} {arch} {options:?}");
    if !built.contains(&key) {
        let mut words = vec![root().join("media/build").display().to_string()];
        words.extend(["--arch", arch, "--out", out.to_str().unwrap()].map(str::to_owned));
        // cargo builds for this machine's architecture only
        if arch == "x86_64" {
            words.extend([
                "--programs".to_owned(),
                bty_path().parent().unwrap().display().to_string(),
            ]);
        }
        words.extend(options.iter().map(|option| (*option).to_owned()).chain([name.to_owned()]));
        tool(&words.iter().map(String::as_str).collect::<Vec<_>>());
        built.insert(key);
    }
    let prefix = format!("bty-{name}-{arch}-v{}.", env!("CARGO_PKG_VERSION"));
    let files = std::fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files
        .filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with(&prefix))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{prefix}");
    files
}

/// A disk image of 64 MiB that boots with BIOS and UEFI, prints [`MARKER`], and powers the machine
/// off.
#[must_use]
pub fn marker_image() -> PathBuf {
    made("marker")
}

/// An installed Debian of 650 MiB that does the same: kernel, initramfs, systemd, ext4 and an ESP.
#[must_use]
pub fn debian_image() -> PathBuf {
    made("debian")
}

fn made(name: &str) -> PathBuf {
    let _one = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let path = root().join(format!("target/media-work/{name}.img"));
    let script = root().join(format!("tests/media/{name}.py"));
    tool(&["python3", script.to_str().unwrap(), path.to_str().unwrap(), MARKER]);
    path
}

/// Copies the image of a stick to a stick of `bytes`, and adds a file to its images partition.
pub fn stick(image: &Path, copy: &Path, bytes: u64, file: Option<(&Path, &str)>) {
    tool(&["cp", "--sparse=always", image.to_str().unwrap(), copy.to_str().unwrap()]);
    if let Some((file, name)) = file {
        let script = root().join("tests/media/put.py");
        tool(&[
            "python3",
            script.to_str().unwrap(),
            copy.to_str().unwrap(),
            file.to_str().unwrap(),
            name,
        ]);
    }
    std::fs::File::options().write(true).open(copy).unwrap().set_len(bytes).unwrap();
}
