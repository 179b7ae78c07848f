//! Blocks of xz, and their decoding as streams of their own.
//!
//! ```text
//! block:   header | LZMA2 chunks | zeros to a multiple of 4 | check
//! header:  size / 4 - 1 | flags: bits 0..1 filters - 1, 6 compressed size, 7 decoded size
//!          | sizes | filters: id, length of properties, properties | zeros | CRC32
//! chunk:   00 end of the block
//!          | 01 or 02, size - 1 u16, data
//!          | 80..ff, decoded size - 1 (bits 0..4 and u16), size - 1 u16,
//!            properties u8 if c0 or more, data
//! ```
//! The sizes of chunks are big-endian, and everything else is little-endian. The last filter is
//! always LZMA2, and no filter changes the size of the data.

use std::io::{self, BufRead as _};
use std::sync::Arc;

use liblzma::stream::{Action, Error as LzmaError, Status, Stream};

use super::super::parallel::{Job, fill_up};
use super::super::zero_parts::ZeroParts;
use super::super::{CompressedInput, Compression, damaged, truncated};
use super::index::{end_of_stream, number};
use super::{HEADER_BYTES, explain, new_decoder};
use crate::Result;

const LZMA2: u64 = 0x21;

/// The header of a block, with a valid checksum.
pub(super) struct XzBlockHeader {
    bytes: Vec<u8>,
    pub(super) dictionary_bytes: u64,
    /// What the header claims, if anything.
    encoded_bytes: Option<u64>,
    decoded_bytes: Option<u64>,
}

impl XzBlockHeader {
    /// Reads the header at the start of `wire`, which is not at its end.
    pub(super) fn read(wire: &mut CompressedInput) -> io::Result<Self> {
        let offset = wire.offset();
        let len = wire.peek(1)?.first().map_or(0, |&size| (usize::from(size) + 1) * 4);
        let bytes = match wire.peek(len)?.get(..len) {
            Some(bytes) => bytes.to_vec(),
            None => return Err(truncated(Compression::Xz, offset + len as u64).into()),
        };
        let header = Self::parse(bytes).map_err(|error| explain(error, offset))?;
        wire.consume(len);
        Ok(header)
    }

    fn parse(bytes: Vec<u8>) -> std::result::Result<Self, LzmaError> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(LzmaError::Data)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(LzmaError::Data);
        }
        let flags = *body.get(1).ok_or(LzmaError::Data)?;
        if flags & 0x3c != 0 {
            return Err(LzmaError::Options);
        }
        let mut rest = &body[2..];
        let mut size = |bit| (flags & bit != 0).then(|| number(&mut rest).ok_or(LzmaError::Data));
        let (encoded_bytes, decoded_bytes) = (size(0x40).transpose()?, size(0x80).transpose()?);
        let mut filter = (0, &body[..0]);
        for _ in 0..=flags & 3 {
            filter = take_filter(&mut rest).ok_or(LzmaError::Data)?;
        }
        let (LZMA2, &[bits]) = filter else { return Err(LzmaError::Options) };
        if bits > 40 || rest.iter().any(|&byte| byte != 0) {
            return Err(LzmaError::Options);
        }
        let dictionary_bytes = match u64::from(bits) {
            40 => u64::from(u32::MAX),
            bits => (2 | (bits & 1)) << (bits / 2 + 11),
        };
        Ok(Self { dictionary_bytes, encoded_bytes, decoded_bytes, bytes })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Memory for decoding the block in one piece, as far as it is known.
    pub(super) fn cost(&self, walk: &BlockWalk) -> u64 {
        let decoded = walk.decoded_bytes.max(self.decoded_bytes.unwrap_or(0));
        let encoded = walk.encoded_bytes.max(self.encoded_bytes.unwrap_or(0));
        self.dictionary_bytes.saturating_add(decoded).saturating_add(encoded)
    }
}

/// Removes the id and the properties of a filter from the front.
fn take_filter<'a>(rest: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let id = number(rest)?;
    let len = usize::try_from(number(rest)?).ok()?;
    let (properties, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some((id, properties))
}

/// Finds the end of a block, chunk by chunk.
#[derive(Default)]
pub(super) struct BlockWalk {
    /// The flags of the stream, which say how long the check is.
    flags: [u8; 2],
    header_bytes: u64,
    encoded_bytes: u64,
    decoded_bytes: u64,
}

impl BlockWalk {
    pub(super) fn new(stream: &[u8; HEADER_BYTES], header: &XzBlockHeader) -> Self {
        Self {
            flags: [stream[6], stream[7]],
            header_bytes: header.bytes.len() as u64,
            encoded_bytes: 0,
            decoded_bytes: 0,
        }
    }

    /// Size of the decoded chunks so far.
    pub(super) fn decoded_bytes(&self) -> u64 {
        self.decoded_bytes
    }

