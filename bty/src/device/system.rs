//! Block devices and regular files as targets: exclusive, direct, and read back from the medium.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{
    Advice, FallocateFlags, FlockOperation, OFlags, fadvise, fallocate, fcntl_lock, fdatasync,
    flock,
};
use rustix::io::Errno;

use crate::device::{Device, ioctl, nvme};
use crate::size::align_down;
use crate::{Error, ErrorKind, Remedy, Result};

/// Alignment of direct I/O on a regular file, in bytes: enough for every file system.
const FILE_BLOCK: u64 = 4096;
/// Logical sector size of a regular file in bytes: virtual machines use it by default.
pub(crate) const FILE_SECTOR: u32 = 512;
/// Maximum number of dirty bytes in the page cache before a flush, without direct I/O.
const CACHED_BYTES_MAX: u64 = 64 << 20;
/// After a write, other programs (udev, desktop services) open the disk for a moment, during which
/// the kernel does not re-read the partition table.
const REREAD_ATTEMPTS: u32 = 10;
const REREAD_PAUSE: Duration = Duration::from_millis(100);
/// To find hidden users, every listing of disks claims each idle disk for some microseconds. A disk
/// counts as busy only if it still is after these attempts.
const CLAIM_ATTEMPTS: u32 = 5;
const CLAIM_PAUSE: Duration = Duration::from_millis(4);

/// Access to an opened target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessMode {
    /// Reading and writing, with no other user.
    Exclusive,
    /// Reading, even while it is in use.
    ReadOnly,
}

/// An open block device or regular file.
#[derive(Debug)]
pub(crate) struct SystemDevice {
    /// Opened with `O_DIRECT` if `is_direct`.
    file: File,
    size_bytes: u64,
    sector_bytes: u32,
    is_direct: bool,
    /// For a regular file: a second descriptor, for what does not fill whole blocks of direct I/O.
    cached: Option<Cached>,
    /// `fallocate` flags that make it zero a range by itself.
    zeroing: FallocateFlags,
    /// The device has reported that it cannot zero a range.
    lacks_zeroing: AtomicBool,
}

/// Zeroes a range and deallocates it: quick on flash memory, and the kernel never falls back to
/// writing zeros itself.
const DEALLOCATE: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

/// Zeroes a range and keeps it allocated. For loop devices: punching holes into the backing file
/// takes ten times as long, blocks concurrent writes, and frees space that its owner has reserved.
const KEEP_ALLOCATED: FallocateFlags = FallocateFlags::ZERO_RANGE.union(FallocateFlags::KEEP_SIZE);

/// Major device number of loop devices.
const LOOP_MAJOR: u32 = 7;

/// A regular file, opened without `O_DIRECT`.
#[derive(Debug)]
struct Cached {
    file: File,
    dirty_bytes: AtomicU64,
}

impl SystemDevice {
    /// Opens the block device or regular file at `path`.
    ///
    /// # Errors
    /// - [`ErrorKind::Refused`]: it is in use, write-protected, or neither a disk nor a file.
    /// - [`ErrorKind::Target`]: it cannot be opened.
    pub(crate) fn open(path: &Path, access: AccessMode) -> Result<Self> {
        let file = open(path, access, OFlags::DIRECT);
        match file {
            Ok(file) if is_block(&file) => Self::block(file, path, access),
            Ok(file) => Self::regular(file, path, access, true),
            // tmpfs on older kernels and some network file systems have no direct I/O
            Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Self::regular(
                open(path, access, OFlags::empty()).map_err(|e| refused(path, e))?,
                path,
                access,
                false,
            ),
            Err(e) => Err(refused(path, e)),
        }
    }

    fn block(file: File, path: &Path, access: AccessMode) -> Result<Self> {
        let failed = |e: Errno| target_error("reading the size of", path, e.into());
        let size_bytes = ioctl::size_bytes(&file).map_err(failed)?;
        let sector_bytes = rustix::fs::ioctl_blksszget(&file).map_err(failed)?;
        if access == AccessMode::Exclusive && ioctl::is_read_only(&file).map_err(failed)? {
            return Err(refused(path, Errno::ROFS.into()));
        }
        let node = rustix::fs::fstat(&file).map_err(failed)?.st_rdev;
        let zeroing =
            if rustix::fs::major(node) == LOOP_MAJOR { KEEP_ALLOCATED } else { DEALLOCATE };
        Ok(Self {
            file,
            size_bytes,
            sector_bytes,
            is_direct: true,
            cached: None,
            zeroing,
            lacks_zeroing: AtomicBool::new(false),
        })
    }

