//! The index of a packed image: which frame holds which part of the disk, and hashes of all data.

use super::format::{
    BLOCK_BYTES, BLOCK_ENTRY_BYTES, FRAME_ENTRY_BYTES, FRAMES_MAX, HEADER_BYTES, MAGIC, MAJOR,
    ZERO_FLAG, ZERO_FRAME_MAX, zero_frame_bytes,
};
use crate::{Digest, Error, ErrorKind, Result};

/// Smallest and largest allowed size of data frames in bytes; see [`is_frame_size`].
const FRAME_BYTES_MIN: u32 = 16 << 10;
const FRAME_BYTES_MAX: u32 = 1 << 20;

/// True if data frames may have up to `bytes` decoded bytes: a power of two from 16 KiB to 1 MiB.
pub(crate) fn is_frame_size(bytes: u32) -> bool {
    bytes.is_power_of_two() && (FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&bytes)
}

/// A frame of a packed image. All sizes and offsets are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackFrame {
    /// Offset on the disk.
    pub disk_offset: u64,
    /// Length of the decoded frame on the disk, in bytes.
    pub disk_bytes: u32,
    /// Offset in the file.
    pub file_offset: u64,
    /// Length of the encoded frame in the file, in bytes.
    pub file_bytes: u32,
    /// BLAKE3 hash of the decoded bytes; `None` for a frame of zeros.
    pub blake3: Option<[u8; 32]>,
    /// Position of its first block in [`PackIndex::block_hashes`].
    pub first_block: usize,
}

impl PackFrame {
    /// Number of started blocks; 0 for a frame of zeros, which has none in the block table.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.blake3.map_or(0, |_| self.disk_bytes.div_ceil(BLOCK_BYTES) as usize)
    }
}

/// The index of a packed image, checked for consistency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackIndex {
    disk_bytes: u64,
    frame_bytes: u32,
    frames: Vec<PackFrame>,
    block_hashes: Vec<u64>,
    sha256: Digest,
}

impl PackIndex {
    /// Parses an index, without the skippable frame around it. Allocates only what `bytes` prove.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when it is not an index, was written by a newer version, or
    /// contradicts itself.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let header = IndexHeader::parse(bytes, bytes.len() as u64)?;
        let tables = &bytes[HEADER_BYTES..];
        let (frame_table, block_table) = tables.split_at(header.frames * FRAME_ENTRY_BYTES);
        let frames = header.read_frames(frame_table)?;
        let block_hashes = block_table
            .chunks_exact(BLOCK_ENTRY_BYTES)
            .map(|entry| u64::from_le_bytes(entry.try_into().expect("8 bytes")))
            .collect();
        Ok(Self {
            disk_bytes: header.disk_bytes,
            frame_bytes: header.frame_bytes,
            frames,
            block_hashes,
            sha256: Digest::of(bytes),
        })
    }

    /// Size of the disk image.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    /// Maximum number of decoded bytes in a data frame.
    #[must_use]
    pub fn frame_bytes(&self) -> u32 {
        self.frame_bytes
    }

    /// All frames, in the order of the disk and of the file. They cover the disk without gaps.
    #[must_use]
    pub fn frames(&self) -> &[PackFrame] {
        &self.frames
    }

    /// First 8 bytes of the BLAKE3 hash of each block of the data frames, as a little-endian
    /// number. They find candidates; only [`PackFrame::blake3`] proves content.
    #[must_use]
    pub fn block_hashes(&self) -> &[u64] {
        &self.block_hashes
    }

    /// Bytes of the disk that are not in frames of zeros.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.frames.iter().filter(|f| f.blake3.is_some()).map(|f| u64::from(f.disk_bytes)).sum()
    }

    /// Length of all frames: the offset of the index's skippable frame in the file.
    #[must_use]
    pub fn frames_file_bytes(&self) -> u64 {
        self.frames.last().map_or(0, |last| last.file_offset + u64::from(last.file_bytes))
    }

    /// SHA-256 of the index, which a catalog can promise: it proves the whole image.
    #[must_use]
    pub fn sha256(&self) -> Digest {
        self.sha256
    }
}

/// The header of an index, checked for consistency.
pub(super) struct IndexHeader {
    disk_bytes: u64,
    frame_bytes: u32,
    pub(super) frames: usize,
    blocks: usize,
    pub(super) frames_file_bytes: u64,
}

