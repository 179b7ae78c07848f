//! What machines boot, as `media/build` makes it, and an image that says on its consoles that it runs.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::command::tool;

/// What the marker image says once it runs.
pub const MARKER: &str = "the flashed system runs";

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The files of a product; built first, when anything that it is made of has changed.
#[must_use]
pub fn product(name: &str, arch: &str) -> Vec<PathBuf> {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    tool(&[root().join("media/build").to_str().unwrap(), "--arch", arch, name]);
    let prefix = format!("bty-{name}-{arch}-v{}.", env!("CARGO_PKG_VERSION"));
    let files = std::fs::read_dir(root().join("target/media")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with(&prefix)).collect();
    files.sort();
    assert!(!files.is_empty(), "{prefix}");
    files
}

/// A disk image that boots with BIOS and UEFI, says [`MARKER`], and switches the machine off. 64 MiB.
#[must_use]
pub fn marker_image() -> PathBuf {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = root().join("target/media-work/marker.img");
    tool(&["python3", root().join("tests/media/marker.py").to_str().unwrap(), path.to_str().unwrap(), MARKER]);
    path
}
