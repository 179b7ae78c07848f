//! Checks and locks state and cache directories before anything is written to them.
//!
//! SQLite in WAL mode shares memory between its connections and relies on file locks. Both are
//! unsafe on network file systems, so the server refuses a state there, unless the operator
//! promises that no other host uses it.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, major, minor};
use rustix::io::Errno;

use crate::domain::error::{Error, ErrorKind, Result};

/// Free space below which a state is refused.
const FREE_BYTES_MIN: u64 = 8 << 20;

/// Free space below which a warning is logged.
const FREE_BYTES_LOW: u64 = 128 << 20;

/// Name of the lock file in a directory.
const LOCK: &str = "state.lock";

/// Files that a process opens for writing.
const FILES: [&str; 4] = [LOCK, "state.db", "state.db-wal", "state.db-shm"];

/// The lock of a directory, held until this is dropped or the process ends.
pub struct StateLock(#[allow(dead_code)] File);

impl StateLock {
    /// Locks `dir`.
    ///
    /// # Errors
    /// - [`ErrorKind::Conflict`] if another process holds the lock.
    /// - [`ErrorKind::Internal`] if the lock file cannot be opened.
    pub fn take(dir: &Path) -> Result<Self> {
        let path = dir.join(LOCK);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        file.try_lock().map(|()| Self(file)).map_err(|e| match e {
            TryLockError::WouldBlock => {
                let dir = dir.display();
                let detail =
                    format!("another process uses {dir}; stop it, or choose another directory");
                Error::new(ErrorKind::Conflict, detail)
            }
            TryLockError::Error(e) => Error::internal(format!("locking {}: {e}", path.display())),
        })
    }
}

/// The purpose of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It contains the database.
    State {
        /// It may be on a network file system.
        may_be_remote: bool,
    },
    /// It contains the objects of a cache host.
    Objects,
}

impl Use {
    /// Returns the environment variable that selects another directory.
    fn variable(self) -> &'static str {
        match self {
            Self::State { .. } => "BTY_PATHS_STATE_DIR",
            Self::Objects => "BTY_CACHE_DIR",
        }
    }
}

/// Checks `dir`, creates it if it does not exist, and locks it. Logs a warning if it is usable but
/// unsafe.
///
/// # Errors
/// - [`ErrorKind::Conflict`] if it is on a network file system, cannot be written, has too little
///   free space, or is used by another process. The message says how to fix it.
/// - [`ErrorKind::Internal`] if its file system cannot be examined.
pub fn claim(dir: &Path, purpose: Use) -> Result<StateLock> {
    let refuse = |why: String| Err(Error::new(ErrorKind::Conflict, why));
    // the nearest existing ancestor, because the directory may not exist yet
    let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    if let Use::State { may_be_remote } = purpose {
        let place = Place::of(existing)
            .map_err(|e| Error::internal(format!("examining {}: {e}", existing.display())))?;
        match (place, may_be_remote) {
            (Place::Remote(name), false) => return refuse(remote(dir, &name)),
            (Place::Remote(name) | Place::Unknown(name), _) => tracing::warn!(
                "the state in {} is on {name}: only one host may use it, and its file locks must \
                 work",
                dir.display()
            ),
            (Place::Local, _) => {}
        }
    }
    if let Some(why) = lack_of_space(existing, dir, purpose)? {
        return refuse(why);
    }
    if let Err(e) = writable(dir) {
        return refuse(unwritable(dir, purpose, &e));
    }
    StateLock::take(dir)
}

fn remote(dir: &Path, name: &str) -> String {
    let dir = dir.display();
    format!(
        "the state directory {dir} is on {name}, a network file system, where a database is not \
         safe; set BTY_PATHS_STATE_DIR to a directory on a local disk, or set \
         BTY_PATHS_REMOTE_STATE=1 if no other host uses it and its locks work"
    )
}

/// Returns the free space for unprivileged processes in the file system of `dir`, in bytes; `None`
/// if it cannot be determined.
pub(crate) fn free_bytes(dir: &Path) -> Option<u64> {
    rustix::fs::statvfs(dir).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Returns why there is not enough space to change the state in `dir`; `None` if there is enough,
/// or if it cannot be determined.
#[must_use]
pub fn shortage(dir: &Path) -> Option<String> {
    let free = free_bytes(dir)?;
    let (free, min) = (free < FREE_BYTES_MIN)
        .then(|| (bty::size::human(free), bty::size::human(FREE_BYTES_MIN)))?;
    let dir = dir.display();
    Some(format!(
        "{dir} has only {free} of free space, and needs at least {min}; delete something there, \
         such as old backups"
    ))
}

/// Returns why `dir` has too little space or is read-only; `None` if it is usable. `existing` is
/// its nearest existing ancestor.
fn lack_of_space(existing: &Path, dir: &Path, purpose: Use) -> Result<Option<String>> {
    let stat = rustix::fs::statvfs(existing).map_err(std::io::Error::from)?;
    let (shown, variable) = (dir.display(), purpose.variable());
    if stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(Some(format!(
            "{shown} is on a read-only file system; remount it for writing, or set {variable} to \
             another directory"
        )));
    }
    // a cache evicts objects when space runs short
    if purpose == Use::Objects {
        return Ok(None);
    }
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let human = bty::size::human;
    if free < FREE_BYTES_MIN {
        let (free, min) = (human(free), human(FREE_BYTES_MIN));
        return Ok(Some(format!(
            "{shown} has only {free} of free space, and needs at least {min}; delete something \
             there, such as old backups, or set {variable} to another directory"
        )));
    }
    // a file system without a fixed number of inodes reports 0
    if stat.f_files > 0 && stat.f_favail == 0 {
        return Ok(Some(format!(
            "{shown} is on a file system without free inodes; delete some files"
        )));
    }
    if free < FREE_BYTES_LOW {
        tracing::warn!("{shown} has only {} of free space", human(free));
    }
    Ok(None)
}

