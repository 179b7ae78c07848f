//! xz: a sequence of streams with padding, whose blocks are decoded on all cores.
//! [Format](https://tukaani.org/xz/xz-file-format.txt).
//!
//! ```text
//! stream:  header, 12 bytes | blocks | index | footer, 12 bytes
//! header:  fd "7zXZ" 00 | flags, 2 bytes | CRC32 of the flags
//! footer:  CRC32 of 4..10 | size of the index / 4 - 1 | flags | "YZ"
//! ```
//!
//! This module finds the blocks and checks the index. liblzma decodes each block as a
//! [stream of its own](block), so that it checks everything else. A block that is equal to an
//! earlier one, and that one decoded to zeros, is not decoded.

use std::io::{self, BufRead as _, Read};
use std::sync::Arc;

use liblzma::stream::{Action, Error as LzmaError, Status, Stream};

use super::parallel::{FoundPart, Parallel, ParallelReader, Splitter};
use super::zero_parts::ZeroParts;
use super::{CompressedInput, Compression, DecodeOptions, Trailer, damaged, refused, truncated};
use crate::size::{MIB, human};
use crate::{Error, ErrorKind, Result};
use block::{BlockWalk, XzBlockHeader, XzBlockJob};
use index::Records;

mod block;
mod index;

pub(super) use index::decoded_size;

const MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
/// Size of the header and of the footer of a stream, in bytes.
const HEADER_BYTES: usize = 12;

pub(super) fn decoder(
    wire: Box<dyn Read + Send>,
    options: DecodeOptions,
    trailer: &Trailer,
) -> Result<Box<dyn Read + Send>> {
    let xz = Xz {
        wire: CompressedInput::new(wire, trailer),
        memory_bytes: options.memory_bytes,
        stream: None,
        is_first: true,
        streamed: None,
        zero_parts: Arc::default(),
    };
    Ok(Box::new(ParallelReader::new(xz, options)))
}

struct Xz {
    wire: CompressedInput,
    memory_bytes: u64,
    /// The stream that is being read; `None` between two of them.
    stream: Option<OpenStream>,
    is_first: bool,
    streamed: Option<StreamedBlock>,
    zero_parts: Arc<ZeroParts>,
}

/// The stream that is being read.
struct OpenStream {
    header: [u8; HEADER_BYTES],
    records: Records,
}

/// A block that is too large to be collected.
struct StreamedBlock {
    walk: BlockWalk,
    decoder: Stream,
    /// Bytes for the decoder, and the number of those that it has taken.
    encoded: Vec<u8>,
    position: usize,
}

impl Xz {
    /// Reads the header of the next stream; false at the end.
    fn start_stream(&mut self) -> io::Result<bool> {
        if !stream_follows(&mut self.wire, self.is_first)? {
            return Ok(false);
        }
        let offset = self.wire.offset();
        let bytes = self.wire.peek(HEADER_BYTES)?;
        let Some(&header) = bytes.first_chunk::<HEADER_BYTES>() else {
            let is_start = bytes.starts_with(&MAGIC[..bytes.len().min(MAGIC.len())]);
            let error = if is_start {
                truncated(Compression::Xz, offset + bytes.len() as u64)
            } else {
                damaged(Compression::Xz, offset, LzmaError::Format)
            };
            return Err(error.into());
        };
        check_header(&header).map_err(|error| explain(error, offset))?;
        self.wire.consume(HEADER_BYTES);
        self.is_first = false;
        self.stream = Some(OpenStream { header, records: Records::default() });
        Ok(true)
    }

    /// Collects the next block, and submits it unless it is too large.
    fn read_block(&mut self, parallel: &mut Parallel<XzBlockJob>) -> io::Result<FoundPart> {
        let Some(OpenStream { header: stream, records }) = &mut self.stream else {
            return Ok(FoundPart::Job);
        };
        let offset = self.wire.offset();
        let header = XzBlockHeader::read(&mut self.wire)?;
        if header.dictionary_bytes.saturating_add(MIB) > self.memory_bytes {
            return Err(too_large(&header, offset, self.memory_bytes).into());
        }
        let mut job = parallel.take_job();
        let mut walk = BlockWalk::new(stream, &header);
        job.encoded.extend_from_slice(stream);
        job.encoded.extend_from_slice(header.bytes());
        let max = self.memory_bytes / 2;
        while header.cost(&walk) <= max {
            if walk.append_chunk(&mut self.wire, &mut job.encoded)? {
                continue;
            }
            records.add(walk.unpadded_bytes(), walk.decoded_bytes());
            if let Some(zeros) = self.zero_parts.find(&job.encoded) {
                parallel.push_zeros(zeros);
                parallel.give_back(job);
            } else {
                let decoded_bytes = walk.decoded_bytes();
                job.prepare(decoded_bytes, offset, &self.zero_parts);
                parallel.submit(job, decoded_bytes + header.dictionary_bytes);
            }
            return Ok(FoundPart::Job);
        }
        let decoder = new_decoder()?;
        let encoded = std::mem::take(&mut job.encoded);
        self.streamed = Some(StreamedBlock { walk, decoder, encoded, position: 0 });
        Ok(FoundPart::Stream)
    }

