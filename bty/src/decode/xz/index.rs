//! The index at the end of each stream: the sizes of its blocks.
//!
//! ```text
//! index:   0x00 | number of records | records: unpadded size, decoded size
//!          | zeros to a multiple of 4 | CRC32
//! footer:  0..4 CRC32 of 4..10 | 4..8 size of the index / 4 - 1 | 8..10 flags | 10..12 "YZ"
//! ```
//! Integers are little-endian. Those of the index have 7 bits per byte, least significant first,
//! with the top bit set in all bytes but the last.

use std::io::{self, BufRead as _};

use super::super::{CompressedInput, Compression, damaged, truncated};
use super::{HEADER_BYTES as STREAM_HEADER_BYTES, MAGIC};
use crate::CancelToken;
use crate::source::ByteSource;

/// Maximum size of an index. A record has at least two bytes, so this allows millions of blocks.
const INDEX_BYTES_MAX: u64 = 16 << 20;
const STREAMS_MAX: usize = 64 << 10;
const HEADER_BYTES: u64 = STREAM_HEADER_BYTES as u64;
/// A header, a footer, and the smallest index.
const STREAM_BYTES_MIN: u64 = 32;
/// Padding is skipped in steps of this size, at most [`PADDING_STEPS_MAX`] times.
const PADDING_STEP: u64 = 4 << 10;
const PADDING_STEPS_MAX: usize = 1 << 10;

/// The decoded size of all streams together, or `None` when anything is unexpected, which the
/// decoder will report.
pub(in crate::decode) fn decoded_size(
    source: &dyn ByteSource,
    cancel: &CancelToken,
) -> Option<u64> {
    let mut end = source.len_bytes()?;
    let mut total = 0u64;
    for _ in 0..STREAMS_MAX {
        end = before_padding(source, end, cancel)?;
        let (start, decoded) = last_stream(source, end, cancel)?;
        total = total.checked_add(decoded)?;
        if start == 0 {
            return Some(total);
        }
        end = start;
    }
    None
}

/// The end of the last stream before the padding that ends at `end`.
fn before_padding(source: &dyn ByteSource, mut end: u64, cancel: &CancelToken) -> Option<u64> {
    for _ in 0..PADDING_STEPS_MAX {
        let step = end.min(PADDING_STEP);
        let bytes = read(source, end - step, step, cancel)?;
        let zeros = bytes.iter().rev().take_while(|&&byte| byte == 0).count() as u64;
        end -= zeros / 4 * 4;
        if zeros < step || end == 0 {
            return Some(end);
        }
    }
    None
}

/// The start and the decoded size of the stream that ends at `end`.
fn last_stream(source: &dyn ByteSource, end: u64, cancel: &CancelToken) -> Option<(u64, u64)> {
    if end < STREAM_BYTES_MIN || !end.is_multiple_of(4) {
        return None;
    }
    let footer = read(source, end - HEADER_BYTES, HEADER_BYTES, cancel)?;
    if &footer[10..12] != b"YZ" || crc32fast::hash(&footer[4..10]) != le32(&footer[0..4]) {
        return None;
    }
    let index_bytes = (u64::from(le32(&footer[4..8])) + 1) * 4;
    if index_bytes > INDEX_BYTES_MAX {
        return None;
    }
    let index_at = end.checked_sub(HEADER_BYTES + index_bytes)?;
    let (blocks_bytes, decoded) = sums(&read(source, index_at, index_bytes, cancel)?)?;
    let start = index_at.checked_sub(blocks_bytes)?.checked_sub(HEADER_BYTES)?;
    let header = read(source, start, HEADER_BYTES, cancel)?;
    (header.starts_with(&MAGIC) && header[6..8] == footer[8..10]).then_some((start, decoded))
}

/// The total size of the blocks of an index: in the file, and decoded.
fn sums(index: &[u8]) -> Option<(u64, u64)> {
    let (body, crc) = index.split_last_chunk::<4>()?;
    if body.first() != Some(&0) || crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let mut rest = &body[1..];
    let records = number(&mut rest)?;
    let (mut in_file, mut decoded) = (0u64, 0u64);
    for _ in 0..records {
        let unpadded = number(&mut rest)?;
        in_file = in_file.checked_add(unpadded.checked_next_multiple_of(4)?)?;
        decoded = decoded.checked_add(number(&mut rest)?)?;
    }
    (rest.len() < 4 && rest.iter().all(|&byte| byte == 0)).then_some((in_file, decoded))
}

/// Removes one integer from the front.
pub(super) fn number(rest: &mut &[u8]) -> Option<u64> {
    read_number(|| {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        Some(byte)
    })
}

