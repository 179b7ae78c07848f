//! Checks of the state directory, before anything is written into it.
//!
//! SQLite in WAL mode shares memory between its connections and relies on the locks of the file
//! system. Neither is safe on network file systems, so a state there is refused, unless an operator
//! declares that no other host uses it.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, major, minor};
use rustix::io::Errno;

use crate::domain::error::{Error, ErrorKind, Result};

/// Minimum of free space; with less, the server refuses to start.
const ROOM_BYTES_MIN: u64 = 8 << 20;

/// Free space below which a warning is logged.
const ROOM_BYTES_FEW: u64 = 128 << 20;

/// Name of the lock file.
const LOCK: &str = "state.lock";

/// Files that a process opens for writing in a state directory.
const FILES: [&str; 4] = [LOCK, "state.db", "state.db-wal", "state.db-shm"];

/// The lock that lets one process at a time change a state. It ends with the process.
pub struct StateLock(#[allow(dead_code)] File);

impl StateLock {
    /// Takes the lock of the state in `dir`, without waiting.
    ///
    /// # Errors
    /// `ErrorKind::Conflict` when another process has it.
    pub fn take(dir: &Path) -> Result<Self> {
        let path = dir.join(LOCK);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        file.try_lock().map(|()| Self(file)).map_err(|e| match e {
            TryLockError::WouldBlock => {
                let dir = dir.display();
                let detail = format!(
                    "a server uses the state in {dir}: end it first, or name another directory"
                );
                Error::new(ErrorKind::Conflict, detail)
            }
            TryLockError::Error(e) => Error::internal(format!("locking {}: {e}", path.display())),
        })
    }
}

/// What a directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// For a database.
    State {
        /// It may be on a network file system.
        may_be_remote: bool,
    },
    /// For the objects of a cache host.
    Objects,
}

impl Use {
    /// The environment variable that sets the directory.
    fn variable(self) -> &'static str {
        match self {
            Self::State { .. } => "BTY_PATHS_STATE_DIR",
            Self::Objects => "BTY_CACHE_DIR",
        }
    }
}

/// Creates `dir` if needed, and takes its lock. Logs what is suspicious but no reason to refuse it.
///
/// # Errors
/// `ErrorKind::Conflict` when the directory cannot be used, with the next step: it is on a network
/// file system, has no space, is not writable, or another process uses it.
pub fn claim(dir: &Path, purpose: Use) -> Result<StateLock> {
    let refuse = |why: String| Err(Error::new(ErrorKind::Conflict, why));
    // the directory may not exist yet: check the nearest one that does
    let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    if let Use::State { may_be_remote } = purpose {
        let place = Place::of(existing)
            .map_err(|e| Error::internal(format!("looking at {}: {e}", existing.display())))?;
        match (place, may_be_remote) {
            (Place::Remote(name), false) => return refuse(remote(dir, &name)),
            (Place::Remote(name) | Place::Unknown(name), _) => tracing::warn!(
                "the state in {} is on {name}: it must not be used by two hosts, and locks have to work",
                dir.display()
            ),
            (Place::Local, _) => {}
        }
    }
    if let Some(why) = room(existing, dir, purpose)? {
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
        "the state in {dir} would be on {name}, a file system of the network, where a database is not safe: name a directory on a local disk with \
         BTY_PATHS_STATE_DIR, or say with BTY_PATHS_REMOTE_STATE=1 that no other host uses it and its locks work"
    )
}

