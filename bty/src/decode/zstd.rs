//! zstd: a sequence of frames and skippable frames.
//!
//! A frame cannot be split, so a large one is decoded as a stream on the calling thread, directly
//! into the caller's buffer. Small frames, as written by pzstd and by packers that work in blocks,
//! are collected whole and decoded on all cores, several at once if they are very small.

use std::io::{self, BufRead, Read};

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use super::parallel::{FoundPart, Parallel, ParallelReader, Splitter};
use super::walk::Walk;
use super::{CompressedInput, Compression, DecodeOptions, damaged, refused, truncated};
use crate::size::{MIB, human};
use crate::source::ByteSource;
use crate::{CancelToken, Error, ErrorKind};
use batch::FrameBatch;
use frame::{BLOCK_BYTES_MAX, BlockHeader, FrameHeader, HEADER_BYTES_MAX, Head};

mod batch;
mod frame;

/// A frame that is larger, compressed or decoded, is streamed.
const SMALL_FRAME_BYTES: u64 = 32 * MIB;
/// Frames are decoded together up to this size, compressed and decoded: so many that handing them
/// to a thread costs little, and so few that they stay in the cache of a core.
const BATCH_BYTES: u64 = MIB;

pub(super) fn decoder(wire: CompressedInput, options: DecodeOptions) -> Box<dyn Read + Send> {
    Box::new(ParallelReader::new(Zstd::new(wire, options), options))
}

struct Zstd {
    wire: CompressedInput,
    window_log_max: u32,
    /// Frames up to this size, compressed and decoded, become jobs. Zero if there is only one
    /// thread.
    small_bytes_max: u64,
    /// True after the first frame was seen.
    has_begun: bool,
    /// Small frames that are not submitted yet.
    batch: FrameBatch,
    streamed: Option<Streamed>,
    context: Option<DCtx<'static>>,
}

/// The frame that is decoded as a stream.
struct Streamed {
    /// Bytes that were read before the frame turned out too large to be collected.
    start: Vec<u8>,
    /// Number of bytes of `start` that were decoded.
    position: usize,
    declared_bytes: Option<u64>,
    produced_bytes: u64,
}

impl Zstd {
    fn new(wire: CompressedInput, options: DecodeOptions) -> Self {
        let memory = options.memory_bytes;
        Self {
            wire,
            window_log_max: memory.saturating_sub(8 * MIB).ilog2().clamp(10, 31),
            small_bytes_max: if options.threads > 1 {
                SMALL_FRAME_BYTES.min(memory / 4)
            } else {
                0
            },
            has_begun: false,
            batch: FrameBatch::default(),
            streamed: None,
            context: None,
        }
    }

    fn submit(&mut self, parallel: &mut Parallel<FrameBatch>) {
        if !self.batch.is_empty() {
            // its window is memory that the jobs may need
            self.context = None;
            let batch = std::mem::replace(&mut self.batch, parallel.take_job());
            let decoded_max = batch.decoded_max();
            parallel.submit(batch, decoded_max);
        }
    }

    /// Reads the next frame boundary. Adds a small frame to the batch, or determines what follows
    /// instead.
    fn find(&mut self) -> io::Result<FoundPart> {
        let offset = self.wire.offset();
        let bytes = self.wire.peek(HEADER_BYTES_MAX)?;
        if bytes.is_empty() && self.has_begun {
            return Ok(FoundPart::End);
        }
        let head = Head::parse(bytes);
        match head {
            Head::Skippable(len) => {
                if !self.wire.skip(len)? {
                    return Err(truncated(Compression::Zstd, self.wire.offset()).into());
                }
            }
            Head::Frame(header) => {
                self.check(&header)?;
                self.has_begun = true;
                if let Some(start) = self.gather(&header, offset)? {
                    self.streamed = Some(Streamed {
                        start,
                        position: 0,
                        declared_bytes: header.content_bytes,
                        produced_bytes: 0,
                    });
                    return Ok(FoundPart::Stream);
                }
            }
            Head::Short => return Err(truncated(Compression::Zstd, offset).into()),
            Head::Broken => {
                return Err(damaged(Compression::Zstd, offset, "a reserved bit is set").into());
            }
            Head::Foreign if self.has_begun => {
                self.wire.take_trailer(Compression::Zstd)?;
                return Ok(FoundPart::End);
            }
            Head::Foreign => {
                return Err(damaged(Compression::Zstd, offset, "no frame starts here").into());
            }
        }
        self.has_begun = true;
        Ok(FoundPart::Job)
    }

