//! Errors for what a cargo feature of this crate would add, if it is off.

use crate::decode::Compression;
use crate::{Error, ErrorKind, Result};

/// The error when `what` is needed, but the feature that reads it is off.
pub(crate) fn missing(what: &str, feature: &str) -> Error {
    let message = format!("{what} cannot be read: the feature {feature:?} is off in this program");
    Error::new(ErrorKind::Format, message)
        .hint(format!("build the program with the feature {feature:?} of the crate bty-core"))
}

/// Refuses a file by its first bytes if the feature that reads its format is off, before any more
/// of it is fetched.
pub(crate) fn check_format(head: &[u8]) -> Result<()> {
    let (what, feature, is_on) = match Compression::sniff(head) {
        _ if head.starts_with(b"QFI\xfb") => ("a qcow2 image", "qcow2", cfg!(feature = "qcow2")),
        _ if head.starts_with(b"PK\x03\x04") => ("a zip archive", "zip", cfg!(feature = "zip")),
        Some(Compression::Xz) => ("xz data", "xz", cfg!(feature = "xz")),
        Some(Compression::Bzip2) => ("bzip2 data", "bzip2", cfg!(feature = "bzip2")),
        Some(Compression::Lz4) => ("lz4 data", "lz4", cfg!(feature = "lz4")),
        _ => return Ok(()),
    };
    if is_on { Ok(()) } else { Err(missing(what, feature)) }
}
