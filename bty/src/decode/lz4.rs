//! lz4: a sequence of frames and skippable frames.
//! [Format](https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md).
//!
//! ```text
//! frame:  magic 04 22 4d 18 | FLG | BD | content size u64, if FLG says so
//!         | dictionary id u32, if so | header checksum u8
//!         | blocks | end mark u32 = 0 | XXH32 of the content, if so
//! FLG, bits:  7..6 version = 1 | 5 blocks independent | 4 block checksums | 3 content size
//!         | 2 content checksum | 1 reserved | 0 dictionary
//! BD, bits:   6..4 largest block: 4 = 64 KiB, 5 = 256 KiB, 6 = 1 MiB, 7 = 4 MiB | others reserved
//! block:  size u32, top bit set if stored as is | data | XXH32 of the data, if so
//! ```
//! All little-endian. This module parses the frames itself, because the reader of the `lz4_flex`
//! crate accepts a frame without an end mark.

use std::hash::Hasher as _;
use std::io::{self, Read};

use lz4_flex::block::{decompress_into, decompress_into_with_dict};
use twox_hash::XxHash32;

use super::walk::Walk;
use super::{
    CompressedInput, Compression, DecodeOptions, Trailer, damaged, refused, skippable_bytes,
    truncated,
};
use crate::source::ByteSource;
use crate::{CancelToken, Result};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const LEGACY_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// The longest frame header, magic included.
const HEADER_BYTES_MAX: usize = 19;
/// Linked blocks may refer to this many bytes before them.
const HISTORY_BYTES: usize = 64 << 10;
const STORED: u32 = 1 << 31;

pub(super) fn decoder(
    wire: Box<dyn Read + Send>,
    _: DecodeOptions,
    trailer: &Trailer,
) -> Result<Box<dyn Read + Send>> {
    Ok(Box::new(Lz4::new(CompressedInput::new(wire, trailer))))
}

struct Lz4 {
    wire: CompressedInput,
    /// True after the first frame was seen.
    has_begun: bool,
    frame: Option<Lz4Frame>,
    /// The compressed block that is being read; kept so that its memory is reused.
    packed: Vec<u8>,
    /// [`HISTORY_BYTES`] of history, right-aligned, then the decoded block.
    decoded: Vec<u8>,
    /// The part of `decoded` that is not delivered yet.
    ready: std::ops::Range<usize>,
}

/// The frame that is being decoded.
struct Lz4Frame {
    header: Lz4Header,
    content: XxHash32,
    content_bytes: u64,
    history_bytes: usize,
    /// Length of the previous block, which is still in `decoded`.
    block_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Lz4Header {
    len: usize,
    are_blocks_linked: bool,
    has_block_checksums: bool,
    has_content_checksum: bool,
    content_bytes: Option<u64>,
    block_bytes_max: usize,
}

impl Lz4Header {
    /// Parses the header of a frame. `bytes` must begin with the magic. `None` means that they are
    /// too few.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, &'static str> {
        let &[_, _, _, _, flags, block, ..] = bytes else { return Ok(None) };
        if flags >> 6 != 1 {
            return Err("the frame has an unknown version");
        }
        if flags & 2 != 0 || block & 0x8f != 0 {
            return Err("a reserved bit is set");
        }
        // skips the four bytes of a dictionary id; frames with one are refused later
        let len = 6 + if flags & 8 != 0 { 8 } else { 0 } + 1;
        let Some(header) = bytes.get(..len) else { return Ok(None) };
        if (XxHash32::oneshot(0, &header[4..len - 1]) >> 8) as u8 != header[len - 1] {
            return Err("the checksum of a frame header differs");
        }
        let block_bytes_max = match block >> 4 {
            size @ 4..=7 => 1 << (8 + 2 * size),
            _ => return Err("the frame has an unknown block size"),
        };
        Ok(Some(Self {
            len,
            are_blocks_linked: flags & 0x20 == 0,
            has_block_checksums: flags & 0x10 != 0,
            has_content_checksum: flags & 4 != 0,
            content_bytes: header[6..len - 1].first_chunk().map(|&bytes| u64::from_le_bytes(bytes)),
            block_bytes_max,
        }))
    }
}