    /// Refuses frames that need a dictionary or too much memory.
    fn check(&self, header: &FrameHeader) -> Result<(), Error> {
        let offset = self.wire.offset();
        if header.dictionary_id != 0 {
            let reason = format!(
                "it was made with dictionary {}, which is not part of it",
                header.dictionary_id
            );
            return Err(refused(Compression::Zstd, offset, reason)
                .hint("recompress it without a dictionary"));
        }
        let window_max = 1u64 << self.window_log_max;
        if header.window_bytes > window_max {
            let (window, max) = (human(header.window_bytes), human(window_max));
            let reason = format!("its window is {window}, and {max} are allowed");
            return Err(refused(Compression::Zstd, offset, reason).hint(
                "recompress it with a window of 128 MiB or less: \
                 zstd -dc --long=31 IMAGE | zstd --long=27 -o NEW",
            ));
        }
        Ok(())
    }

    /// Adds the frame to the batch. Returns its start if it is too large.
    fn gather(&mut self, header: &FrameHeader, wire_offset: u64) -> io::Result<Option<Vec<u8>>> {
        let start = self.batch.encoded.len();
        match self.gather_blocks(header, start)? {
            Some(decoded_max) => {
                self.batch.end_frame(start, decoded_max, wire_offset);
                Ok(None)
            }
            None => Ok(Some(self.batch.encoded.split_off(start))),
        }
    }

    /// Appends the frame to the batch, where it begins at `start`. Returns the maximum size that it
    /// can decode to, or `None` as soon as it turns out too large.
    fn gather_blocks(&mut self, header: &FrameHeader, start: usize) -> io::Result<Option<u64>> {
        let max = self.small_bytes_max;
        if header.content_bytes.map_or(max == 0, |declared| declared > max || max == 0) {
            return Ok(None);
        }
        self.take(header.len)?;
        let mut blocks_bytes_max = 0;
        loop {
            let offset = self.wire.offset();
            let Some(&bytes) = self.wire.peek(BlockHeader::LEN)?.first_chunk() else {
                return Err(truncated(Compression::Zstd, offset).into());
            };
            let block = BlockHeader::parse(bytes).ok_or_else(|| {
                damaged(Compression::Zstd, offset, "a block has the reserved type")
            })?;
            blocks_bytes_max += BLOCK_BYTES_MAX.min(header.window_bytes.max(1 << 10));
            let decoded_max = header.content_bytes.unwrap_or(blocks_bytes_max);
            let len = self.batch.encoded.len() - start + block.data_len;
            if len as u64 > max || decoded_max > max {
                return Ok(None);
            }
            self.take(BlockHeader::LEN + block.data_len)?;
            if block.is_last {
                self.take(if header.has_checksum { 4 } else { 0 })?;
                return Ok(Some(decoded_max));
            }
        }
    }

    /// Appends the next `count` bytes to the batch.
    fn take(&mut self, count: usize) -> io::Result<()> {
        if self.wire.take_into(&mut self.batch.encoded, count)? {
            Ok(())
        } else {
            Err(truncated(Compression::Zstd, self.wire.offset()).into())
        }
    }
}

impl Splitter for Zstd {
    type Job = FrameBatch;

    fn cost_max(&self) -> u64 {
        // the largest frame, after a batch that is almost full
        2 * (self.small_bytes_max + BATCH_BYTES)
    }

