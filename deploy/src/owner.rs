//! Ownership and modes of a site's data on the host.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, fchmod, fstat, openat,
};
use rustix::io::Errno;

use crate::failure::{Failure, Result};
use crate::process;
use crate::services::{self, EARLIER_UID, UID};
use crate::site::{Site, VERSION};

/// Mode of directories of state: only the user of the programs has access.
pub(crate) const DIR_MODE: u32 = 0o700;

/// Changes the owner of the data and of `bty.toml` to the user of the programs, [`UID`]. Without
/// root they belong to the calling user already, and only modes change.
///
/// Services must be stopped. Earlier versions used [`EARLIER_UID`]: only files of that user change
/// their owner. That user may have put links to other users' files there, so no link is followed.
///
/// # Errors
/// If an owner or a mode cannot be changed. Another call continues with the rest.
pub(crate) fn fix_ownership(site: &Site) -> Result<()> {
    for dir in services::all(&site.settings, VERSION)
        .iter()
        .filter_map(|service| service.state_dir(&site.settings))
    {
        match open_dir(CWD, &dir) {
            // first, so that the former owner cannot move anything below it meanwhile
            Ok(fd) => make_private(&fd)
                .and_then(|()| hand_over(&fd))
                .map_err(|errno| Failure::at(&dir)(errno.into()))?,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(Failure::at(&dir)(errno.into())),
        }
    }
    let toml = site.toml();
    match process::is_root() && toml.exists() {
        true => std::os::unix::fs::chown(&toml, Some(UID), Some(UID)).map_err(Failure::at(&toml)),
        false => Ok(()),
    }
}

/// Opens a directory, and fails if it is anything else, such as a link to one.
fn open_dir(at: BorrowedFd<'_>, path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    openat(
        at,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn make_private(dir: &OwnedFd) -> rustix::io::Result<()> {
    if process::is_root() {
        chown_to_programs(dir.as_fd())?;
    }
    fchmod(dir, Mode::from_raw_mode(DIR_MODE))
}

fn chown_to_programs(file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    chownat(file, c"", Some(Uid::from_raw(UID)), Some(Gid::from_raw(UID)), AtFlags::EMPTY_PATH)
}

/// Changes the owner of files below `dir` that belong to the user of an earlier version. Follows no
/// link, and checks and changes each file through the same descriptor, so that it cannot be swapped
/// in between.
fn hand_over(dir: &OwnedFd) -> rustix::io::Result<()> {
    if !process::is_root() {
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
            chown_to_programs(file.as_fd())?;
        }
        if FileType::from_raw_mode(meta.st_mode) == FileType::Directory {
            hand_over(&open_dir(dir.as_fd(), name)?)?;
        }
    }
    Ok(())
}

/// The name of a user of this host, from any source of users that the host has.
pub(crate) fn user_name(uid: u32) -> Option<String> {
    let entry = process::run("getent", &["passwd", &uid.to_string()]).ok().or_else(|| {
        // not every host has getent
        let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
        passwd
            .lines()
            .find(|line| line.split(':').nth(2) == Some(&uid.to_string()))
            .map(str::to_owned)
    })?;
    entry.split(':').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Number and name of the owner of `path`, if a user other than root or `bty` has that number.
pub(crate) fn named_owner(path: &Path) -> Option<(u32, String)> {
    use std::os::unix::fs::MetadataExt as _;
    let uid = path.symlink_metadata().ok()?.uid();
    // root has access to everything anyway; a user called bty was created for the site
    let name = user_name(uid).filter(|name| uid != 0 && name != "bty")?;
    Some((uid, name))
}

/// Existing files and directories whose owner controls the site.
pub(crate) fn owned_paths(site: &Site) -> Vec<PathBuf> {
    let services = services::all(&site.settings, VERSION);
    let dirs = services.iter().filter_map(|service| service.state_dir(&site.settings));
    dirs.chain([site.toml()]).filter(|path| path.exists()).collect()
}
