//! Extents: what an image consists of, and the buffers its data travels in.
//!
//! An image is a sequence of [`Extent`]s: `Data`, which is written, and `Zero`, which is *made* zero on the target.
//! What no extent mentions is zero as well. Data travels in [`Block`]s cut from a bounded [`Pool`], so that memory does
//! not depend on the size of the image, and a slow disk slows the reader down.

use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::{CancelToken, Error, Result};

/// Size of one buffer in bytes, and the most that is written at once.
pub(crate) const BUFFER_BYTES: usize = 4 << 20;

/// Alignment of every buffer in bytes: enough for direct I/O on any disk.
pub(crate) const BUFFER_ALIGN: usize = 4096;

/// Zero runs are looked for at this grain (bytes, aligned): small enough to find them, large enough not to shred the writes.
pub(crate) const ZERO_GRAIN: usize = 64 << 10;

/// A piece of a disk image. Offsets and lengths are bytes.
#[derive(Clone, Debug)]
pub(crate) enum Extent {
    /// These bytes belong at `offset`.
    Data { offset: u64, block: Block },
    /// `len` bytes from `offset` on read as zero.
    Zero { offset: u64, len: u64 },
}

/// Gives the extents of one image, each byte at most once. The order is the same every time.
pub(crate) trait ExtentReader: Send {
    /// The next extent, or `None` once the whole image was read and found sound.
    fn next(&mut self) -> Result<Option<Extent>>;

    /// The SHA-256 of the wire bytes, once all of them were read.
    fn wire_digest(&self) -> Option<crate::Digest> {
        None
    }
}

/// A fixed number of aligned buffers.
pub(crate) struct Pool {
    free: Receiver<Vec<u8>>,
    give_back: Sender<Vec<u8>>,
}

impl Pool {
    /// A pool of `count` buffers of [`BUFFER_BYTES`]. Memory is touched when a buffer is first filled.
    pub(crate) fn new(count: usize) -> Self {
        let (give_back, free) = bounded(count);
        for _ in 0..count {
            // one page more than needed, so that an aligned start can be found without unsafe code
            let raw = vec![0; BUFFER_BYTES + BUFFER_ALIGN];
            give_back.send(raw).expect("the channel holds `count` buffers");
        }
        Self { free, give_back }
    }

    /// Takes a buffer; waits while all are in use.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) when cancelled while waiting.
    pub(crate) fn take(&self, cancel: &CancelToken) -> Result<Buffer> {
        loop {
            match self.free.recv_timeout(Duration::from_millis(100)) {
                Ok(raw) => {
                    let start = raw.as_ptr().align_offset(BUFFER_ALIGN);
                    return Ok(Buffer { raw, start, give_back: self.give_back.clone() });
                }
                Err(RecvTimeoutError::Timeout) => cancel.check()?,
                Err(RecvTimeoutError::Disconnected) => return Err(Error::cancelled()),
            }
        }
    }
}

/// One aligned buffer of [`BUFFER_BYTES`]; goes back to its pool when dropped. Holds old bytes until filled.
pub(crate) struct Buffer {
    raw: Vec<u8>,
    start: usize,
    give_back: Sender<Vec<u8>>,
}

impl Buffer {
    /// Makes the first `len` bytes shareable.
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
    /// The part `range` of this block.
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
    // folding a kilobyte at a time lets the compiler use wide registers, and still ends early
    bytes.chunks(1024).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Cuts the data of `block`, which belongs at `offset`, into data and zero extents along [`ZERO_GRAIN`].
pub(crate) fn split_zeros(offset: u64, block: &Block) -> Vec<Extent> {
    let mut extents = Vec::new();
    let mut start = 0;
    let mut run_is_zero = None;
    let mut at = 0;
    let mut close = |range: Range<usize>, zero: Option<bool>| match zero {
        Some(true) => extents.push(Extent::Zero { offset: offset + range.start as u64, len: range.len() as u64 }),
        Some(false) => extents.push(Extent::Data { offset: offset + range.start as u64, block: block.slice(range) }),
        None => {}
    };
    while at < block.len() {
        let end = block.len().min(at + ZERO_GRAIN);
        let zero = is_zero(&block[at..end]);
        if run_is_zero != Some(zero) {
            close(start..at, run_is_zero);
            start = at;
            run_is_zero = Some(zero);
        }
        at = end;
    }
    close(start..at, run_is_zero);
    extents
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
    fn buffers_are_aligned_and_come_back() {
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

    #[test]
    fn splits_along_the_grain_and_loses_nothing() {
        let mut bytes = vec![0u8; 5 * ZERO_GRAIN + 17];
        bytes[2 * ZERO_GRAIN] = 1;
        bytes[4 * ZERO_GRAIN - 1] = 1;
        let mut seen = Vec::new();
        for extent in split_zeros(1000, &block(&bytes)) {
            match extent {
                Extent::Data { offset, block } => seen.push((offset - 1000, block.len(), true)),
                Extent::Zero { offset, len } => seen.push((offset - 1000, len as usize, false)),
            }
        }
        let grain = ZERO_GRAIN;
        assert_eq!(
            seen,
            [(0, 2 * grain, false), (2 * grain as u64, 2 * grain, true), (4 * grain as u64, grain + 17, false)]
        );
    }

    #[test]
    fn sees_a_single_set_bit_anywhere() {
        let mut bytes = vec![0u8; 3000];
        assert!(is_zero(&bytes) && is_zero(&[]));
        for at in [0, 1, 1023, 1024, 2999] {
            bytes[at] = 0x80;
            assert!(!is_zero(&bytes));
            bytes[at] = 0;
        }
    }
}
