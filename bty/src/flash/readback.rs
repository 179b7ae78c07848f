//! Reads a target back, in pieces that fit a buffer.

use crate::Result;
use crate::extent::{BUFFER_BYTES, Buffer, Pool, is_zero};
use crate::flash::Found;
use crate::flash::device_io::{DeviceIo, index};
use crate::size::{align_down, align_up};

/// Threads that read a target back: while some wait for the disk, others compare.
pub(super) const READERS: usize = 4;

/// The largest logical sector of disks, in bytes: buffers have room for one at either end.
const SECTOR_MAX: usize = 4096;

/// Cuts a range into pieces that fit a buffer even when both ends are unaligned. Pieces are whole
/// grains of `grain_bytes`, except the last one.
pub(super) fn pieces(
    mut offset: u64,
    mut len: u64,
    grain_bytes: usize,
) -> impl Iterator<Item = (u64, usize)> {
    let piece = ((BUFFER_BYTES - SECTOR_MAX) / grain_bytes * grain_bytes) as u64;
    std::iter::from_fn(move || {
        let part = len.min(piece);
        let piece = (part > 0).then_some((offset, index(part)));
        offset += part;
        len -= part;
        piece
    })
}

/// Reads `len` bytes, at most a [piece](pieces), from any offset. The result lies in `buffer`.
pub(super) fn read_piece<'b>(
    io: &DeviceIo,
    offset: u64,
    len: usize,
    buffer: &'b mut Buffer,
) -> Result<&'b [u8]> {
    let from = align_down(offset, io.sector());
    let until = align_up(offset + len as u64, io.sector());
    io.read(from, &mut buffer[..index(until - from)])?;
    let skip = index(offset - from);
    Ok(&buffer[skip..skip + len])
}

/// Tells zeros from other content at `offset`, where a difference was found.
pub(super) fn found_at(io: &DeviceIo, offset: u64) -> Found {
    let left = io.size_bytes().saturating_sub(offset);
    let is_all_zero = Pool::new(1).take(&io.cancel).ok().and_then(|mut buffer| {
        let found = read_piece(io, offset, index(left.min(512)), &mut buffer).ok()?;
        Some(is_zero(found))
    });
    if is_all_zero == Some(true) { Found::Zeros } else { Found::Other }
}