impl IndexHeader {
    /// Parses the header at the start of `bytes`, of an index that has `index_bytes` in all.
    pub(super) fn parse(bytes: &[u8], index_bytes: u64) -> Result<Self> {
        let Some(header) = bytes.get(..HEADER_BYTES).filter(|header| header.starts_with(MAGIC))
        else {
            return Err(damaged("it has no header"));
        };
        let u16_at = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4"));
        let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8"));
        if u16_at(8) != MAJOR || u64_at(16) != 0 {
            let message = format!(
                "the index of the packed image has version {}, features {:#x}",
                u16_at(8),
                u64_at(16)
            );
            return Err(Error::new(ErrorKind::Format, message).hint("use a newer version of bty"));
        }
        let (frames, blocks) = (u64_at(48), u64_at(56));
        let is_whole = u32_at(12) as usize == HEADER_BYTES
            && u32_at(40) == BLOCK_BYTES
            && is_frame_size(u32_at(44))
            && header[72..].iter().all(|&byte| byte == 0);
        let expected = |frames: u64| {
            let blocks = blocks.checked_mul(BLOCK_ENTRY_BYTES as u64)?;
            blocks.checked_add(frames * FRAME_ENTRY_BYTES as u64 + HEADER_BYTES as u64)
        };
        if !is_whole || frames > FRAMES_MAX || expected(frames) != Some(index_bytes) {
            return Err(damaged("its header contradicts its length"));
        }
        // every frame has a byte in the file and on the disk, and only the last block is short
        let is_possible = frames <= u64_at(32).min(u64_at(64))
            && blocks <= u64_at(32).div_ceil(u64::from(BLOCK_BYTES));
        if !is_possible {
            return Err(damaged("its header has more frames or blocks than the disk"));
        }
        Ok(Self {
            disk_bytes: u64_at(32),
            frame_bytes: u32_at(44),
            frames: usize::try_from(frames).expect("at most 2^27"),
            blocks: usize::try_from(blocks).map_err(|_| damaged("it has too many blocks"))?,
            frames_file_bytes: u64_at(64),
        })
    }

    fn read_frames(&self, table: &[u8]) -> Result<Vec<PackFrame>> {
        let mut frames = Vec::with_capacity(self.frames);
        let (mut disk_offset, mut file_offset, mut first_block) = (0, 0, 0);
        for entry in table.chunks_exact(FRAME_ENTRY_BYTES) {
            let frame = self
                .read_frame(entry, disk_offset, file_offset, first_block)
                .ok_or_else(|| damaged(&format!("frame {} is not possible", frames.len())))?;
            disk_offset += u64::from(frame.disk_bytes);
            file_offset += u64::from(frame.file_bytes);
            first_block += frame.blocks();
            frames.push(frame);
        }
        let is_complete = disk_offset == self.disk_bytes
            && file_offset == self.frames_file_bytes
            && first_block == self.blocks;
        is_complete.then_some(frames).ok_or_else(|| damaged("its frames contradict its header"))
    }

    /// `None` if no packed image has such a frame.
    fn read_frame(
        &self,
        entry: &[u8],
        disk_offset: u64,
        file_offset: u64,
        first_block: usize,
    ) -> Option<PackFrame> {
        let decoded = u32::from_le_bytes(entry[..4].try_into().expect("4"));
        let file_bytes = u32::from_le_bytes(entry[4..8].try_into().expect("4"));
        let blake3: [u8; 32] = entry[8..].try_into().expect("32");
        let (disk_bytes, is_zero) = (decoded & !ZERO_FLAG, decoded & ZERO_FLAG != 0);
        let is_possible = if is_zero {
            (1..=ZERO_FRAME_MAX).contains(&disk_bytes)
                && file_bytes == zero_frame_bytes(disk_bytes)
                && blake3 == [0; 32]
        } else {
            (1..=self.frame_bytes).contains(&disk_bytes)
                // only the last frame may end within a block
                && (disk_bytes.is_multiple_of(BLOCK_BYTES)
                    || disk_offset + u64::from(disk_bytes) == self.disk_bytes)
                && (1..=encoded_bytes_max(disk_bytes)).contains(&file_bytes)
        };
        let blake3 = (!is_zero).then_some(blake3);
        is_possible.then_some(PackFrame {
            disk_offset,
            disk_bytes,
            file_offset,
            file_bytes,
            blake3,
            first_block,
        })
    }
}

