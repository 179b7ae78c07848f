//! Uncompressed images: read straight into the buffers that are written, holes of a local file left
//! out.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::sync::atomic::Ordering;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::digest::Checksums;
use crate::extent::{BUFFER_BYTES, Block, Extent, ExtentReader, ReadDigests, split_zeros};
use crate::image::digester::{Digester, Need};
use crate::read_context::ReadContext;
use crate::source::read_ahead::read_full;
use crate::{Error, ErrorKind, Result, Source};

/// The extents of an uncompressed source.
pub(crate) struct RawExtents {
    source: Source,
    reading: ReadContext,
    bytes: Bytes,
    position: u64,
    queue: VecDeque<Extent>,
    digester: Option<Digester>,
    found: Checksums,
}

/// Where the bytes come from.
enum Bytes {
    /// One stream from the start.
    Stream(Box<dyn Read + Send>),
    /// A local file with holes: only its data is read.
    Sparse { data_until: u64 },
}

impl RawExtents {
    /// Starts reading. The digest costs a core.
    pub(crate) fn start(source: &Source, reading: &ReadContext, digest: Need) -> Result<Self> {
        let bytes = match source.bytes.as_file() {
            Some(_) => Bytes::Sparse { data_until: 0 },
            None => Bytes::Stream(source.bytes.stream(0, &reading.cancel)?),
        };
        Ok(Self {
            source: source.clone(),
            reading: reading.clone(),
            bytes,
            position: 0,
            queue: VecDeque::new(),
            digester: Some(Digester::start(digest, &source.expected)?),
            found: Checksums::default(),
        })
    }

    fn read_stream(&mut self) -> Result<bool> {
        let Bytes::Stream(stream) = &mut self.bytes else { return Ok(false) };
        let mut buffer = self.reading.pool.take(&self.reading.cancel)?;
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
        let (Some(file), Bytes::Sparse { data_until }) =
            (self.source.bytes.as_file(), &mut self.bytes)
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
        let want = (*data_until - self.position).min(BUFFER_BYTES as u64);
        let mut buffer = self.reading.pool.take(&self.reading.cancel)?;
        #[allow(clippy::cast_possible_truncation)] // at most one buffer
        let part = &mut buffer[..want as usize];
        let n = self.source.bytes.read_at(part, self.position, &self.reading.cancel)?;
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
        self.reading.counts.source_bytes.fetch_add(read, Ordering::Relaxed);
        self.reading.counts.decoded_bytes.fetch_add(decoded, Ordering::Relaxed);
    }
}

impl ExtentReader for RawExtents {
    fn next(&mut self) -> Result<Option<Extent>> {
        loop {
            if let Some(extent) = self.queue.pop_front() {
                return Ok(Some(extent));
            }
            self.reading.cancel.check()?;
            let more = match self.bytes {
                Bytes::Stream(_) => self.read_stream()?,
                Bytes::Sparse { .. } => self.read_sparse()?,
            };
            if !more {
                if let Some(digester) = self.digester.take() {
                    self.found = digester.finish()?.unwrap_or_default();
                }
                return Ok(None);
            }
        }
    }

    fn digests(&self) -> ReadDigests {
        ReadDigests { wire: self.found, image: self.found.sha256 }
    }
}

/// The offset of the next data at or after `from`; `len` when only a hole is left. Without support
/// for holes, all is data.
fn next_data(file: &File, from: u64, len: u64) -> u64 {
    match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(at) => at.min(len),
        Err(Errno::NXIO) => len,
        Err(_) => from,
    }
}

/// The offset of the next hole after `from`, which is data.
fn next_hole(file: &File, from: u64, len: u64) -> u64 {
    match rustix::fs::seek(file, SeekFrom::Hole(from)) {
        Ok(at) if at > from => at.min(len),
        _ => len,
    }
}