    fn read_index(&mut self) -> io::Result<FoundPart> {
        if let Some(OpenStream { header, records }) = self.stream.take() {
            records.check_end(&mut self.wire, &header)?;
        }
        Ok(FoundPart::Job)
    }
}

impl Splitter for Xz {
    type Job = XzBlockJob;

    fn cost_max(&self) -> u64 {
        self.memory_bytes / 2
    }

    fn advance(&mut self, parallel: &mut Parallel<XzBlockJob>) -> io::Result<FoundPart> {
        if self.stream.is_none() && !self.start_stream()? {
            return Ok(FoundPart::End);
        }
        match self.wire.peek(1)?.first() {
            Some(0) => self.read_index(),
            Some(_) => self.read_block(parallel),
            None => Err(truncated(Compression::Xz, self.wire.offset()).into()),
        }
    }

    fn stream(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let (Some(block), Some(stream)) = (&mut self.streamed, &mut self.stream) else {
            return Ok(0);
        };
        let StreamedBlock { walk, decoder, encoded, position } = block;
        loop {
            if *position == encoded.len() {
                encoded.clear();
                *position = 0;
                walk.append_chunk(&mut self.wire, encoded)?;
            }
            let (taken, made) = (decoder.total_in(), decoder.total_out());
            let result = decoder.process(&encoded[*position..], buf, Action::Run);
            *position += (decoder.total_in() - taken) as usize;
            let produced = (decoder.total_out() - made) as usize;
            let offset = self.wire.offset();
            if let Status::StreamEnd = result.map_err(|error| explain(error, offset))? {
                stream.records.add(walk.unpadded_bytes(), walk.decoded_bytes());
                self.streamed = None;
                return Ok(produced);
            }
            if produced > 0 {
                return Ok(produced);
            }
        }
    }
}

/// Starts a decoder. The dictionary was compared with the limit before.
fn new_decoder() -> Result<Stream> {
    Stream::new_stream_decoder(u64::MAX, 0)
        .map_err(|e| Error::new(ErrorKind::Host, "starting the xz decoder").because(e))
}

fn check_header(header: &[u8; HEADER_BYTES]) -> std::result::Result<(), LzmaError> {
    let [.., version, check, a, b, c, d] = *header;
    if !header.starts_with(&MAGIC) {
        return Err(LzmaError::Format);
    }
    if crc32fast::hash(&[version, check]) != u32::from_le_bytes([a, b, c, d]) {
        return Err(LzmaError::Data);
    }
    if version != 0 || check > 0x0f { Err(LzmaError::Options) } else { Ok(()) }
}

fn too_large(header: &XzBlockHeader, offset: u64, memory_bytes: u64) -> Error {
    let (needed, limit) = (human(header.dictionary_bytes), human(memory_bytes));
    let reason = format!("it needs a dictionary of {needed}, and {limit} of memory are allowed");
    refused(Compression::Xz, offset, reason)
        .hint("recompress it with xz -9 or less: xz -dc IMAGE | xz -9 -T0 > NEW")
}

fn explain(error: LzmaError, offset: u64) -> Error {
    match error {
        LzmaError::Mem => Error::new(ErrorKind::Host, "decoding xz")
            .because(error)
            .hint("the system refused memory: allow more (ulimit -v, the limits of the container)"),
        LzmaError::Options => {
            let reason = "it uses a filter or option that is not supported";
            refused(Compression::Xz, offset, reason)
                .hint("recompress it: xz -dc IMAGE | xz -T0 > NEW")
        }
        other => damaged(Compression::Xz, offset, other),
    }
}

/// Skips the padding after a stream, which is zeros in groups of four. True when another stream
/// follows.
fn stream_follows(wire: &mut CompressedInput, is_first: bool) -> io::Result<bool> {
    if is_first {
        return if wire.is_at_end()? {
            Err(truncated(Compression::Xz, 0).into())
        } else {
            Ok(true)
        };
    }
    while wire.peek(4)?.starts_with(&[0; 4]) {
        wire.consume(4);
    }
    let head = wire.peek(MAGIC.len())?;
    if head.is_empty() {
        return Ok(false);
    }
    let is_stream = head.starts_with(&MAGIC[..head.len().min(MAGIC.len())]);
    if is_stream { Ok(true) } else { wire.take_trailer(Compression::Xz).map(|()| false) }
}
