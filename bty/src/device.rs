//! An open target: reads and writes of whole sectors, zeroing, flush.
//!
//! The real [`Device`] is a block device or a regular file, opened exclusively and with direct I/O;
//! tests and simulations bring their own.

use std::io;

pub(crate) mod ioctl;
pub(crate) mod system;

/// An open target. All offsets and lengths are in bytes.
///
/// Callers guarantee that offsets and lengths are multiples of
/// [`sector_bytes`](Self::sector_bytes), that buffers are aligned to 4096 bytes in memory, and that
/// no two threads access overlapping ranges at the same time. Several threads access different
/// ranges at the same time.
pub trait Device: Send + Sync {
    /// Size of the target, whole sectors.
    fn size_bytes(&self) -> u64;

    /// Size of a logical sector, the smallest unit of a write: 512 or 4096.
    fn sector_bytes(&self) -> u32;

    /// Writes the first bytes of `bytes` at `offset`, and returns how many. They may still be in a
    /// volatile cache of the device until [`flush`](Self::flush) returns.
    ///
    /// # Errors
    /// The error of the system. Writing beyond the end of the target is one: a file must not grow.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Reads from `offset` into the start of `bytes`, and returns how many bytes. They come from
    /// the medium, not from the page cache, since reading back is what proves a write.
    ///
    /// # Errors
    /// The error of the system.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes `len` bytes from `offset` on read as zero, by a command of the device that transfers
    /// no data.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] when the device has no such command; the caller then writes
    /// zeros. Any other error is that of the system.
    fn zero_at(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Returns once everything written before survives a power cut.
    ///
    /// # Errors
    /// The error of the system. Everything written since the last successful flush may be lost.
    fn flush(&self) -> io::Result<()>;

    /// Makes the kernel read the partition table again.
    ///
    /// # Errors
    /// The error of the system. The data is not affected, so callers only warn.
    fn reread_table(&self) -> io::Result<()> {
        Ok(())
    }
}