impl Lz4 {
    fn new(wire: CompressedInput) -> Self {
        Self {
            wire,
            has_begun: false,
            frame: None,
            packed: Vec::new(),
            decoded: Vec::new(),
            ready: 0..0,
        }
    }

    /// Starts the next frame; false at the end.
    fn start_frame(&mut self) -> io::Result<bool> {
        loop {
            let offset = self.wire.offset();
            let bytes = self.wire.peek(HEADER_BYTES_MAX)?;
            if bytes.is_empty() && self.has_begun {
                return Ok(false);
            }
            if let Some(len) = skippable_bytes(bytes) {
                self.skip(len)?;
            } else if bytes.starts_with(&LEGACY_MAGIC) {
                return Err(refused(
                    Compression::Lz4,
                    offset,
                    "it has the legacy format, which has no checksum and no end",
                )
                .hint("recompress it: lz4 -dc IMAGE | lz4 > NEW")
                .into());
            } else if bytes.starts_with(&MAGIC)
                && bytes.get(4).is_some_and(|flags| flags & 0xc1 == 0x41)
            {
                let reason = "it was made with a dictionary, which is not part of it";
                return Err(refused(Compression::Lz4, offset, reason)
                    .hint("recompress it without a dictionary")
                    .into());
            } else if bytes.starts_with(&MAGIC) {
                let header = Lz4Header::parse(bytes)
                    .map_err(|why| damaged(Compression::Lz4, offset, why))?;
                let header = header.ok_or_else(|| truncated(Compression::Lz4, offset))?;
                self.skip(header.len as u64)?;
                self.decoded.resize(HISTORY_BYTES + header.block_bytes_max, 0);
                let content = XxHash32::with_seed(0);
                self.frame = Some(Lz4Frame {
                    header,
                    content,
                    content_bytes: 0,
                    history_bytes: 0,
                    block_bytes: 0,
                });
                self.has_begun = true;
                return Ok(true);
            } else {
                let may_become_one =
                    MAGIC.starts_with(bytes) || bytes.len() < 8 && super::may_be_skippable(bytes);
                if self.has_begun && !may_become_one {
                    return self.wire.take_trailer(Compression::Lz4).map(|()| false);
                }
                return Err(match () {
                    () if may_become_one => truncated(Compression::Lz4, offset),
                    () => damaged(Compression::Lz4, offset, "no frame starts here"),
                }
                .into());
            }
            self.has_begun = true;
        }
    }

    /// Decodes the next block of `frame`; false after the last one.
    fn next_block(&mut self, frame: &mut Lz4Frame) -> io::Result<bool> {
        let offset = self.wire.offset();
        let bad = |why: &'static str| damaged(Compression::Lz4, offset, why);
        let size = self.take_u32()?;
        if size == 0 {
            if frame.header.content_bytes.is_some_and(|declared| declared != frame.content_bytes) {
                return Err(bad("the frame has another length than it declares").into());
            }
            if frame.header.has_content_checksum && self.take_u32()? != frame.content.finish_32() {
                return Err(bad("the checksum of a frame differs").into());
            }
            return Ok(false);
        }
        let packed_len = (size & !STORED) as usize;
        if packed_len > frame.header.block_bytes_max {
            return Err(bad("a block is larger than the frame allows").into());
        }
        self.packed.clear();
        if !self.wire.take_into(&mut self.packed, packed_len)? {
            return Err(truncated(Compression::Lz4, self.wire.offset()).into());
        }
        if frame.header.has_block_checksums
            && self.take_u32()? != XxHash32::oneshot(0, &self.packed)
        {
            return Err(bad("the checksum of a block differs").into());
        }
        let len = self
            .unpack(frame, size & STORED != 0)
            .map_err(|why| damaged(Compression::Lz4, offset, why))?;
        self.ready = HISTORY_BYTES..HISTORY_BYTES + len;
        if frame.header.has_content_checksum {
            frame.content.write(&self.decoded[self.ready.clone()]);
        }
        frame.content_bytes += len as u64;
        frame.block_bytes = len;
        Ok(true)
    }