    fn advance(&mut self, parallel: &mut Parallel<FrameBatch>) -> io::Result<FoundPart> {
        let found = self.find();
        if !matches!(found, Ok(FoundPart::Job)) || self.batch.is_full() {
            self.submit(parallel);
        }
        found
    }

    fn stream(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Self { wire, context, streamed, window_log_max, .. } = self;
        let Some(Streamed { start, position, declared_bytes, produced_bytes }) = streamed else {
            return Ok(0);
        };
        let context = match context {
            Some(context) => context,
            None => context.insert(new_context(*window_log_max)?),
        };
        loop {
            let is_from_start = *position < start.len();
            let bytes = if is_from_start { &start[*position..] } else { wire.peek(1)? };
            let at_end = bytes.is_empty();
            let mut input = InBuffer::around(bytes);
            let mut output = OutBuffer::around(&mut *buf);
            let result = context.decompress_stream(&mut output, &mut input);
            let (produced, consumed) = (output.pos(), input.pos());
            if is_from_start {
                *position += consumed;
                if *position == start.len() {
                    // frees up to 32 MiB
                    *start = Vec::new();
                    *position = 0;
                }
            } else {
                wire.consume(consumed);
            }
            *produced_bytes += produced as u64;
            match result {
                // libzstd does not check this when the last block is empty
                Ok(0) if declared_bytes.is_some_and(|declared| declared != *produced_bytes) => {
                    let why = "the frame has another length than it declares";
                    return Err(damaged(Compression::Zstd, wire.offset(), why).into());
                }
                Ok(0) => {
                    *streamed = None;
                    return Ok(produced);
                }
                Ok(_) if produced > 0 => return Ok(produced),
                Ok(_) if at_end => return Err(truncated(Compression::Zstd, wire.offset()).into()),
                Ok(_) => {}
                Err(code) => {
                    return Err(
                        damaged(Compression::Zstd, wire.offset(), get_error_name(code)).into()
                    );
                }
            }
        }
    }
}

fn new_context(window_log_max: u32) -> Result<DCtx<'static>, Error> {
    let failed =
        |why: &'static str| Error::new(ErrorKind::Host, "starting the zstd decoder").because(why);
    let mut context = DCtx::try_create().ok_or_else(|| failed("out of memory"))?;
    context
        .set_parameter(DParameter::WindowLogMax(window_log_max))
        .map_err(|code| failed(get_error_name(code)))?;
    Ok(context)
}

/// The sum of the declared content sizes. `None` unless every frame declares one and the file
/// consists of whole frames.
pub(super) fn decoded_size(source: &dyn ByteSource, cancel: &CancelToken) -> Option<u64> {
    let mut walk = Walk::new(source, cancel)?;
    let mut total = 0u64;
    while !walk.is_at_end() {
        match Head::parse(walk.peek(&mut [0; HEADER_BYTES_MAX])?) {
            Head::Skippable(len) => walk.skip(len)?,
            Head::Frame(header) => {
                let declared = header.content_bytes?;
                walk.skip(header.len as u64)?;
                let blocks = skip_blocks(&mut walk)?;
                // the size of a block is limited, so a larger claim is false
                if declared > blocks.saturating_mul(BLOCK_BYTES_MAX) {
                    return None;
                }
                walk.skip(if header.has_checksum { 4 } else { 0 })?;
                total = total.checked_add(declared)?;
            }
            Head::Short | Head::Broken | Head::Foreign => return None,
        }
    }
    Some(total)
}

/// Skips the blocks of one frame, and returns their number.
fn skip_blocks(walk: &mut Walk<'_>) -> Option<u64> {
    let mut blocks = 0;
    loop {
        let block = BlockHeader::parse(*walk.peek(&mut [0; BlockHeader::LEN])?.first_chunk()?)?;
        walk.skip((BlockHeader::LEN + block.data_len) as u64)?;
        blocks += 1;
        if block.is_last {
            return Some(blocks);
        }
    }
}
