//! The parts of a disk that a delta flash treats differently, and the pieces in which it is read.

use std::ops::Range;

use crate::extent::BUFFER_BYTES;
use crate::image::HEAD_BYTES;
use crate::pack::{BLOCK_BYTES, PackFrame, PackIndex};
use crate::size::{MIB, align_down};

/// Maximum number of data blocks in an image: 32 GiB of data. Limits the memory for hashes.
const BLOCKS_MAX: usize = 8 << 20;

/// A block in bytes.
pub(super) const BLOCK: u64 = BLOCK_BYTES as u64;

/// Where a delta flash may find and keep old content on one disk. All in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Size of the disk image.
    image_bytes: u64,
    /// The start of the last MiB of the disk, which is wiped before the first write, since it may
    /// hold a backup GPT that boots the old system.
    tail: u64,
}

impl Layout {
    /// `None` if the image does not fit the disk, or has a layout that packing does not produce.
    pub(super) fn new(index: &PackIndex, disk_bytes: u64) -> Option<Self> {
        let is_usual = index.disk_bytes() <= disk_bytes
            && index.disk_bytes() / BLOCK < u64::from(u32::MAX - 8)
            && index.block_hashes().len() <= BLOCKS_MAX
            && index.frames().iter().all(|frame| {
                let end = frame.disk_offset + u64::from(frame.disk_bytes);
                let crosses_head = frame.disk_offset < HEAD && end > HEAD;
                frame.disk_offset.is_multiple_of(BLOCK) && (frame.blake3.is_none() || !crosses_head)
            });
        let tail = disk_bytes.saturating_sub(MIB);
        is_usual.then_some(Self { image_bytes: index.disk_bytes(), tail })
    }

    /// The bytes in which old content is looked for: those of the image that are not wiped.
    pub(super) fn scanned(&self) -> Range<u64> {
        HEAD..align_down(self.image_bytes.min(self.tail), BLOCK).max(HEAD)
    }

    /// True if all of `frame` lies in the scanned range.
    pub(super) fn is_scanned(&self, frame: &PackFrame) -> bool {
        let Range { start, end } = self.scanned();
        frame.disk_offset >= start && frame.disk_offset + u64::from(frame.disk_bytes) <= end
    }
}

/// The first MiB, which is written last.
pub(super) const HEAD: u64 = HEAD_BYTES as u64;

/// True if `frame` lies in the first MiB.
pub(super) fn is_head(frame: &PackFrame) -> bool {
    frame.disk_offset < HEAD
}

/// A part of the disk that fits into one buffer: several frames of data, or a part of a frame of
/// zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) len: usize,
    /// The data frames in it; empty in a frame of zeros.
    pub(super) frames: Range<usize>,
}

/// Which of the scanned range is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScanPart {
    /// The places of data.
    Data,
    /// The places where the image has zeros. The old disk may have blocks of the image there.
    Zeros,
    /// All of it.
    All,
}

/// Number of bytes in `part` of the scanned range.
pub(super) fn region_bytes(index: &PackIndex, layout: Layout, part: ScanPart) -> u64 {
    pieces(index, layout, part).map(|piece| piece.len as u64).sum()
}

/// Cuts `part` of the scanned range into pieces, in the order of the disk.
pub(super) fn pieces(
    index: &PackIndex,
    layout: Layout,
    part: ScanPart,
) -> impl Iterator<Item = Piece> + '_ {
    all_pieces(index, layout).filter(move |piece| match part {
        ScanPart::Data => !piece.frames.is_empty(),
        ScanPart::Zeros => piece.frames.is_empty(),
        ScanPart::All => true,
    })
}

fn all_pieces(index: &PackIndex, layout: Layout) -> impl Iterator<Item = Piece> + '_ {
    let frames = index.frames();
    let Range { start, end } = layout.scanned();
    let mut next = 0;
    let mut at = start;
    std::iter::from_fn(move || {
        while let Some(frame) = frames.get(next) {
            let frame_end = frame.disk_offset + u64::from(frame.disk_bytes);
            if frame_end <= at || is_head(frame) && frame.blake3.is_some() {
                next += 1;
                continue;
            }
            if at >= end || frame.blake3.is_some() && frame_end > end {
                return None;
            }
            if frame.blake3.is_none() {
                let until = frame_end.min(end).min(at + BUFFER_BYTES as u64);
                let piece = Piece { offset: at, len: length(at..until), frames: next..next };
                at = until;
                return Some(piece);
            }
            let first = next;
            while let Some(frame) = frames.get(next) {
                let frame_end = frame.disk_offset + u64::from(frame.disk_bytes);
                let fits = frame_end - at <= BUFFER_BYTES as u64 && frame_end <= end;
                if frame.blake3.is_none() || !fits {
                    break;
                }
                next += 1;
            }
            let last = &frames[next - 1];
            let until = last.disk_offset + u64::from(last.disk_bytes);
            let piece = Piece { offset: at, len: length(at..until), frames: first..next };
            at = until;
            return Some(piece);
        }
        None
    })
}

fn length(range: Range<u64>) -> usize {
    usize::try_from(range.end - range.start).expect("at most a buffer")
}