fn read_number(mut next: impl FnMut() -> Option<u8>) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let byte = next()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            // the shortest form is the only valid one
            return (byte != 0 || shift == 0).then_some(value);
        }
    }
    None
}

fn push_number(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// The blocks of a stream, to be compared with its index. Takes the same memory for any number of
/// them.
#[derive(Default)]
pub(super) struct Records {
    count: u64,
    hasher: blake3::Hasher,
}

impl Records {
    pub(super) fn add(&mut self, unpadded: u64, decoded: u64) {
        self.count += 1;
        self.hasher.update(&unpadded.to_le_bytes());
        self.hasher.update(&decoded.to_le_bytes());
    }

    /// Reads the index and the footer, and compares them with the blocks and with the `header` of
    /// the stream.
    pub(super) fn check_end(
        &self,
        wire: &mut CompressedInput,
        header: &[u8; STREAM_HEADER_BYTES],
    ) -> io::Result<()> {
        let start = wire.offset();
        let mut input = IndexInput { wire, crc: crc32fast::Hasher::new(), failure: None };
        let is_equal = self.is_index(&mut input) == Some(true);
        if let Some(error) = input.failure {
            return Err(error);
        }
        let index_bytes = wire.offset() - start;
        if !is_equal {
            let why = "the index differs from the blocks";
            return Err(damaged(Compression::Xz, start, why).into());
        }
        let offset = wire.offset();
        let Some(&footer) = wire.peek(STREAM_HEADER_BYTES)?.first_chunk() else {
            return Err(truncated(Compression::Xz, offset).into());
        };
        if footer != self::footer(index_bytes, [header[6], header[7]]) {
            let why = "the stream ends with another footer than its header and index demand";
            return Err(damaged(Compression::Xz, offset, why).into());
        }
        wire.consume(STREAM_HEADER_BYTES);
        Ok(())
    }

    /// Reads the index. `None` when it cannot be read, or its checksum is wrong.
    fn is_index(&self, input: &mut IndexInput<'_>) -> Option<bool> {
        let start = input.wire.offset();
        let _indicator = input.next()?;
        if read_number(|| input.next())? != self.count {
            return Some(false);
        }
        let mut found = Self::default();
        for _ in 0..self.count {
            let unpadded = read_number(|| input.next())?;
            found.add(unpadded, read_number(|| input.next())?);
        }
        while !(input.wire.offset() - start).is_multiple_of(4) {
            if input.next()? != 0 {
                return Some(false);
            }
        }
        let expected = input.crc.clone().finalize().to_le_bytes();
        let is_valid = expected.iter().all(|&byte| input.next() == Some(byte));
        Some(is_valid && found.hasher.finalize() == self.hasher.finalize())
    }
}

/// Reads the bytes of an index and sums them up.
struct IndexInput<'a> {
    wire: &'a mut CompressedInput,
    crc: crc32fast::Hasher,
    /// Why there was no next byte.
    failure: Option<io::Error>,
}

impl IndexInput<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = match self.wire.peek(1) {
            Ok(&[byte, ..]) => byte,
            Ok(&[]) => {
                self.failure = Some(truncated(Compression::Xz, self.wire.offset()).into());
                return None;
            }
            Err(error) => {
                self.failure = Some(error);
                return None;
            }
        };
        self.wire.consume(1);
        self.crc.update(&[byte]);
        Some(byte)
    }
}

/// The index and the footer of a stream with one block.
pub(super) fn end_of_stream(unpadded: u64, decoded: u64, flags: [u8; 2]) -> Vec<u8> {
    let mut index = vec![0, 1];
    push_number(&mut index, unpadded);
    push_number(&mut index, decoded);
    index.resize(index.len().next_multiple_of(4), 0);
    let crc = crc32fast::hash(&index);
    index.extend_from_slice(&crc.to_le_bytes());
    let footer = footer(index.len() as u64, flags);
    index.extend_from_slice(&footer);
    index
}

fn footer(index_bytes: u64, flags: [u8; 2]) -> [u8; STREAM_HEADER_BYTES] {
    let size = u32::try_from(index_bytes / 4 - 1).unwrap_or(u32::MAX).to_le_bytes();
    let body = [size[0], size[1], size[2], size[3], flags[0], flags[1]];
    let crc = crc32fast::hash(&body).to_le_bytes();
    let mut footer = [0; STREAM_HEADER_BYTES];
    footer[..4].copy_from_slice(&crc);
    footer[4..10].copy_from_slice(&body);
    footer[10..].copy_from_slice(b"YZ");
    footer
}

fn read(source: &dyn ByteSource, offset: u64, len: u64, cancel: &CancelToken) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    let n = source.read_at(&mut bytes, offset, cancel).ok()?;
    (n == bytes.len()).then_some(bytes)
}

fn le32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
