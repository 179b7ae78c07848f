//! Reads many pieces of a file in ascending order.

use std::io::{ErrorKind as IoErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::map::{Check, changed};
use crate::digest::{Checksums, FileHasher};
use crate::read_context::ReadCounts;
use crate::source::Source;
use crate::{CancelToken, Error, ErrorKind, Result};

/// A gap between two pieces is read if it is at most this long, in bytes, and skipped otherwise.
const GAP_BYTES: u64 = 1 << 20;
/// Number of bytes kept for a second read: two compressed clusters may share a sector.
pub(super) const TAIL_BYTES: usize = 512;
const SCRATCH_BYTES: usize = 256 << 10;

/// Reads pieces of a source. Ascending pieces need only one stream; a step back or a large gap
/// opens a new one.
pub(super) struct Cursor {
    source: Source,
    cancel: CancelToken,
    counts: Option<Arc<ReadCounts>>,
    stream: Option<Box<dyn Read + Send>>,
    position: u64,
    /// The last bytes before `position`.
    tail: Vec<u8>,
    scratch: Vec<u8>,
    whole: Option<WholeFile>,
}

/// Processes every byte of a file that is read completely.
struct WholeFile {
    hasher: FileHasher,
    /// Sorted and not overlapping. Those before `next` are done.
    checks: Vec<Check>,
    next: usize,
    current: blake3::Hasher,
}

impl Cursor {
    /// Reads no more than the pieces need.
    pub(super) fn new(
        source: &Source,
        cancel: &CancelToken,
        counts: Option<Arc<ReadCounts>>,
    ) -> Self {
        Self {
            source: source.clone(),
            cancel: cancel.clone(),
            counts,
            stream: None,
            position: 0,
            tail: Vec::new(),
            scratch: Vec::new(),
            whole: None,
        }
    }

    /// Reads every byte once, for the digest. The pieces must be in ascending order, and `checks`
    /// must match what is read.
    pub(super) fn whole(
        source: &Source,
        cancel: &CancelToken,
        counts: Option<Arc<ReadCounts>>,
        checks: Vec<Check>,
    ) -> Self {
        let whole = WholeFile {
            hasher: FileHasher::new(&source.expected),
            checks,
            next: 0,
            current: blake3::Hasher::new(),
        };
        Self { whole: Some(whole), ..Self::new(source, cancel, counts) }
    }

    /// Fills `buf` from `offset`. The range must lie within the file.
    pub(super) fn read(&mut self, buf: &mut [u8], offset: u64) -> Result<()> {
        let back = self.position.saturating_sub(offset);
        let mut filled = 0;
        if back > 0 && back <= self.tail.len() as u64 {
            let again = &self.tail[self.tail.len() - back as usize..];
            filled = again.len().min(buf.len());
            buf[..filled].copy_from_slice(&again[..filled]);
        } else {
            self.seek(offset)?;
        }
        if filled == buf.len() { Ok(()) } else { self.fill(&mut buf[filled..]) }
    }

    /// Reads to the end if the digest is needed, and returns it.
    pub(super) fn finish(mut self, file_bytes: u64) -> Result<Option<Checksums>> {
        if self.whole.is_none() {
            return Ok(None);
        }
        self.seek(file_bytes)?;
        let stream = self.open()?;
        let mut beyond = [0];
        if read_some(stream, &mut beyond).map_err(|e| self.read_error(e))? != 0 {
            return Err(changed(file_bytes));
        }
        Ok(self.whole.map(|whole| whole.hasher.finish()))
    }

    fn seek(&mut self, offset: u64) -> Result<()> {
        if offset < self.position && self.whole.is_some() {
            return Err(Error::new(
                ErrorKind::Format,
                format!("clusters overlap at offset {offset}"),
            )
            .at_offset(offset));
        }
        let gap = offset.checked_sub(self.position);
        let read_through = self.whole.is_some()
            || self.stream.is_some() && gap.is_some_and(|gap| gap <= GAP_BYTES);
        if !read_through {
            self.stream = None;
            self.tail.clear();
            self.position = offset;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        while self.position < offset {
            scratch.resize(SCRATCH_BYTES, 0);
            let len = scratch.len().min((offset - self.position) as usize);
            self.fill(&mut scratch[..len])?;
        }
        self.scratch = scratch;
        Ok(())
    }

    fn open(&mut self) -> Result<&mut (dyn Read + Send)> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.source.bytes.stream(self.position, &self.cancel)?,
        };
        Ok(&mut **self.stream.insert(stream))
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while filled < buf.len() {
            self.cancel.check()?;
            let stream = self.open()?;
            let n = read_some(stream, &mut buf[filled..]).map_err(|e| self.read_error(e))?;
            if n == 0 {
                return Err(changed(self.position));
            }
            if let Some(whole) = &mut self.whole {
                whole.process(&buf[filled..filled + n], self.position)?;
            }
            if let Some(counts) = &self.counts {
                counts.source_bytes.fetch_add(n as u64, Ordering::Relaxed);
            }
            self.position += n as u64;
            filled += n;
        }
        let last = &buf[buf.len().saturating_sub(TAIL_BYTES)..];
        self.tail.drain(..(self.tail.len() + last.len()).saturating_sub(TAIL_BYTES));
        self.tail.extend_from_slice(last);
        Ok(())
    }

    fn read_error(&self, error: std::io::Error) -> Error {
        Error::from_io(ErrorKind::Source, format!("reading {}", self.source.location), error)
            .with_path(&self.source.location)
            .at_offset(self.position)
    }
}

fn read_some(stream: &mut (dyn Read + Send), buf: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.read(buf) {
            Err(e) if e.kind() == IoErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl WholeFile {
    /// Hashes and checks `bytes`, which are at `offset` of the file.
    fn process(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        self.hasher.update(bytes);
        let end = offset + bytes.len() as u64;
        while let Some(check) = self.checks.get(self.next).filter(|check| check.offset < end) {
            let check_end = check.offset + check.len;
            let part = check.offset.max(offset)..check_end.min(end);
            self.current
                .update(&bytes[(part.start - offset) as usize..(part.end - offset) as usize]);
            if check_end > end {
                break;
            }
            if self.current.finalize() != check.hash {
                return Err(changed(check.offset));
            }
            self.current.reset();
            self.next += 1;
        }
        Ok(())
    }
}
