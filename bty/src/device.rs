//! An opened target: aligned reads and writes at offsets, zeroing, flush.
//!
//! [`Device`] is what the writer and the verifier see. The real one is a block device or a regular
//! file, opened exclusively and with direct I/O; tests and simulations bring their own. A device
//! does not know what is written to it, and decides nothing.

use std::io;

pub(crate) mod ioctl;
pub(crate) mod system;

/// A target opened for writing. All offsets and lengths are bytes and multiples of
/// [`sector_bytes`](Self::sector_bytes); buffers are aligned to 4096 bytes in memory.
///
/// Methods take `&self` and are called from several threads at once, never for overlapping ranges.
pub trait Device: Send + Sync {
    /// Size in bytes.
    fn size_bytes(&self) -> u64;

    /// Size of a logical sector in bytes, the smallest unit of a write: 512 or 4096.
    fn sector_bytes(&self) -> u32;

    /// Writes from the start of `bytes` at `offset`; may write fewer bytes than given.
    ///
    /// # Errors
    /// Whatever the device reports.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Reads to the start of `bytes` from `offset`, from the medium and not from a cache; may read
    /// fewer.
    ///
    /// # Errors
    /// Whatever the device reports.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes `len` bytes from `offset` read as zero, without sending them where the device can do
    /// so.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] when it has no such command: the caller then writes zeros.
    /// Else whatever the device reports.
    fn zero_at(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Returns once everything written before survives a power cut.
    ///
    /// # Errors
    /// Whatever the device reports. Data written since the last flush must then be taken as lost.
    fn flush(&self) -> io::Result<()>;

    /// Makes the system see the new partition table.
    ///
    /// # Errors
    /// Whatever the system reports. The written data is not affected: callers warn.
    fn reread_table(&self) -> io::Result<()> {
        Ok(())
    }
}
