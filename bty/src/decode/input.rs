//! The compressed bytes, buffered, with their offset.

use std::io::{self, BufRead, Read};

use super::{Compression, Trailer};

/// Large enough that a wire is asked rarely, small enough to stay in a core's cache.
const BUFFER_BYTES: usize = 256 << 10;

/// Buffers a reader, counts what was consumed, and looks ahead.
pub(super) struct CompressedInput {
    inner: Box<dyn Read + Send>,
    buf: Box<[u8]>,
    start: usize,
    end: usize,
    offset: u64,
    has_ended: bool,
    trailer: Trailer,
}

impl CompressedInput {
    pub(super) fn new(inner: Box<dyn Read + Send>, trailer: &Trailer) -> Self {
        let buf = vec![0; BUFFER_BYTES].into_boxed_slice();
        Self { inner, buf, start: 0, end: 0, offset: 0, has_ended: false, trailer: trailer.clone() }
    }

    /// How many bytes were consumed.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes: at least `count` (at most the buffer's size), fewer only at the end.
    pub(super) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        debug_assert!(count <= self.buf.len());
        if self.start == self.end {
            // so that the next read is a large one
            self.start = 0;
            self.end = 0;
        }
        if self.buf.len() - self.start < count {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < count && !self.has_ended {
            self.refill()?;
        }
        Ok(&self.buf[self.start..self.end])
    }

    /// The last bytes that were consumed, as far as they are still in the buffer.
    pub(super) fn look_back(&self, count: usize) -> &[u8] {
        &self.buf[self.start.saturating_sub(count)..self.start]
    }

    /// True at the end.
    pub(super) fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.peek(1)?.is_empty())
    }

    /// Drops `count` bytes; false when the end came first.
    pub(super) fn skip(&mut self, mut count: u64) -> io::Result<bool> {
        while count > 0 {
            let there = self.peek(1)?.len();
            if there == 0 {
                return Ok(false);
            }
            let n = usize::try_from(count).map_or(there, |count| count.min(there));
            self.consume(n);
            count -= n as u64;
        }
        Ok(true)
    }

    /// Moves `count` bytes to the end of `to`; false when the end came first. Memory grows with
    /// what is there, not with `count`.
    pub(super) fn take_into(&mut self, to: &mut Vec<u8>, mut count: usize) -> io::Result<bool> {
        while count > 0 {
            let there = self.peek(1)?;
            if there.is_empty() {
                return Ok(false);
            }
            let n = count.min(there.len());
            to.extend_from_slice(&there[..n]);
            self.consume(n);
            count -= n;
        }
        Ok(true)
    }

    /// Takes what lies behind the data, all of it; fails unless that may be left out.
    pub(super) fn take_trailer(&mut self, format: Compression) -> io::Result<()> {
        let offset = self.offset;
        self.trailer.clone().take(self, format, offset)
    }

    /// Reads once, behind what is there.
    fn refill(&mut self) -> io::Result<()> {
        loop {
            match self.inner.read(&mut self.buf[self.end..]) {
                Ok(0) => self.has_ended = true,
                Ok(n) => self.end += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            return Ok(());
        }
    }
}

impl BufRead for CompressedInput {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.peek(1)
    }

    fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.start);
        self.start += count;
        self.offset += count as u64;
    }
}

impl Read for CompressedInput {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let n = there.len().min(buf.len());
        buf[..n].copy_from_slice(&there[..n]);
        self.consume(n);
        Ok(n)
    }
}
