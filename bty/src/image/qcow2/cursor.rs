//! Forward reading: many pieces of a file, in the order of the file.

use std::io::{ErrorKind as IoErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::map::{Check, changed};
use crate::digest::{Checksums, FileHasher};
use crate::read_context::ReadCounts;
use crate::source::Source;
use crate::{CancelToken, Error, ErrorKind, Result};

/// What lies between two pieces is read up to this many bytes, and skipped beyond.
const GAP_BYTES: u64 = 1 << 20;
/// Two compressed clusters may share a sector, so this many bytes can be had again.
pub(super) const TAIL_BYTES: usize = 512;
const SCRATCH_BYTES: usize = 256 << 10;

/// Reads pieces of a source. Pieces in ascending order cost one stream; a step back, or a large
/// gap, opens a new one.
pub(super) struct Cursor {
    source: Source,
    cancel: CancelToken,
    counts: Option<Arc<ReadCounts>>,
    stream: Option<Box<dyn Read + Send>>,
    position: u64,
    /// What was read last, up to `position`.
    tail: Vec<u8>,
    scratch: Vec<u8>,
    whole: Option<Whole>,
}

/// What is done when every byte passes by.
struct Whole {
    hasher: FileHasher,
    /// Sorted and apart; those before `next` are done.
    checks: Vec<Check>,
    next: usize,
    current: blake3::Hasher,
}

impl Cursor {
    /// Reads no more than needed.
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

    /// Reads every byte once, for the digest; pieces must be in ascending order. `checks` must be
    /// found again.
    pub(super) fn whole(
        source: &Source,
        cancel: &CancelToken,
        counts: Option<Arc<ReadCounts>>,
        checks: Vec<Check>,
    ) -> Self {
        let whole = Whole {
            hasher: FileHasher::new(&source.expected),
            checks,
            next: 0,
            current: blake3::Hasher::new(),
        };
        Self { whole: Some(whole), ..Self::new(source, cancel, counts) }
    }

    /// Fills `buf` from `offset`. All of it must lie within the file.
    pub(super) fn read(&mut self, buf: &mut [u8], offset: u64) -> Result<()> {
        let back = self.position.saturating_sub(offset);
        let mut filled = 0;
        if back > 0 && back <= self.tail.len() as u64 {
            let again = &self.tail[self.tail.len() - back as usize..];
            filled = again.len().min(buf.len());
            buf[..filled].copy_from_slice(&again[..filled]);
        } else {
            self.go_to(offset)?;
        }
        if filled == buf.len() { Ok(()) } else { self.fill(&mut buf[filled..]) }
    }

    /// Ends it; gives the digest when everything was read.
    pub(super) fn finish(mut self, file_bytes: u64) -> Result<Option<Checksums>> {
        if self.whole.is_none() {
            return Ok(None);
        }
        self.go_to(file_bytes)?;
        let stream = self.open()?;
        let mut beyond = [0];
        if read_some(stream, &mut beyond).map_err(|e| self.failed(e))? != 0 {
            return Err(changed(file_bytes));
        }
        Ok(self.whole.map(|whole| whole.hasher.finish()))
    }

    fn go_to(&mut self, offset: u64) -> Result<()> {
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
            let n = read_some(stream, &mut buf[filled..]).map_err(|e| self.failed(e))?;
            if n == 0 {
                return Err(changed(self.position));
            }
            if let Some(whole) = &mut self.whole {
                whole.pass(&buf[filled..filled + n], self.position)?;
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

    fn failed(&self, error: std::io::Error) -> Error {
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

impl Whole {
    /// Takes note of `bytes`, which are at `offset` of the file.
    fn pass(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
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