/// Creates the directory, and checks that its files can be opened for writing.
fn writable(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for name in FILES {
        // create only the lock file; the database creates the others
        match OpenOptions::new()
            .write(true)
            .create(name == LOCK)
            .truncate(false)
            .open(dir.join(name))
        {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn unwritable(dir: &Path, purpose: Use, e: &std::io::Error) -> String {
    let (shown, variable) = (dir.display(), purpose.variable());
    let uid = rustix::process::geteuid().as_raw();
    match e.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ACCESS | Errno::PERM) => format!(
            "{shown} cannot be written by user {uid}; change its owner (chown -R {uid} {shown}), \
             or set {variable} to another directory"
        ),
        _ => format!("{shown} cannot be used: {e}; set {variable} to another directory"),
    }
}

/// The location of a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// On this host.
    Local,
    /// On another host; contains the name of its type.
    Remote(String),
    /// Implemented by a program, which may store its files anywhere; contains the name of its type.
    Unknown(String),
}

/// Magic number of FUSE, and of virtiofs, which uses the FUSE protocol. Only the name of the type
/// identifies the implementation.
const FUSE: u32 = 0x6573_5546;

/// `statfs` magic numbers of network file systems, and of cluster file systems, which several hosts
/// may have mounted.
const REMOTE: [(u32, &str); 14] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB"),
    (0x0102_1997, "9p"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x6B41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x564C, "NCP"),
    (0x0BD0_0BD0, "Lustre"),
    (0x7461_636F, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (0x1983_0326, "BeeGFS"),
];

/// Substrings of FUSE types that store their files on other hosts.
const REMOTE_PROGRAMS: [&str; 14] = [
    "sshfs",
    "gluster",
    "s3fs",
    "goofys",
    "rclone",
    "ceph",
    "davfs",
    "juicefs",
    "gcsfuse",
    "curlftpfs",
    "smb",
    "nfs",
    "hdfs",
    "seaweedfs",
];

impl Place {
    fn of(dir: &Path) -> std::io::Result<Self> {
        let magic = rustix::fs::statfs(dir)?.f_type as u32;
        let device = dir.metadata()?.dev();
        let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Ok(Self::classify(magic, || fs_type(&mounts(), major(device), minor(device))))
    }

    /// `fs_type` returns the name of the type, such as `fuse.sshfs`. It is called only for FUSE.
    fn classify(magic: u32, fs_type: impl FnOnce() -> Option<String>) -> Self {
        if let Some((_, name)) = REMOTE.iter().find(|(known, _)| *known == magic) {
            return Self::Remote((*name).to_owned());
        }
        if magic != FUSE {
            return Self::Local;
        }
        let fs_type = fs_type().unwrap_or_else(|| "fuse".to_owned());
        match fs_type.as_str() {
            // a block device of this host, such as one with NTFS
            "fuseblk" => Self::Local,
            name if REMOTE_PROGRAMS.iter().any(|program| name.contains(program)) => {
                Self::Remote(fs_type)
            }
            _ => Self::Unknown(fs_type),
        }
    }
}

/// Returns the type of the file system with this device number, from the text of
/// `/proc/self/mountinfo`.
fn fs_type(mounts: &str, major: u32, minor: u32) -> Option<String> {
    let device = format!("{major}:{minor}");
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&device))?;
    let (_, rest) = line.split_once(" - ")?;
    rest.split(' ').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime - ext4 /dev/root rw
90 22 0:41 / /srv/a rw,nosuid shared:3 - fuse.sshfs host:/srv rw
91 22 0:42 / /srv/b rw - fuse.bindfs /x rw
92 22 0:43 / /srv/c rw - virtiofs share rw
";

    fn place(magic: u32, kind_of: Option<&str>) -> Place {
        Place::classify(magic, || kind_of.map(str::to_owned))
    }

    #[test]
    fn network_file_systems_are_recognized() {
        // ext4, xfs, btrfs, tmpfs, overlayfs, f2fs, zfs
        for local in
            [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x794C_7630, 0xF2F5_2010, 0x2FC1_2FC1]
        {
            assert_eq!(place(local, None), Place::Local, "{local:x}");
        }
        for (magic, name) in REMOTE {
            assert_eq!(place(magic, None), Place::Remote(name.into()));
        }
        assert_eq!(place(FUSE, Some("fuse.sshfs")), Place::Remote("fuse.sshfs".into()));
        assert_eq!(place(FUSE, Some("fuse.glusterfs")), Place::Remote("fuse.glusterfs".into()));
        assert_eq!(place(FUSE, Some("virtiofs")), Place::Unknown("virtiofs".into()));
        assert_eq!(place(FUSE, Some("fuseblk")), Place::Local);
        assert_eq!(place(FUSE, None), Place::Unknown("fuse".into()));
    }

    #[test]
    fn the_type_of_a_mount_is_found_by_its_device_number() {
        assert_eq!(fs_type(MOUNTS, 0, 41).as_deref(), Some("fuse.sshfs"));
        assert_eq!(fs_type(MOUNTS, 0, 43).as_deref(), Some("virtiofs"));
        assert_eq!(fs_type(MOUNTS, 254, 0).as_deref(), Some("ext4"));
        assert_eq!(fs_type(MOUNTS, 0, 4), None);
    }
}
