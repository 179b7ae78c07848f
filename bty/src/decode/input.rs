//! The buffered input of decoders.

use std::io::{self, BufRead, Read};

use super::{Compression, Trailer};

/// Large enough for few reads of the source, small enough for the cache of a core.
const BUFFER_BYTES: usize = 256 << 10;

/// Buffers a reader, counts the consumed bytes, and allows looking ahead.
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

    /// Number of bytes consumed.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes without consuming them: at least `count`, which the buffer must hold; fewer
    /// only at the end.
    pub(super) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        debug_assert!(count <= self.buf.len());
        if self.start == self.end {
            // start over, for a large next read
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

    pub(super) fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.peek(1)?.is_empty())
    }

    /// Skips `count` bytes; false when the input ends before.
    pub(super) fn skip(&mut self, mut count: u64) -> io::Result<bool> {
        while count > 0 {
            let available = self.peek(1)?.len();
            if available == 0 {
                return Ok(false);
            }
            let n = usize::try_from(count).map_or(available, |count| count.min(available));
            self.consume(n);
            count -= n as u64;
        }
        Ok(true)
    }

    /// Appends the next `count` bytes to `to`; false when the input ends before. Memory grows with
    /// the bytes that exist, not with `count`, which may be a hostile claim.
    pub(super) fn take_into(&mut self, to: &mut Vec<u8>, mut count: usize) -> io::Result<bool> {
        while count > 0 {
            let available = self.peek(1)?;
            if available.is_empty() {
                return Ok(false);
            }
            let n = count.min(available.len());
            to.extend_from_slice(&available[..n]);
            self.consume(n);
            count -= n;
        }
        Ok(true)
    }

    /// Reads everything after the data as a trailer; fails unless [`Trailer`] allows it.
    pub(super) fn take_trailer(&mut self, format: Compression) -> io::Result<()> {
        let offset = self.offset;
        self.trailer.clone().take(self, format, offset)
    }

    /// Reads once into the free end of the buffer.
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
        let available = self.fill_buf()?;
        let n = available.len().min(buf.len());
        buf[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}
