//! Who owns a site's data on the host.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, fchmod, fstat, openat,
};
use rustix::io::Errno;

use crate::failure::{Failure, Result};
use crate::podman;
use crate::services::{self, EARLIER_UID, UID};
use crate::site::{Site, VERSION};

/// Directories of state are for their programs alone.
pub(crate) const DIR_MODE: u32 = 0o700;

/// Makes the data and `bty.toml` belong to the user of the programs; without root they belong to
/// whoever starts them, and only modes change.
///
/// Services must be stopped. In a directory of an earlier version, what belongs to its user 1000
/// changes hands and nothing else does: that user may have put links to files of other users there.
///
/// # Errors
/// When an owner or a mode cannot be changed. A second call goes on with what is left.
pub(crate) fn settle(site: &Site) -> Result<()> {
    for dir in services::all(&site.settings, VERSION)
        .iter()
        .filter_map(|service| service.state_dir(&site.settings))
    {
        match dir_only(CWD, &dir) {
            // the owner of a directory that nobody else can enter cannot move anything below it
            // meanwhile
            Ok(fd) => close_dir(&fd)
                .and_then(|()| hand_over(&fd))
                .map_err(|errno| Failure::at(&dir)(errno.into()))?,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(Failure::at(&dir)(errno.into())),
        }
    }
    let toml = site.toml();
    match podman::is_root() && toml.exists() {
        true => std::os::unix::fs::chown(&toml, Some(UID), Some(UID)).map_err(Failure::at(&toml)),
        false => Ok(()),
    }
}

fn dir_only(at: BorrowedFd<'_>, path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    openat(
        at,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn close_dir(dir: &OwnedFd) -> rustix::io::Result<()> {
    if podman::is_root() {
        give(dir.as_fd())?;
    }
    fchmod(dir, Mode::from_raw_mode(DIR_MODE))
}

fn give(file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    chownat(file, c"", Some(Uid::from_raw(UID)), Some(Gid::from_raw(UID)), AtFlags::EMPTY_PATH)
}

/// What belongs to the user of an earlier version, below `dir`. No link is followed, and every file
/// is looked at and changed by the same descriptor.
fn hand_over(dir: &OwnedFd) -> rustix::io::Result<()> {
    if !podman::is_root() {
        return Ok(());
    }
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let file =
            openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let meta = fstat(&file)?;
        if meta.st_uid == EARLIER_UID {
            give(file.as_fd())?;
        }
        if FileType::from_raw_mode(meta.st_mode) == FileType::Directory {
            hand_over(&dir_only(dir.as_fd(), name)?)?;
        }
    }
    Ok(())
}

/// The name that a user of this host has, from wherever the host knows its users.
pub(crate) fn name(uid: u32) -> Option<String> {
    let entry = podman::run("getent", &["passwd", &uid.to_string()]).ok().or_else(|| {
        // a host without the programs of glibc
        let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
        passwd
            .lines()
            .find(|line| line.split(':').nth(2) == Some(&uid.to_string()))
            .map(str::to_owned)
    })?;
    entry.split(':').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// A user of this host who owns `path` without being meant to, with the name.
pub(crate) fn person(path: &Path) -> Option<(u32, String)> {
    use std::os::unix::fs::MetadataExt as _;
    let uid = path.symlink_metadata().ok()?.uid();
    // root may do everything anyway; a user called bty was made for this
    let name = name(uid).filter(|name| uid != 0 && name != "bty")?;
    Some((uid, name))
}

/// Files and directories whose owner owns the site.
pub(crate) fn owned(site: &Site) -> Vec<PathBuf> {
    let services = services::all(&site.settings, VERSION);
    let dirs = services.iter().filter_map(|service| service.state_dir(&site.settings));
    dirs.chain([site.toml()]).filter(|path| path.exists()).collect()
}
