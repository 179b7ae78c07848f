//! The bytes of a packed image: the header of its index, zero frames, and the seek table.
//!
//! ```text
//! frame … frame │ skippable frame: index │ skippable frames: reserved │ skippable frame: seek table
//! ```
//!
//! All numbers are little-endian. The seek table follows the "zstd seekable format" 0.1.0, without
//! checksums; it only tells where the index is. The index consists of a header of
//! [`HEADER_BYTES`], a frame table and a block table:
//!
//! | offset | bytes | header field |
//! |---|---|---|
//! | 0 | 8 | [`MAGIC`] |
//! | 8 | 2, 2 | major version (1; others are refused), minor version (ignored) |
//! | 12 | 4 | length of the header |
//! | 16 | 8 | features that a reader must know (none are defined) |
//! | 24 | 8 | features that a reader may ignore |
//! | 32 | 8 | size of the disk image |
//! | 40 | 4 | size of a block: 4096 |
//! | 44 | 4 | maximum number of decoded bytes in a data frame |
//! | 48 | 8 | number of frames |
//! | 56 | 8 | number of blocks in data frames |
//! | 64 | 8 | length of all frames: the offset of the index's skippable frame in the file |
//! | 72 | 56 | zeros |
//!
//! The frame table has an entry for each frame, in the order of the disk: the decoded length (bit
//! 31 marks a frame of zeros), the encoded length, and the BLAKE3 hash of the decoded bytes (zeros
//! for a frame of zeros). The block table has the first 8 bytes of the BLAKE3 hash of each block of
//! the data frames; only the last block of the image may be shorter than 4096 bytes.

/// First bytes of an index.
pub(crate) const MAGIC: &[u8; 8] = b"btypack\0";

/// The version that is written. Readers accept every minor version.
pub(crate) const MAJOR: u16 = 1;

/// Length of the header of an index, in bytes.
pub(crate) const HEADER_BYTES: usize = 128;

/// Length of an entry of the frame table, in bytes.
pub(crate) const FRAME_ENTRY_BYTES: usize = 40;

/// Length of an entry of the block table, in bytes.
pub(crate) const BLOCK_ENTRY_BYTES: usize = 8;

/// Size of a block: the unit in which content is found on another disk.
pub const BLOCK_BYTES: u32 = 4096;

/// Maximum number of decoded bytes in a data frame, unless an option says otherwise.
pub(crate) const FRAME_BYTES: u32 = 64 << 10;

/// Marks a frame of zeros in the decoded length.
pub(crate) const ZERO_FLAG: u32 = 1 << 31;

/// Maximum number of decoded bytes in a frame of zeros.
pub(crate) const ZERO_FRAME_MAX: u32 = 64 << 20;

/// Maximum number of frames in the seekable format.
pub(crate) const FRAMES_MAX: u64 = 1 << 27;

/// Magic number of the skippable frame with the index.
pub(crate) const INDEX_FRAME: u32 = 0x184d_2a5b;

/// Magic number of the skippable frame with the seek table.
pub(crate) const SEEK_TABLE_FRAME: u32 = 0x184d_2a5e;

/// Magic number at the end of a seek table.
pub(crate) const SEEK_TABLE_END: u32 = 0x8f92_eab1;

/// Length of the magic number and the size of a skippable frame, in bytes.
pub(crate) const SKIPPABLE_HEADER_BYTES: u64 = 8;

/// Length of the end of a seek table: number of frames, descriptor, magic number.
pub(crate) const SEEK_TABLE_FOOTER_BYTES: u64 = 9;

/// Length of an entry of a seek table: encoded and decoded length.
pub(crate) const SEEK_ENTRY_BYTES: u64 = 8;

/// Decoded bytes of one block of a frame of zeros: the maximum of zstd.
const ZERO_BLOCK: u32 = 128 << 10;

const ZERO_HEADER_BYTES: u32 = 10;

/// Length of the encoded frame of `len` zeros, in bytes.
pub(crate) fn zero_frame_bytes(len: u32) -> u32 {
    ZERO_HEADER_BYTES + 4 * len.div_ceil(ZERO_BLOCK)
}

/// The zstd frame (RFC 8878) of `len` zeros, at least one: a window of 128 KiB, so that decoders
/// need little memory, the decoded length, and blocks that repeat one byte.
pub(crate) fn zero_frame(len: u32) -> Vec<u8> {
    let mut frame = Vec::with_capacity(zero_frame_bytes(len) as usize);
    frame.extend_from_slice(&0xfd2f_b528_u32.to_le_bytes());
    // a decoded length of 4 bytes; a window of 2^(10 + 7) bytes
    frame.extend_from_slice(&[0b1000_0000, 7 << 3]);
    frame.extend_from_slice(&len.to_le_bytes());
    let mut rest = len;
    while rest > 0 {
        let block = rest.min(ZERO_BLOCK);
        rest -= block;
        let (is_last, repeat) = (u32::from(rest == 0), 1 << 1);
        let header = (is_last | repeat | block << 3).to_le_bytes();
        frame.extend_from_slice(&header[..3]);
        frame.push(0);
    }
    frame
}

/// The magic number and the size of a skippable frame with `content_bytes`. `None` if it is too
/// large for one.
pub(crate) fn skippable_header(magic: u32, content_bytes: u64) -> Option<[u8; 8]> {
    let mut header = [0; 8];
    header[..4].copy_from_slice(&magic.to_le_bytes());
    header[4..].copy_from_slice(&u32::try_from(content_bytes).ok()?.to_le_bytes());
    Some(header)
}

/// Appends the skippable frame with the seek table of `entries`: encoded and decoded lengths.
pub(crate) fn write_seek_table(
    out: &mut Vec<u8>,
    entries: impl ExactSizeIterator<Item = (u32, u32)>,
) -> Option<()> {
    let count = u32::try_from(entries.len()).ok()?;
    let content = SEEK_ENTRY_BYTES * u64::from(count) + SEEK_TABLE_FOOTER_BYTES;
    out.extend_from_slice(&skippable_header(SEEK_TABLE_FRAME, content)?);
    for (encoded, decoded) in entries {
        out.extend_from_slice(&encoded.to_le_bytes());
        out.extend_from_slice(&decoded.to_le_bytes());
    }
    out.extend_from_slice(&count.to_le_bytes());
    out.push(0);
    out.extend_from_slice(&SEEK_TABLE_END.to_le_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_zeros_decode_to_zeros() {
        for len in [1, 4096, ZERO_BLOCK - 1, ZERO_BLOCK, ZERO_BLOCK + 1, 5 << 20] {
            let frame = zero_frame(len);
            assert_eq!(frame.len(), zero_frame_bytes(len) as usize, "{len}");
            let decoded = zstd::decode_all(&frame[..]).unwrap();
            assert_eq!(decoded.len(), len as usize);
            assert!(decoded.iter().all(|&byte| byte == 0), "{len}");
        }
    }
}
