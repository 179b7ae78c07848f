//! Uncompressed images: read straight into the buffers that are written, holes of a local file left out.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::digest::Hasher;
use crate::extent::{BUFFER_BYTES, Block, Extent, ExtentReader, split_zeros};
use crate::image::Reading;
use crate::source::wire::read_full;
use crate::{Digest, Error, ErrorKind, Result, Source, threads};

/// Blocks that may wait for the digest thread; each keeps a buffer of the pool.
const BLOCKS_BEHIND: usize = 3;

/// The extents of an uncompressed source.
pub(crate) struct RawExtents {
    source: Source,
    reading: Reading,
    bytes: Bytes,
    position: u64,
    queue: VecDeque<Extent>,
    digester: Option<Digester>,
    digest: Option<Digest>,
}

/// Where the bytes come from.
enum Bytes {
    /// One stream from the start.
    Stream(Box<dyn Read + Send>),
    /// A local file with holes: only its data is read.
    Sparse { data_until: u64 },
}

impl RawExtents {
    /// Starts reading. The digest costs a core; it is left out when nobody asked.
    pub(crate) fn start(source: &Source, reading: &Reading, with_digest: bool) -> Result<Self> {
        let bytes = match source.input.as_file() {
            Some(_) => Bytes::Sparse { data_until: 0 },
            None => Bytes::Stream(source.input.stream(0, &reading.cancel)?),
        };
        let digester = if with_digest { Some(Digester::start()?) } else { None };
        Ok(Self {
            source: source.clone(),
            reading: reading.clone(),
            bytes,
            position: 0,
            queue: VecDeque::new(),
            digester,
            digest: None,
        })
    }

    fn read_stream(&mut self) -> Result<bool> {
        let Bytes::Stream(stream) = &mut self.bytes else { return Ok(false) };
        let mut buffer = self.reading.pool.take(&self.reading.cancel)?;
        let n = read_full(stream, &mut buffer)
            .map_err(|e| Error::from_io(ErrorKind::Source, format!("reading {}", self.source.location()), e))?;
        if n == 0 {
            return Ok(false);
        }
        self.push_data(buffer.freeze(n))?;
        Ok(true)
    }

    fn read_sparse(&mut self) -> Result<bool> {
        let (Some(file), Bytes::Sparse { data_until }) = (self.source.input.as_file(), &mut self.bytes) else {
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
        let n = self.source.input.read_at(part, self.position, &self.reading.cancel)?;
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
        match &self.digester {
            Some(digester) => digester.add(Piece::Data(block)),
            None => Ok(()),
        }
    }

    fn push_hole(&mut self, len: u64) -> Result<()> {
        self.queue.push_back(Extent::Zero { offset: self.position, len });
        self.count(0, len);
        match &self.digester {
            Some(digester) => digester.add(Piece::Zeros(len)),
            None => Ok(()),
        }
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
                    self.digest = Some(digester.finish()?);
                }
                return Ok(None);
            }
        }
    }

    fn wire_digest(&self) -> Option<Digest> {
        self.digest
    }
}

/// The offset of the next data at or after `from`; `len` when only a hole is left. Without support for holes, all is data.
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

enum Piece {
    Data(Block),
    Zeros(u64),
}

/// Digests on a thread of its own: it is slower than the disk often is.
struct Digester {
    pieces: Sender<Piece>,
    thread: JoinHandle<Digest>,
}

impl Digester {
    fn start() -> Result<Self> {
        let (pieces, inbox) = bounded(BLOCKS_BEHIND);
        let thread = threads::start("bty-digest", move || {
            let zeros = Arc::new(vec![0; 1 << 20]);
            let mut hasher = Hasher::new();
            for piece in inbox {
                match piece {
                    Piece::Data(block) => hasher.update(&block),
                    Piece::Zeros(mut left) => {
                        while left > 0 {
                            let n = left.min(zeros.len() as u64);
                            #[allow(clippy::cast_possible_truncation)] // at most one MiB
                            hasher.update(&zeros[..n as usize]);
                            left -= n;
                        }
                    }
                }
            }
            hasher.finish()
        })?;
        Ok(Self { pieces, thread })
    }

    fn add(&self, piece: Piece) -> Result<()> {
        self.pieces.send(piece).map_err(|_| Error::new(ErrorKind::Host, "the digest thread is gone"))
    }

    fn finish(self) -> Result<Digest> {
        drop(self.pieces);
        self.thread.join().map_err(|_| Error::new(ErrorKind::Host, "the digest thread is gone"))
    }
}
