//! Small files of sysfs and procfs.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longer files are cut.
const BYTES_MAX: u64 = 1 << 20;

/// The bytes of `path`; `None` when they cannot be had.
pub(super) fn bytes(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The text of `path` without blanks around it; `None` when there is nothing.
pub(super) fn text(path: &Path) -> Option<String> {
    let text = String::from_utf8_lossy(&bytes(path)?).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned();
    (!text.is_empty()).then_some(text)
}

/// The number in `path`: decimal, or hexadecimal with `0x`.
pub(super) fn number(path: &Path) -> Option<u64> {
    let text = text(path)?;
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The last part of what the link `path` leads to.
pub(super) fn link_name(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_string_lossy().into_owned())
}

/// The entries of a directory, sorted by name; at most so many as one machine has.
pub(super) fn entries(dir: &Path) -> Vec<PathBuf> {
    const ENTRIES_MAX: usize = 4096;
    let mut all: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().take(ENTRIES_MAX).map(|entry| entry.path()).collect();
    all.sort();
    all
}

/// The last part of a path.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