    fn regular(file: File, path: &Path, access: AccessMode, is_direct: bool) -> Result<Self> {
        let meta = file.metadata().map_err(|e| target_error("reading the size of", path, e))?;
        if !meta.is_file() {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{} is neither a disk nor a file", path.display()),
            )
            .with_path(path.display())
            .hint("name a disk or a regular file")
            .with_remedy(Remedy::ListDisks));
        }
        if access == AccessMode::Exclusive {
            lock(&file).map_err(|e| match e {
                Errno::AGAIN | Errno::ACCESS => in_use(path, "by another process").hint(
                    "stop what uses it, such as a virtual machine or another flash, then try again",
                ),
                e => target_error("locking", path, e.into()),
            })?;
        }
        let cached =
            open(path, access, OFlags::empty()).map_err(|e| target_error("opening", path, e))?;
        if access == AccessMode::Exclusive {
            mark_as_disk(&file);
        }
        Ok(Self {
            file,
            size_bytes: file_bytes(meta.len()),
            sector_bytes: FILE_SECTOR,
            is_direct,
            cached: Some(Cached { file: cached, dirty_bytes: AtomicU64::new(0) }),
            zeroing: DEALLOCATE,
            lacks_zeroing: AtomicBool::new(false),
        })
    }

    /// The number that the kernel gave to the open disk when it appeared; older kernels have none.
    pub(crate) fn diskseq(&self) -> Option<u64> {
        ioctl::diskseq(&self.file).ok()
    }

    /// The number of bytes, of `len` at `offset`, that can be transferred at once, and the
    /// descriptor for it: the [`Cached`] one, or the direct one if `None`.
    fn next_transfer(&self, offset: u64, len: usize) -> (usize, Option<&Cached>) {
        let Some(cached) = &self.cached else { return (len, None) };
        let into_block = offset % FILE_BLOCK;
        if !self.is_direct {
            (len, Some(cached))
        } else if into_block != 0 {
            (len.min((FILE_BLOCK - into_block) as usize), Some(cached))
        } else if len as u64 >= FILE_BLOCK {
            (align_down(len as u64, FILE_BLOCK) as usize, None)
        } else {
            (len, Some(cached))
        }
    }
}

