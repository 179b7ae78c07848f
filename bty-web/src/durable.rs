//! Files that are replaced as a whole and survive a power failure.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Result, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Mode of files that may contain secrets: the group may read, others may not.
pub const PRIVATE_FILE: u32 = 0o640;

/// Replaces the file at `path` with `bytes`, or leaves it unchanged. The file has at most the
/// permissions in `mode` before anything is written to it.
///
/// # Errors
/// The error of the file system. `path` then has its old content, but a file with the extension
/// `new` may be left beside it.
pub fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let new = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
    // `mode` does not apply to a file that an earlier attempt has left behind
    let current = file.metadata()?.permissions().mode() & 0o7777;
    if current & !mode != 0 {
        file.set_permissions(Permissions::from_mode(current & mode))?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    // the rename is durable only once the directory is
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
