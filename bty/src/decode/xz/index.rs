//! The decoded size of an xz file, from the index at the end of each stream.
//!
//! ```text
//! stream header, 12 bytes:  0..6 magic | 6..8 flags | 8..12 CRC32 of the flags
//! index:   0x00 | number of records | records: unpadded size, decoded size
//!          | zeros to a multiple of 4 | CRC32
//! stream footer, 12 bytes:  0..4 CRC32 of 4..10 | 4..8 size of the index / 4 - 1 | 8..10 flags
//!          | 10..12 "YZ"
//! ```
//! Integers are little-endian. Those of the index have 7 bits per byte, least significant first,
//! with the top bit set in all bytes but the last.

use super::MAGIC;
use crate::CancelToken;
use crate::source::ByteSource;

/// Maximum size of an index. A record has at least two bytes, so this allows millions of blocks.
const INDEX_BYTES_MAX: u64 = 16 << 20;
const STREAMS_MAX: usize = 64 << 10;
const HEADER_BYTES: u64 = 12;
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
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn read(source: &dyn ByteSource, offset: u64, len: u64, cancel: &CancelToken) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    let n = source.read_at(&mut bytes, offset, cancel).ok()?;
    (n == bytes.len()).then_some(bytes)
}

fn le32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
