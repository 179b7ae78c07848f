//! An open target: reads and writes of whole sectors, zeroing, flush.
//!
//! The real implementation is a block device or a regular file, opened exclusively and with direct
//! I/O. A [`DiskHost`](crate::DiskHost) opens it. Programs whose disks are not those of this machine
//! implement both: `examples/own_host.rs` does so, and `bty::testing` has disks in memory.

use std::io;

pub(crate) mod ioctl;
mod nvme;
pub(crate) mod system;

/// An open target. All offsets and lengths are in bytes.
///
/// Callers guarantee that offsets and lengths are multiples of
/// [`sector_bytes`](Self::sector_bytes), and that buffers are aligned to 4096 bytes in memory.
/// Several threads may access different ranges at the same time, but never overlapping ones.
pub trait Device: Send + Sync {
    /// Size of the target, a multiple of the sector size.
    fn size_bytes(&self) -> u64;

    /// Size of a logical sector, the smallest unit of a write: 512 or 4096.
    fn sector_bytes(&self) -> u32;

    /// Writes bytes from the start of `bytes` to `offset`, and returns their number. They may
    /// remain in a volatile cache of the device until [`flush`](Self::flush) returns.
    ///
    /// # Errors
    /// The error of the operating system. Writing beyond the end of the target must fail: a file
    /// must not grow.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Reads from `offset` into the start of `bytes`, and returns the number of bytes. They come
    /// from the medium, not from the page cache, because reading back is what proves a write.
    ///
    /// # Errors
    /// The error of the operating system.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes `len` bytes from `offset` read as zero, by a device command that transfers no data.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] when the device has no such command; the caller then writes
    /// zeros. Otherwise the error of the operating system.
    fn zero_at(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Returns once everything written so far would survive a power cut.
    ///
    /// # Errors
    /// The error of the operating system. Everything written since the last successful flush may be
    /// lost.
    fn flush(&self) -> io::Result<()>;

    /// Has the device erase all its user data by a command of its own, and returns when that is
    /// done. What can be read afterwards is undefined.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] when the device has no such command, which is the default, or
    /// when it would erase more than this target. Otherwise the error of the operating system, or
    /// of the device.
    fn format(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes the kernel re-read the partition table.
    ///
    /// # Errors
    /// The error of the operating system. The data is not affected, so callers only warn.
    fn reread_table(&self) -> io::Result<()> {
        Ok(())
    }
}
