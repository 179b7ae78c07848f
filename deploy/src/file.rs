//! Writes files and directories.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// Replaces a file atomically. An existing file keeps its owner.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let part = path.with_extension("part");
    let result = (|| {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&part)?;
        if let Ok(meta) = path.metadata() {
            let _ = chown(&part, Some(meta.uid()), Some(meta.gid()));
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    })();
    result.map_err(|error| {
        let _ = std::fs::remove_file(&part);
        Failure::at(path)(error)
    })
}

/// Creates a directory and missing parents, and appends those that it created to `written`.
pub(crate) fn make_dir(dir: &Path, written: &mut Vec<PathBuf>) -> Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    for dir in missing.into_iter().rev() {
        std::fs::create_dir(dir).map_err(Failure::at(dir))?;
        written.push(dir.to_owned());
    }
    Ok(())
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(Failure::at(path))
}
