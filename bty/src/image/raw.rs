//! Reads uncompressed images, directly into the buffers that are written. Skips the holes of a
//! local file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::sync::atomic::Ordering;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::digest::Checksums;
use crate::extent::{BUFFER_BYTES, Block, Extent, ExtentReader, ReadDigests, split_zeros};
use crate::image::digester::{DigestNeed, Digester};
use crate::read_context::ReadContext;
use crate::source::read_ahead::read_full;
use crate::{Error, ErrorKind, Result, Source};

/// The extents of an uncompressed source.
pub(crate) struct RawExtents {
    source: Source,
    context: ReadContext,
    input: Input,
    position: u64,
    queue: VecDeque<Extent>,
    digester: Option<Digester>,
    digests: Checksums,
}

enum Input {
    /// One stream from the start.
    Stream(Box<dyn Read + Send>),
    /// A local file, of which only the data is read. `data_until` is the end of the current data.
    Sparse { data_until: u64 },
}

impl RawExtents {
    /// Starts reading. Computing the digest takes a whole core.
    pub(crate) fn start(source: &Source, context: &ReadContext, need: DigestNeed) -> Result<Self> {
        let input = match source.bytes.as_file() {
            Some(_) => Input::Sparse { data_until: 0 },
            None => Input::Stream(source.bytes.stream(0, &context.cancel)?),
        };
        Ok(Self {
            source: source.clone(),
            context: context.clone(),
            input,
            position: 0,
            queue: VecDeque::new(),
            digester: Some(Digester::start(need, &source.expected)?),
            digests: Checksums::default(),
        })
    }

    fn read_stream(&mut self) -> Result<bool> {
        let Input::Stream(stream) = &mut self.input else { return Ok(false) };
        let mut buffer = self.context.pool.take(&self.context.cancel)?;
        let n = read_full(stream, &mut buffer).map_err(|e| {
            Error::from_io(ErrorKind::Source, format!("reading {}", self.source.location()), e)
        })?;
        if n == 0 {
            return Ok(false);
        }
        self.push_data(buffer.freeze(n))?;
        Ok(true)
    }

    fn read_sparse(&mut self) -> Result<bool> {
        let (Some(file), Input::Sparse { data_until }) =
            (self.source.bytes.as_file(), &mut self.input)
        else {
            return Ok(false);
        };
        let len = self.source.len_bytes().unwrap_or(0);
        if self.position >= len {
            return Ok(false);
        }
        if self.position >= *data_until {
            let data_from = next_data(file, self.position, len);
            if data_from > self.position {
                let hole = data_from - self.position;
                return self.push_hole(hole).map(|()| true);
            }
            *data_until = next_hole(file, self.position, len);
        }
        let limit = (*data_until - self.position).min(BUFFER_BYTES as u64);
        let mut buffer = self.context.pool.take(&self.context.cancel)?;
        #[allow(clippy::cast_possible_truncation)] // at most one buffer
        let part = &mut buffer[..limit as usize];
        let n = self.source.bytes.read_at(part, self.position, &self.context.cancel)?;
        if n < part.len() {
            return Err(Error::new(
                ErrorKind::Source,
                format!("{} became shorter while it was read", self.source.location()),
            )
            .at_offset(self.position + n as u64)
            .hint("wait until the file is complete, then start again"));
        }
        self.push_data(buffer.freeze(n))?;
        Ok(true)
    }

    fn push_data(&mut self, block: Block) -> Result<()> {
        self.queue.extend(split_zeros(self.position, &block));
        self.count(block.len() as u64, block.len() as u64);
        self.hash(&Extent::Data { offset: 0, block })
    }

    fn push_hole(&mut self, len: u64) -> Result<()> {
        let hole = Extent::Zero { offset: self.position, len };
        self.hash(&hole)?;
        self.queue.push_back(hole);
        self.count(0, len);
        Ok(())
    }

    fn hash(&mut self, extent: &Extent) -> Result<()> {
        self.digester.as_mut().map_or(Ok(()), |digester| digester.add(extent))
    }

    fn count(&mut self, read: u64, decoded: u64) {
        self.position += decoded;
        self.context.counts.source_bytes.fetch_add(read, Ordering::Relaxed);
        self.context.counts.decoded_bytes.fetch_add(decoded, Ordering::Relaxed);
    }
}

impl ExtentReader for RawExtents {
    fn next(&mut self) -> Result<Option<Extent>> {
        loop {
            if let Some(extent) = self.queue.pop_front() {
                return Ok(Some(extent));
            }
            self.context.cancel.check()?;
            let more = match self.input {
                Input::Stream(_) => self.read_stream()?,
                Input::Sparse { .. } => self.read_sparse()?,
            };
            if !more {
                if let Some(digester) = self.digester.take() {
                    self.digests = digester.finish()?.unwrap_or_default();
                }
                return Ok(None);
            }
        }
    }

    fn digests(&self) -> ReadDigests {
        ReadDigests { wire: self.digests, image: self.digests.sha256 }
    }
}

/// The offset of the next data at or after `from`, or `len` when only a hole is left. On a file
/// system without holes, everything is data.
fn next_data(file: &File, from: u64, len: u64) -> u64 {
    match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(at) => at.min(len),
        Err(Errno::NXIO) => len,
        Err(_) => from,
    }
}

/// The offset of the next hole after `from`, which must be data.
fn next_hole(file: &File, from: u64, len: u64) -> u64 {
    match rustix::fs::seek(file, SeekFrom::Hole(from)) {
        Ok(at) if at > from => at.min(len),
        _ => len,
    }
}