impl Device for SystemDevice {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        // without this check, a regular file would grow
        let room = self.size_bytes.saturating_sub(offset);
        if bytes.len() as u64 > room {
            return Err(Errno::NOSPC.into());
        }
        match self.next_transfer(offset, bytes.len()) {
            (len, None) => self.file.write_at(&bytes[..len], offset),
            (len, Some(cached)) => cached.write_at(&bytes[..len], offset),
        }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.next_transfer(offset, bytes.len()) {
            (len, None) => self.file.read_at(&mut bytes[..len], offset),
            (len, Some(cached)) => cached.read_at(&mut bytes[..len], offset),
        }
    }

    fn zero_at(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.lacks_zeroing.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if len == 0 {
            return Ok(());
        }
        match fallocate(&self.file, self.zeroing, offset, len) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.lacks_zeroing.store(true, Ordering::Relaxed);
                Err(io::ErrorKind::Unsupported.into())
            }
            Err(e) => Err(e.into()),
        }
    }

    fn flush(&self) -> io::Result<()> {
        if let Some(cached) = &self.cached {
            cached.flush()?;
        }
        Ok(fdatasync(&self.file)?)
    }

    fn format(&self) -> io::Result<()> {
        match self.cached {
            None => nvme::format(&self.file),
            Some(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn reread_table(&self) -> io::Result<()> {
        if self.cached.is_some() {
            return Ok(());
        }
        let mut attempt = 1;
        loop {
            match ioctl::reread_table(&self.file) {
                Err(Errno::BUSY) if attempt < REREAD_ATTEMPTS => std::thread::sleep(REREAD_PAUSE),
                result => return Ok(result?),
            }
            attempt += 1;
        }
    }
}

impl Cached {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let n = self.file.write_at(bytes, offset)?;
        ioctl::start_writeback(&self.file, offset, n as u64);
        let dirty = self.dirty_bytes.fetch_add(n as u64, Ordering::Relaxed) + n as u64;
        if dirty >= CACHED_BYTES_MAX {
            self.flush()?;
        }
        Ok(n)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        // only clean pages can be dropped from the cache
        if self.dirty_bytes.load(Ordering::Relaxed) != 0 {
            self.flush()?;
        }
        let start = align_down(offset, FILE_BLOCK);
        let len = std::num::NonZeroU64::new(offset - start + bytes.len() as u64 + FILE_BLOCK);
        fadvise(&self.file, start, len, Advice::DontNeed)?;
        self.file.read_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.dirty_bytes.store(0, Ordering::Relaxed);
        Ok(fdatasync(&self.file)?)
    }
}

/// The size of the disk that a file of `len` bytes represents: whole sectors. An incomplete sector
/// at the end is never touched.
pub(crate) fn file_bytes(len: u64) -> u64 {
    align_down(len, u64::from(FILE_SECTOR))
}

/// Extended attribute of a file that bty has created or written as a disk.
const DISK_MARK: &str = "user.bty.disk";

/// Marks a file as a disk that bty wrote, so that the next flash may overwrite it without
/// `overwrite`. File systems without extended attributes lose the mark.
pub(crate) fn mark_as_disk(file: impl AsFd) {
    let _ = rustix::fs::fsetxattr(file, DISK_MARK, b"1", rustix::fs::XattrFlags::empty());
}

/// True when the file was [marked](mark_as_disk).
pub(crate) fn is_marked_as_disk(file: impl AsFd) -> bool {
    let mut value = [0_u8; 8];
    rustix::fs::fgetxattr(file, DISK_MARK, &mut value[..]).is_ok()
}

fn open(path: &Path, access: AccessMode, flags: OFlags) -> io::Result<File> {
    // O_EXCL without O_CREAT on a block device: fail when it or a partition of it is mounted or
    // claimed. On a regular file it has no effect; the locks do that.
    let exclusive = if access == AccessMode::Exclusive { OFlags::EXCL } else { OFlags::empty() };
    let flags = (flags | exclusive).bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(access == AccessMode::Exclusive).custom_flags(flags);
    open_unless_busy(|| options.open(path))
}

/// Calls `open` again while the device is busy, for some milliseconds.
pub(crate) fn open_unless_busy(open: impl Fn() -> io::Result<File>) -> io::Result<File> {
    for _ in 1..CLAIM_ATTEMPTS {
        match open() {
            Err(error) if is_busy(&error) => std::thread::sleep(CLAIM_PAUSE),
            result => return result,
        }
    }
    open()
}

/// True when the kernel refused to open a device because something has claimed it.
pub(crate) fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::BUSY.raw_os_error())
}

fn is_block(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| meta.file_type().is_block_device())
}

/// Locks a file against other flashes (flock) and against virtual machines (record locks, which
/// QEMU uses).
fn lock(file: impl AsFd) -> rustix::io::Result<()> {
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        // without record locks in the file system, no virtual machine can hold one
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        result => result,
    }
}

fn in_use(path: &Path, by: &str) -> Error {
    Error::new(ErrorKind::Refused, format!("{} is in use {by}", path.display()))
        .with_path(path.display())
}

/// The error of a failed open: [`ErrorKind::Refused`] when the target is busy or write-protected,
/// otherwise [`ErrorKind::Target`].
fn refused(path: &Path, error: io::Error) -> Error {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::BUSY) => in_use(path, "by the kernel")
            .hint("unmount or stop what is built on it, then try again"),
        Some(Errno::ROFS) => {
            Error::new(ErrorKind::Refused, format!("{} is read-only", path.display()))
                .with_path(path.display())
                .hint("remove its write protection (a switch on the card, or blockdev --setrw)")
        }
        Some(Errno::ACCESS | Errno::PERM) => {
            target_error("opening", path, error).hint("run this as root")
        }
        Some(Errno::NOMEDIUM | Errno::NXIO) => {
            target_error("opening", path, error).hint("insert the medium")
        }
        _ => target_error("opening", path, error),
    }
}

fn target_error(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::from_io(ErrorKind::Target, format!("{doing} {}", path.display()), error)
        .with_path(path.display())
}

#[cfg(test)]
pub(crate) mod tests;
