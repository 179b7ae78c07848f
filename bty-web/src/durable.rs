//! Replaces whole files in a way that survives a power failure.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Result, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Mode of files that may contain secrets: the group may read, others may not.
pub const PRIVATE_FILE: u32 = 0o640;

/// Replaces the file at `path` with `bytes`, or leaves it unchanged. Before anything is written,
/// restricts the permissions of the new file to those in `mode`.
///
/// # Errors
/// The error of the file system. `path` then still has its old content, but a file with the
/// extension `new` may remain beside it.
pub fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let new = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
    // `mode` does not apply to a file left by an earlier attempt
    let current = file.metadata()?.permissions().mode() & 0o7777;
    if current & !mode != 0 {
        file.set_permissions(Permissions::from_mode(current & mode))?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    // the rename is durable only once the directory is synced
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