    /// Size of the block without padding, for the index.
    pub(super) fn unpadded_bytes(&self) -> u64 {
        self.header_bytes + self.encoded_bytes + self.check_bytes() as u64
    }

    fn check_bytes(&self) -> usize {
        const CHECK_BYTES: [usize; 6] = [0, 4, 8, 16, 32, 64];
        CHECK_BYTES[usize::from(self.flags[1] & 0x0f).div_ceil(3)]
    }

    /// Appends the next chunk to `to`, and returns true. At the end of the block, appends what ends
    /// a stream with just this block, and returns false.
    pub(super) fn append_chunk(
        &mut self,
        wire: &mut CompressedInput,
        to: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let offset = wire.offset();
        let head = wire.peek(5)?;
        let control = head.first().copied();
        let size =
            |at: usize| head.get(at..at + 2).map(|b| usize::from(b[0]) << 8 | usize::from(b[1]));
        let (encoded, decoded) = match control {
            Some(0) => (1, 0),
            Some(1 | 2) => match size(1) {
                Some(len) => (len + 4, len + 1),
                None => return Err(truncated(Compression::Xz, offset).into()),
            },
            Some(control @ 0x80..) => match (size(1), size(3)) {
                (Some(low), Some(len)) => {
                    let high = usize::from(control & 0x1f) << 16;
                    (len + 6 + usize::from(control >= 0xc0), (high | low) + 1)
                }
                _ => return Err(truncated(Compression::Xz, offset).into()),
            },
            Some(_) => return Err(damaged(Compression::Xz, offset, LzmaError::Data).into()),
            None => return Err(truncated(Compression::Xz, offset).into()),
        };
        take(wire, to, encoded)?;
        self.encoded_bytes += encoded as u64;
        self.decoded_bytes += decoded as u64;
        if control != Some(0) {
            return Ok(true);
        }
        let padding = (self.encoded_bytes.wrapping_neg() & 3) as usize;
        take(wire, to, padding + self.check_bytes())?;
        to.extend(end_of_stream(self.unpadded_bytes(), self.decoded_bytes, self.flags));
        Ok(false)
    }
}

fn take(wire: &mut CompressedInput, to: &mut Vec<u8>, count: usize) -> io::Result<()> {
    if wire.take_into(to, count)? {
        Ok(())
    } else {
        Err(truncated(Compression::Xz, wire.offset()).into())
    }
}

/// A block as a stream of its own.
#[derive(Default)]
pub(super) struct XzBlockJob {
    pub(super) encoded: Vec<u8>,
    decoded_bytes: u64,
    wire_offset: u64,
    zero_parts: Option<Arc<ZeroParts>>,
}

impl XzBlockJob {
    /// Sets what is known once the block is complete.
    pub(super) fn prepare(
        &mut self,
        decoded_bytes: u64,
        wire_offset: u64,
        zero_parts: &Arc<ZeroParts>,
    ) {
        self.decoded_bytes = decoded_bytes;
        self.wire_offset = wire_offset;
        self.zero_parts = Some(Arc::clone(zero_parts));
    }
}

impl Job for XzBlockJob {
    type Decoder = ();

    fn capacity(&self) -> u64 {
        self.encoded.capacity() as u64
    }

    fn clear(&mut self) {
        self.encoded.clear();
    }

    fn decode(&mut self, (): &mut (), out: &mut Vec<u8>) -> Result<()> {
        // one byte more, so that the decoder does not stop at the full buffer before it has seen
        // the end
        fill_up(out, self.decoded_bytes + 1)?;
        let mut decoder = new_decoder()?;
        let result = decode_whole(&mut decoder, &self.encoded, out);
        out.truncate(usize::try_from(decoder.total_out()).unwrap_or(usize::MAX));
        result.map_err(|error| explain(error, self.wire_offset))?;
        if let Some(zero_parts) = &self.zero_parts {
            zero_parts.remember(&self.encoded, out);
        }
        Ok(())
    }
}

/// Decodes `encoded`, which must end with its stream, into `out`.
fn decode_whole(
    decoder: &mut Stream,
    encoded: &[u8],
    out: &mut [u8],
) -> std::result::Result<(), LzmaError> {
    loop {
        let (taken, made) = (decoder.total_in(), decoder.total_out());
        let rest = encoded.get(taken as usize..).unwrap_or(&[]);
        let place = out.get_mut(made as usize..).unwrap_or(&mut []);
        if let Status::StreamEnd = decoder.process(rest, place, Action::Finish)? {
            return Ok(());
        }
        if (taken, made) == (decoder.total_in(), decoder.total_out()) {
            return Err(LzmaError::Data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_check_depends_on_its_kind() {
        let len = |check| BlockWalk { flags: [0, check], ..BlockWalk::default() }.check_bytes();
        assert_eq!(
            [0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15].map(len),
            [0, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64]
        );
    }
}
