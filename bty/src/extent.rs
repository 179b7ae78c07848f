//! Extents, the pieces of an image, and the buffers that hold their data.
//!
//! An image is a sequence of [`Extent`]s: `Data`, which is written, and `Zero`, which is *made*
//! zero on the target. Ranges without an extent are zero as well. Data is held in [`Block`]s from a
//! bounded [`Pool`]: memory does not depend on the size of the image, and a slow disk slows the
//! reader down.

use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::digest::Checksums;
use crate::size::human;
use crate::{CancelToken, Digest, Error, ErrorKind, Result};

/// Size of one buffer in bytes, and the maximum size of one write.
pub(crate) const BUFFER_BYTES: usize = 2 << 20;

/// Alignment of every buffer in bytes, sufficient for direct I/O on any disk.
pub(crate) const BUFFER_ALIGN: usize = 4096;

/// Granularity of the search for zero runs, in bytes: small enough to find them, large enough not
/// to fragment the writes.
pub(crate) const ZERO_GRAIN: usize = 64 << 10;

/// Minimum length of a zero run, in bytes. Shorter runs are written as data, because one large
/// write is faster than two writes with a zeroing between them.
pub(crate) const ZERO_RUN_MIN: usize = 256 << 10;

/// A piece of a disk image. Offsets and lengths are bytes.
#[derive(Clone, Debug)]
pub(crate) enum Extent {
    /// `block` belongs at `offset`.
    Data { offset: u64, block: Block },
    /// `len` bytes from `offset` on are zero.
    Zero { offset: u64, len: u64 },
}

/// Reads the extents of one image. Covers each byte at most once, in the same order every time.
pub(crate) trait ExtentReader: Send {
    /// The next extent, or `None` after the whole image was read without error.
    fn next(&mut self) -> Result<Option<Extent>>;

    /// The digests that were computed. Complete after [`next`](Self::next) has returned `None`.
    fn digests(&self) -> ReadDigests;
}

/// Digests that were computed while an image was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadDigests {
    /// Digests of the source. Empty unless all its bytes were read in order.
    pub(crate) wire: Checksums,
    /// SHA-256 of the decoded disk image, if one is expected.
    pub(crate) image: Option<Digest>,
}

/// A bounded number of aligned buffers, allocated when first needed. When memory runs out, the pool
/// continues with the buffers that it has, if they are at least [`BUFFERS_MIN`].
pub(crate) struct Pool {
    free: Receiver<Vec<u8>>,
    give_back: Sender<Vec<u8>>,
    counts: Mutex<PoolCounts>,
}

struct PoolCounts {
    allocated: usize,
    max: usize,
}

/// With fewer buffers, readers with several threads might deadlock.
const BUFFERS_MIN: usize = 4;

impl Pool {
    /// A pool of up to `count` buffers of [`BUFFER_BYTES`].
    pub(crate) fn new(count: usize) -> Self {
        let (give_back, free) = bounded(count);
        let counts = Mutex::new(PoolCounts { allocated: 0, max: count });
        Self { free, give_back, counts }
    }

    /// Takes a buffer; waits while all are in use.
    ///
    /// # Errors
    /// - [`ErrorKind::Cancelled`]: cancelled while waiting.
    /// - [`ErrorKind::Host`]: the system has no memory for the first [`BUFFERS_MIN`] buffers.
    pub(crate) fn take(&self, cancel: &CancelToken) -> Result<Buffer> {
        loop {
            let returned = self.free.try_recv().ok();
            if let Some(raw) = returned.map_or_else(|| self.allocate(), |raw| Ok(Some(raw)))? {
                return Ok(self.buffer(raw));
            }
            match self.free.recv_timeout(Duration::from_millis(100)) {
                Ok(raw) => return Ok(self.buffer(raw)),
                Err(RecvTimeoutError::Timeout) => cancel.check()?,
                Err(RecvTimeoutError::Disconnected) => return Err(Error::cancelled()),
            }
        }
    }

    fn buffer(&self, raw: Vec<u8>) -> Buffer {
        let start = raw.as_ptr().align_offset(BUFFER_ALIGN);
        Buffer { raw, start, give_back: self.give_back.clone() }
    }

