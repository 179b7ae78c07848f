//! zstd: a sequence of frames and skippable frames.
//!
//! A frame cannot be split, so a large one is decoded as a stream on the calling thread, directly
//! into the caller's buffer. Small frames, as written by pzstd and by packers that work in blocks,
//! are collected whole and decoded on all cores.

use std::io::{self, BufRead, Read};

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use super::walk::Walk;
use super::{CompressedInput, Compression, DecodeOptions, damaged, refused, truncated};
use crate::size::{MIB, human};
use crate::source::ByteSource;
use crate::{CancelToken, Error, ErrorKind};
use frame::{BLOCK_BYTES_MAX, BlockHeader, FrameHeader, HEADER_BYTES_MAX, Head};
use parallel::Parallel;

mod frame;
mod parallel;

/// A frame that is larger, compressed or decoded, is streamed.
const SMALL_FRAME_BYTES: u64 = 32 * MIB;

pub(super) struct Zstd {
    wire: CompressedInput,
    window_log_max: u32,
    /// Frames up to this size, compressed and decoded, go to [`Parallel`]. Zero if there is only
    /// one thread.
    small_bytes_max: u64,
    /// True after the first frame was seen.
    has_begun: bool,
    parallel: Parallel,
    /// What follows the frames that [`Parallel`] decodes.
    pending: Pending,
    context: Option<DCtx<'static>>,
}

enum Pending {
    /// Not known yet.
    Unknown,
    /// A frame to decode as a stream.
    Stream(Streamed),
    End,
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

/// The result of collecting a frame.
enum Gathered {
    /// The whole frame, and the maximum size that it can decode to.
    Whole(Vec<u8>, u64),
    /// The start of a frame that is too large.
    Start(Vec<u8>),
}

impl Zstd {
    pub(super) fn new(wire: CompressedInput, options: DecodeOptions) -> Self {
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
            parallel: Parallel::new(options),
            pending: Pending::Unknown,
            context: None,
        }
    }

    /// Reads the next frame boundary. Collects a small frame, or determines what follows instead.
    fn advance(&mut self) -> io::Result<()> {
        let offset = self.wire.offset();
        let bytes = self.wire.peek(HEADER_BYTES_MAX)?;
        if bytes.is_empty() && self.has_begun {
            self.pending = Pending::End;
            return Ok(());
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
                match self.gather(&header)? {
                    Gathered::Whole(frame, decoded_max) => {
                        self.context = None;
                        self.parallel.submit(frame, decoded_max, offset)?;
                    }
                    Gathered::Start(start) => {
                        let declared_bytes = header.content_bytes;
                        self.pending = Pending::Stream(Streamed {
                            start,
                            position: 0,
                            declared_bytes,
                            produced_bytes: 0,
                        });
                    }
                }
            }
            Head::Short => return Err(truncated(Compression::Zstd, offset).into()),
            Head::Broken => {
                return Err(damaged(Compression::Zstd, offset, "a reserved bit is set").into());
            }
            Head::Foreign if self.has_begun => {
                self.wire.take_trailer(Compression::Zstd)?;
                self.pending = Pending::End;
                return Ok(());
            }
            Head::Foreign => {
                return Err(damaged(Compression::Zstd, offset, "no frame starts here").into());
            }
        }
        self.has_begun = true;
        Ok(())
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
            return Err(refused(Compression::Zstd, offset, format!("its window is {window}, and {max} are allowed"))
                .hint(
                    "recompress it with a window of 128 MiB or less: zstd -dc --long=31 IMAGE | zstd --long=27 -o NEW",
                ));
        }
        Ok(())
    }

    /// Collects the frame block by block, until it is whole or turns out too large.
    fn gather(&mut self, header: &FrameHeader) -> io::Result<Gathered> {
        let max = self.small_bytes_max;
        let mut frame = Vec::new();
        if header.content_bytes.map_or(max == 0, |declared| declared > max || max == 0) {
            return Ok(Gathered::Start(frame));
        }
        self.take(&mut frame, header.len)?;
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
            if (frame.len() + block.data_len) as u64 > max || decoded_max > max {
                return Ok(Gathered::Start(frame));
            }
            self.take(&mut frame, BlockHeader::LEN + block.data_len)?;
            if block.is_last {
                self.take(&mut frame, if header.has_checksum { 4 } else { 0 })?;
                return Ok(Gathered::Whole(frame, decoded_max));
            }
        }
    }

    fn take(&mut self, to: &mut Vec<u8>, count: usize) -> io::Result<()> {
        if self.wire.take_into(to, count)? {
            Ok(())
        } else {
            Err(truncated(Compression::Zstd, self.wire.offset()).into())
        }
    }

    /// Decodes part of the frame in [`Pending::Stream`]. At its end, sets [`Pending::Unknown`].
    fn stream(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Self { wire, context, pending, window_log_max, .. } = self;
        let Pending::Stream(Streamed { start, position, declared_bytes, produced_bytes }) = pending
        else {
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
                    self.pending = Pending::Unknown;
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

impl Read for Zstd {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let produced = self.parallel.deliver(buf)?;
            if produced > 0 {
                return Ok(produced);
            }
            if matches!(self.pending, Pending::Unknown)
                && self.parallel.has_room(2 * self.small_bytes_max)
            {
                self.advance()?;
            } else if !self.parallel.wait()? {
                match self.pending {
                    Pending::End => return Ok(0),
                    Pending::Stream(_) => {
                        let produced = self.stream(buf)?;
                        if produced > 0 {
                            return Ok(produced);
                        }
                    }
                    Pending::Unknown => {}
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
