//! Headers of zstd frames and blocks, [RFC 8878](https://www.rfc-editor.org/rfc/rfc8878) section
//! 3.1.
//!
//! ```text
//! frame:  magic 28 b5 2f fd | descriptor u8 | window u8 unless single segment
//!         | dictionary id 0, 1, 2 or 4 bytes | content size 0, 1, 2, 4 or 8 bytes | blocks
//!         | XXH64, low 4 bytes, if the descriptor says so
//! descriptor, bits:  7..6 length of content size | 5 single segment | 3 reserved | 2 checksum
//!         | 1..0 length of dictionary id
//! block:  3 bytes: bit 0 last | 1..2 type: raw, run, compressed, reserved | 3..23 size
//!         | data (one byte for a run)
//! skippable frame:  magic 50..5f 2a 4d 18 | length u32 | that many bytes
//! ```
//! All little-endian.

pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The longest frame header, magic included.
pub(super) const HEADER_BYTES_MAX: usize = 18;
/// Maximum decoded size of a block.
pub(super) const BLOCK_BYTES_MAX: u64 = 128 << 10;

/// The structure at a frame boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    Frame(FrameHeader),
    /// Number of bytes to skip, including the header of eight bytes.
    Skippable(u64),
    /// Too few bytes to decide.
    Short,
    /// An invalid frame header.
    Broken,
    /// Neither a frame nor a skippable frame.
    Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Length of the header in bytes.
    pub(super) len: usize,
    pub(super) window_bytes: u64,
    /// Zero if no dictionary is needed.
    pub(super) dictionary_id: u32,
    pub(super) content_bytes: Option<u64>,
    pub(super) has_checksum: bool,
}

impl Head {
    /// Parses `bytes`; [`HEADER_BYTES_MAX`] are enough.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        if let Some(len) = super::super::skippable_bytes(bytes) {
            return Self::Skippable(len);
        }
        if !bytes.starts_with(&MAGIC) {
            let magic = &bytes[..bytes.len().min(4)];
            let may_become_one = magic.len() < 4 && MAGIC.starts_with(magic);
            let may_be_skippable = bytes.len() < 8 && super::super::may_be_skippable(bytes);
            return if may_become_one || may_be_skippable { Self::Short } else { Self::Foreign };
        }
        let Some(&descriptor) = bytes.get(4) else { return Self::Short };
        if descriptor & 0x08 != 0 {
            return Self::Broken;
        }
        let is_single_segment = descriptor & 0x20 != 0;
        let dictionary_at = if is_single_segment { 5 } else { 6 };
        let dictionary_len = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let content_at = dictionary_at + dictionary_len;
        let content_len = match descriptor >> 6 {
            0 => usize::from(is_single_segment),
            1 => 2,
            2 => 4,
            _ => 8,
        };
        let len = content_at + content_len;
        if bytes.len() < len {
            return Self::Short;
        }
        let content_bytes = (content_len > 0).then(|| {
            let written = little_endian(&bytes[content_at..len]);
            if content_len == 2 { written + 256 } else { written }
        });
        Self::Frame(FrameHeader {
            len,
            window_bytes: if is_single_segment {
                content_bytes.unwrap_or(0)
            } else {
                window_bytes(bytes[5])
            },
            // at most four bytes
            dictionary_id: little_endian(&bytes[dictionary_at..content_at]) as u32,
            content_bytes,
            has_checksum: descriptor & 0x04 != 0,
        })
    }
}

/// The window size in bytes: a power of two from 1 KiB on, plus up to seven eighths of it.
fn window_bytes(descriptor: u8) -> u64 {
    let base = 1u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) is_last: bool,
    /// Length of the data after the header, in bytes.
    pub(super) data_len: usize,
}

impl BlockHeader {
    pub(super) const LEN: usize = 3;

    /// Parses a block header; `None` for the reserved type.
    pub(super) fn parse(bytes: [u8; 3]) -> Option<Self> {
        let value = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
        let data_len = match value >> 1 & 3 {
            0 | 2 => (value >> 3) as usize,
            1 => 1,
            _ => return None,
        };
        Some(Self { is_last: value & 1 != 0, data_len })
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}