    /// Allocates another buffer, unless the pool has its maximum.
    fn allocate(&self) -> Result<Option<Vec<u8>>> {
        let mut counts = self.counts.lock().expect("no holder panics");
        if counts.allocated == counts.max {
            return Ok(None);
        }
        // one page more than needed, which allows an aligned start without unsafe code
        match zeroed(BUFFER_BYTES + BUFFER_ALIGN) {
            Ok(raw) => {
                counts.allocated += 1;
                Ok(Some(raw))
            }
            Err(_) if counts.allocated >= BUFFERS_MIN => {
                counts.max = counts.allocated;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// True if the system would grant `bytes` of memory in one piece now. Reserves them only briefly:
/// limits mostly apply to address space, not to used memory.
pub(crate) fn has_memory(bytes: u64) -> bool {
    usize::try_from(bytes).is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok())
}

/// Allocates `len` zero bytes. The kernel provides their pages when they are first written.
///
/// # Errors
/// [`ErrorKind::Host`] when the system refuses the memory.
pub(crate) fn zeroed(len: usize) -> Result<Vec<u8>> {
    // a trial reservation: `vec!` below aborts the process when memory is refused, but gets zeroed
    // pages from the kernel, which a reserved vector does not
    Vec::<u8>::new().try_reserve_exact(len).map_err(|e| {
        Error::new(ErrorKind::Host, format!("allocating {} of memory", human(len as u64)))
            .because(e)
            .hint("allow more memory (ulimit -v, the limit of the container), then try again")
    })?;
    Ok(vec![0; len])
}

/// One aligned buffer of [`BUFFER_BYTES`], which returns to its pool when dropped. Contains old
/// bytes until it is filled.
pub(crate) struct Buffer {
    raw: Vec<u8>,
    start: usize,
    give_back: Sender<Vec<u8>>,
}

impl Buffer {
    /// Turns the first `len` bytes into a shareable block.
    pub(crate) fn freeze(self, len: usize) -> Block {
        debug_assert!(len <= BUFFER_BYTES);
        Block { buffer: Arc::new(self), range: 0..len }
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.raw[self.start..self.start + BUFFER_BYTES]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.raw[self.start..self.start + BUFFER_BYTES]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let _ = self.give_back.try_send(std::mem::take(&mut self.raw));
    }
}

/// A shared, read-only part of a buffer.
#[derive(Clone)]
pub(crate) struct Block {
    buffer: Arc<Buffer>,
    range: Range<usize>,
}

impl Block {
    /// A part of this block. Shares its buffer.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        let start = self.range.start + range.start;
        let end = self.range.start + range.end;
        debug_assert!(range.start <= range.end && end <= self.range.end);
        Self { buffer: Arc::clone(&self.buffer), range: start..end }
    }
}

impl Deref for Block {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({} bytes)", self.len())
    }
}

/// True when every byte is zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // folding 1024 bytes at a time lets the compiler vectorize, and still ends early
    bytes.chunks(1024).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

/// The offset of the first nonzero byte of `bytes`, which belong at `offset`. Bytes in the range
/// `ignored` are skipped.
pub(crate) fn first_data(offset: u64, bytes: &[u8], ignored: Option<&Range<u64>>) -> Option<u64> {
    if is_zero(bytes) {
        return None;
    }
    let offsets = bytes.iter().zip(offset..).filter(|(byte, _)| **byte != 0).map(|(_, at)| at);
    offsets.filter(|at| !ignored.is_some_and(|ignored| ignored.contains(at))).min()
}

/// Splits `block`, which belongs at `offset`, into data and zero extents at multiples of
/// [`ZERO_GRAIN`].
pub(crate) fn split_zeros(offset: u64, block: &Block) -> Vec<Extent> {
    let mut extents = Vec::new();
    let mut data_from = 0;
    let zero_runs = zero_runs(block).filter(|run| run.len() >= ZERO_RUN_MIN.min(block.len()));
    for run in zero_runs {
        if data_from < run.start {
            extents.push(Extent::Data {
                offset: offset + data_from as u64,
                block: block.slice(data_from..run.start),
            });
        }
        extents.push(Extent::Zero { offset: offset + run.start as u64, len: run.len() as u64 });
        data_from = run.end;
    }
    if data_from < block.len() {
        extents.push(Extent::Data {
            offset: offset + data_from as u64,
            block: block.slice(data_from..block.len()),
        });
    }
    extents
}

/// The runs of zero grains in `bytes`, in ascending order.
fn zero_runs(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let is_zero_at = |at: usize| is_zero(&bytes[at..bytes.len().min(at + ZERO_GRAIN)]);
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() && !is_zero_at(at) {
            at += ZERO_GRAIN;
        }
        let start = at;
        while at < bytes.len() && is_zero_at(at) {
            at += ZERO_GRAIN;
        }
        (start < bytes.len()).then(|| start..at.min(bytes.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(bytes: &[u8]) -> Block {
        let mut buffer = Pool::new(1).take(&CancelToken::new()).unwrap();
        buffer[..bytes.len()].copy_from_slice(bytes);
        buffer.freeze(bytes.len())
    }

    #[test]
    fn buffers_are_aligned_and_return_to_the_pool() {
        let pool = Pool::new(1);
        let cancel = CancelToken::new();
        for _ in 0..3 {
            let buffer = pool.take(&cancel).unwrap();
            assert_eq!(buffer.as_ptr() as usize % BUFFER_ALIGN, 0);
            assert_eq!(buffer.len(), BUFFER_BYTES);
        }
        let held = pool.take(&cancel).unwrap().freeze(1);
        cancel.cancel();
        assert!(pool.take(&cancel).is_err_and(|e| e.is_cancelled()));
        drop(held);
    }

    /// Offset, length, and whether it is data, of each piece.
    fn pieces(bytes: &[u8]) -> Vec<(u64, usize, bool)> {
        let tell = |extent| match extent {
            Extent::Data { offset, block } => (offset, block.len(), true),
            Extent::Zero { offset, len } => (offset, len as usize, false),
        };
        split_zeros(1000, &block(bytes)).into_iter().map(tell).collect()
    }

    #[test]
    fn splitting_loses_no_bytes() {
        let run = ZERO_RUN_MIN;
        let mut bytes = vec![0u8; 4 * run + 17];
        bytes[run + 1] = 1;
        bytes[2 * run - 1] = 1;
        let at = |offset: usize| 1000 + offset as u64;
        assert_eq!(
            pieces(&bytes),
            [(at(0), run, false), (at(run), run, true), (at(2 * run), 2 * run + 17, false)]
        );
    }

    #[test]
    fn short_zero_runs_stay_data() {
        let mut bytes = vec![0u8; 2 * ZERO_RUN_MIN];
        bytes[0] = 1;
        bytes[ZERO_RUN_MIN] = 1;
        assert_eq!(pieces(&bytes), [(1000, bytes.len(), true)]);
        assert_eq!(pieces(&[0; 100]), [(1000, 100, false)]);
    }

    #[test]
    fn a_single_set_bit_is_not_zero() {
        let mut bytes = vec![0u8; 3000];
        assert!(is_zero(&bytes) && is_zero(&[]));
        for at in [0, 1, 1023, 1024, 2999] {
            bytes[at] = 0x80;
            assert!(!is_zero(&bytes));
            bytes[at] = 0;
        }
    }
}