    /// Decompresses `packed` into `decoded` after the history, and returns the number of bytes.
    fn unpack(
        &mut self,
        frame: &mut Lz4Frame,
        is_stored: bool,
    ) -> Result<usize, lz4_flex::block::DecompressError> {
        if frame.header.are_blocks_linked {
            // append the previous block to the history
            let end = HISTORY_BYTES + frame.block_bytes;
            let kept = (frame.history_bytes + frame.block_bytes).min(HISTORY_BYTES);
            self.decoded.copy_within(end - kept..end, HISTORY_BYTES - kept);
            frame.history_bytes = kept;
        }
        let (history, block) = self.decoded.split_at_mut(HISTORY_BYTES);
        let block = &mut block[..frame.header.block_bytes_max];
        if is_stored {
            block[..self.packed.len()].copy_from_slice(&self.packed);
            Ok(self.packed.len())
        } else if frame.history_bytes > 0 {
            decompress_into_with_dict(
                &self.packed,
                block,
                &history[HISTORY_BYTES - frame.history_bytes..],
            )
        } else {
            decompress_into(&self.packed, block)
        }
    }

    fn take_u32(&mut self) -> io::Result<u32> {
        let Some(&bytes) = self.wire.peek(4)?.first_chunk() else {
            return Err(truncated(Compression::Lz4, self.wire.offset()).into());
        };
        self.skip(4)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        if self.wire.skip(count)? {
            Ok(())
        } else {
            Err(truncated(Compression::Lz4, self.wire.offset()).into())
        }
    }
}

impl Read for Lz4 {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.ready.is_empty() {
                let n = buf.len().min(self.ready.len());
                buf[..n].copy_from_slice(&self.decoded[self.ready.start..self.ready.start + n]);
                self.ready.start += n;
                return Ok(n);
            }
            match self.frame.take() {
                None => {
                    if !self.start_frame()? {
                        return Ok(0);
                    }
                }
                Some(mut frame) => {
                    if self.next_block(&mut frame)? {
                        self.frame = Some(frame);
                    }
                }
            }
        }
    }
}

/// The sum of the declared content sizes. `None` unless every frame declares one and the file
/// consists of whole frames.
pub(super) fn decoded_size(source: &dyn ByteSource, cancel: &CancelToken) -> Option<u64> {
    let mut walk = Walk::new(source, cancel)?;
    let mut total = 0u64;
    while !walk.is_at_end() {
        let mut buf = [0; HEADER_BYTES_MAX];
        let bytes = walk.peek(&mut buf)?;
        if let Some(len) = skippable_bytes(bytes) {
            walk.skip(len)?;
            continue;
        }
        if !bytes.starts_with(&MAGIC) {
            return None;
        }
        let header = Lz4Header::parse(bytes).ok()??;
        let declared = header.content_bytes?;
        walk.skip(header.len as u64)?;
        let blocks = skip_blocks(&mut walk, &header)?;
        // the size of a block is limited, so a larger claim is false
        if declared > blocks.saturating_mul(header.block_bytes_max as u64) {
            return None;
        }
        walk.skip(if header.has_content_checksum { 4 } else { 0 })?;
        total = total.checked_add(declared)?;
    }
    Some(total)
}

/// Skips the blocks and the end mark of one frame, and returns the number of blocks.
fn skip_blocks(walk: &mut Walk<'_>, header: &Lz4Header) -> Option<u64> {
    let mut blocks = 0;
    loop {
        let size = u32::from_le_bytes(*walk.peek(&mut [0; 4])?.first_chunk()?);
        walk.skip(4)?;
        if size == 0 {
            return Some(blocks);
        }
        walk.skip(u64::from(size & !STORED) + if header.has_block_checksums { 4 } else { 0 })?;
        blocks += 1;
    }
}
