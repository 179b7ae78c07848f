//! The block-device commands that have no safe wrapper elsewhere, and nothing more: the only unsafe code of the library.
#![allow(unsafe_code)]

use std::os::fd::AsFd;

use rustix::io::Result;
use rustix::ioctl::{Getter, NoArg, ioctl, opcode};

const BLKROGET: u32 = opcode::none(0x12, 94);
const BLKRRPART: u32 = opcode::none(0x12, 95);
// the kernel's definition says size_t, the kernel writes 64 bits
const BLKGETSIZE64: u32 = opcode::read::<usize>(0x12, 114);
const BLKDISKSEQ: u32 = opcode::read::<u64>(0x12, 128);

/// Size of a block device in bytes.
pub(crate) fn size_bytes(device: impl AsFd) -> Result<u64> {
    // SAFETY: BLKGETSIZE64 writes one u64 through the pointer, on 32-bit kernels too.
    unsafe { ioctl(device, Getter::<BLKGETSIZE64, u64>::new()) }
}

/// True when the kernel refuses to write to the block device.
pub(crate) fn is_read_only(device: impl AsFd) -> Result<bool> {
    // SAFETY: BLKROGET writes one int through the pointer.
    let value = unsafe { ioctl(device, Getter::<BLKROGET, i32>::new()) }?;
    Ok(value != 0)
}

/// The number that the kernel gave the disk when it appeared.
pub(crate) fn diskseq(device: impl AsFd) -> Result<u64> {
    // SAFETY: BLKDISKSEQ writes one u64 through the pointer.
    unsafe { ioctl(device, Getter::<BLKDISKSEQ, u64>::new()) }
}

/// Makes the kernel read the partition table again.
pub(crate) fn reread_table(device: impl AsFd) -> Result<()> {
    // SAFETY: BLKRRPART takes no argument and touches no memory of this process.
    unsafe { ioctl(device, NoArg::<BLKRRPART>::new()) }
}

/// Starts writing the pages of a regular file that were written in a range of bytes, without waiting for them.
pub(crate) fn start_writeback(file: impl AsFd, offset: u64, len: u64) {
    use std::os::fd::AsRawFd;
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
    // SAFETY: takes a live descriptor and plain numbers. The result does not matter: a flush follows, and reports.
    unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
}