/// Maximum length of a data frame: content that does not compress, and the overhead of zstd.
fn encoded_bytes_max(disk_bytes: u32) -> u32 {
    disk_bytes + disk_bytes / 256 + 64
}

fn damaged(why: &str) -> Error {
    Error::new(ErrorKind::Format, format!("the index of the packed image is damaged: {why}"))
        .hint("fetch or pack the image again")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The index of an image with one data frame of 10,000 bytes and 1 MiB of zeros before it.
    pub(crate) fn small_index() -> Vec<u8> {
        let zeros = 1 << 20;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&MAJOR.to_le_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(&(u64::from(zeros) + 10_000).to_le_bytes());
        bytes.extend_from_slice(&BLOCK_BYTES.to_le_bytes());
        bytes.extend_from_slice(&(64u32 << 10).to_le_bytes());
        bytes.extend_from_slice(&2u64.to_le_bytes());
        bytes.extend_from_slice(&3u64.to_le_bytes());
        bytes.extend_from_slice(&(u64::from(zero_frame_bytes(zeros)) + 500).to_le_bytes());
        bytes.resize(HEADER_BYTES, 0);
        bytes.extend_from_slice(&(zeros | ZERO_FLAG).to_le_bytes());
        bytes.extend_from_slice(&zero_frame_bytes(zeros).to_le_bytes());
        bytes.extend_from_slice(&[0; 32]);
        bytes.extend_from_slice(&10_000u32.to_le_bytes());
        bytes.extend_from_slice(&500u32.to_le_bytes());
        bytes.extend_from_slice(&[7; 32]);
        bytes.extend_from_slice(&[9; 24]);
        bytes
    }

    #[test]
    fn an_index_is_read_as_written() {
        let bytes = small_index();
        let index = PackIndex::parse(&bytes).unwrap();
        assert_eq!(index.disk_bytes(), (1 << 20) + 10_000);
        assert_eq!(index.data_bytes(), 10_000);
        assert_eq!(index.block_hashes(), [u64::from_le_bytes([9; 8]); 3]);
        assert_eq!(index.sha256(), Digest::of(&bytes));
        let [zeros, data] = index.frames() else { panic!("{index:?}") };
        assert_eq!((zeros.disk_offset, zeros.blake3, zeros.blocks()), (0, None, 0));
        assert_eq!((data.disk_offset, data.blake3, data.blocks()), (1 << 20, Some([7; 32]), 3));
        assert_eq!(data.file_offset, u64::from(zeros.file_bytes));
        assert_eq!(index.frames_file_bytes(), data.file_offset + 500);
    }

    #[test]
    fn an_index_of_a_newer_version_says_so() {
        for at in [8, 16] {
            let mut bytes = small_index();
            bytes[at] = 2;
            let error = PackIndex::parse(&bytes).unwrap_err();
            assert!(error.next_step().is_some_and(|step| step.contains("newer version")));
        }
        let mut bytes = small_index();
        // a minor version and features to ignore
        (bytes[10], bytes[24]) = (9, 9);
        assert!(PackIndex::parse(&bytes).is_ok());
    }

    #[test]
    fn numbers_that_contradict_each_other_are_refused() {
        // every byte of the header but the version and the ignored features, and of both entries
        let header = (0..8).chain(12..16).chain(32..HEADER_BYTES);
        let entries = (0..2).flat_map(|n| {
            let start = HEADER_BYTES + n * FRAME_ENTRY_BYTES;
            start..start + 8
        });
        for at in header.chain(entries) {
            let mut bytes = small_index();
            bytes[at] ^= 0x81;
            let error = PackIndex::parse(&bytes).expect_err(&format!("byte {at}"));
            assert_eq!(error.kind(), ErrorKind::Format);
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(
            changes in proptest::collection::vec((0usize..256, proptest::num::u8::ANY), 0..8),
            len in 0usize..256,
        ) {
            let mut bytes = small_index();
            let end = bytes.len();
            for (at, byte) in changes {
                bytes[at % end] = byte;
            }
            bytes.truncate(len.max(1));
            let _ = PackIndex::parse(&bytes);
        }
    }
}