/// Free space in `dir` in bytes; `None` when the file system does not say.
pub(crate) fn free_bytes(dir: &Path) -> Option<u64> {
    rustix::fs::statvfs(dir).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Why `dir` has not enough space for a change; `None` when it has, or the file system does not
/// say.
#[must_use]
pub fn shortage(dir: &Path) -> Option<String> {
    let free = free_bytes(dir)?;
    let (free, min) = (free < ROOM_BYTES_MIN)
        .then(|| (bty::size::human(free), bty::size::human(ROOM_BYTES_MIN)))?;
    let dir = dir.display();
    Some(format!(
        "{dir} has room for {free}, and needs {min} at least: delete something there, such as old backups"
    ))
}

/// Why `existing`, the nearest directory of `dir` that exists, cannot hold it; `None` when it can.
fn room(existing: &Path, dir: &Path, purpose: Use) -> Result<Option<String>> {
    let stat = rustix::fs::statvfs(existing).map_err(std::io::Error::from)?;
    let (path_text, variable) = (dir.display(), purpose.variable());
    if stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(Some(format!(
            "{path_text} is on a file system that can only be read: mount it for writing, or name another directory with {variable}"
        )));
    }
    // a cache host evicts objects when it needs space
    if purpose == Use::Objects {
        return Ok(None);
    }
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let human = bty::size::human;
    if free < ROOM_BYTES_MIN {
        let (free, min) = (human(free), human(ROOM_BYTES_MIN));
        return Ok(Some(format!(
            "{path_text} has room for {free}, and needs {min} at least: delete something there, such as old backups, or name another directory with {variable}"
        )));
    }
    // file systems without a limit of files report zero
    if stat.f_files > 0 && stat.f_favail == 0 {
        return Ok(Some(format!(
            "{path_text} is on a file system that can have no further files: delete some"
        )));
    }
    if free < ROOM_BYTES_FEW {
        tracing::warn!("{path_text} has room for {} only", human(free));
    }
    Ok(None)
}

/// Creates the directory, and checks that its files can be opened for writing.
fn writable(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for name in FILES {
        // only the lock is created here; SQLite creates the others
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
    let (path_text, variable) = (dir.display(), purpose.variable());
    let uid = rustix::process::geteuid().as_raw();
    match e.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ACCESS | Errno::PERM) => format!(
            "{path_text} cannot be written by user {uid}: give it to that user (chown -R {uid} {path_text}), or name another directory with {variable}"
        ),
        _ => format!("{path_text} cannot be used: {e}; name another directory with {variable}"),
    }
}

/// Where the files of a file system are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// On this host.
    Local,
    /// On another host; the name of the file system.
    Remote(String),
    /// Wherever a program has them from; the name of the file system.
    Unknown(String),
}

/// Magic number of FUSE and of virtiofs. Only the type of the mount says which program is behind
/// it.
const FUSE: u32 = 0x6573_5546;

/// Magic numbers of network and cluster file systems, as `statfs` returns them.
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

/// Parts of the names of FUSE programs whose files are on another host.
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
        Ok(Self::classify(magic, || mount_type(&mounts(), major(device), minor(device))))
    }

    /// `mount_type` returns the type of the mount, such as `fuse.sshfs`.
    fn classify(magic: u32, mount_type: impl FnOnce() -> Option<String>) -> Self {
        if let Some((_, name)) = REMOTE.iter().find(|(known, _)| *known == magic) {
            return Self::Remote((*name).to_owned());
        }
        if magic != FUSE {
            return Self::Local;
        }
        let kind = mount_type().unwrap_or_else(|| "fuse".to_owned());
        match kind.as_str() {
            // NTFS and others on a disk of this host
            "fuseblk" => Self::Local,
            name if REMOTE_PROGRAMS.iter().any(|program| name.contains(program)) => {
                Self::Remote(kind)
            }
            _ => Self::Unknown(kind),
        }
    }
}

/// The type of the mount with this device number, in the text of `/proc/self/mountinfo`.
fn mount_type(mounts: &str, major: u32, minor: u32) -> Option<String> {
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
    fn file_systems_of_the_network_are_told_from_local_ones() {
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
    fn the_kind_of_a_mount_is_found_by_its_device() {
        assert_eq!(mount_type(MOUNTS, 0, 41).as_deref(), Some("fuse.sshfs"));
        assert_eq!(mount_type(MOUNTS, 0, 43).as_deref(), Some("virtiofs"));
        assert_eq!(mount_type(MOUNTS, 254, 0).as_deref(), Some("ext4"));
        assert_eq!(mount_type(MOUNTS, 0, 4), None);
    }
}
