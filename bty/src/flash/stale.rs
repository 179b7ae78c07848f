//! Finds the places beyond the image where signatures of the old system may be left.
//!
//! After a flash no file system, RAID, LVM or partition-table signature of the old system may be
//! found where the new partition table puts a partition or free space. Zeroing the whole disk would
//! take hours, so only the places where signatures lie are zeroed.

use std::ops::Range;

use crate::size::{GIB, KIB, MIB, align_down, align_up};

/// Number of bytes zeroed where a file system may begin or end.
const EDGE_BYTES: u64 = MIB;

/// Number of bytes zeroed where a partition often begins: this covers every signature at the start
/// of a partition, including the first two labels of ZFS.
const USUAL_BYTES: u64 = 512 * KIB;

/// Sizes in MiB that installers and images commonly give to the first partitions.
const USUAL_SIZES: [u64; 16] =
    [16, 32, 64, 100, 128, 200, 256, 260, 300, 500, 512, 538, 550, 600, 1024, 2048];

/// Offsets in bytes at which partitions often begin: after a gap of 1 or 4 MiB and a partition of a
/// usual size, and at powers of two.
fn usual_offsets() -> impl Iterator<Item = u64> {
    let behind_gap = USUAL_SIZES.into_iter().flat_map(|size| [size + 1, size + 4]);
    let powers = (0..25).map(|bits| 1 << bits);
    behind_gap.chain(powers).map(|mib| mib * MIB)
}

/// The byte ranges to zero beyond an image that ends at `image_end`, so that no signature of the
/// old system is found: ascending, whole sectors of `sector` bytes, never before the end of the
/// image. `partitions` are the byte ranges of the old partitions on the disk, and of those in the
/// image.
pub(crate) fn stale_ranges(
    image_end: u64,
    disk_bytes: u64,
    sector: u32,
    partitions: &[Range<u64>],
) -> Vec<Range<u64>> {
    let start = align_up(image_end, u64::from(sector));
    let end = align_down(disk_bytes, u64::from(sector));
    let places = [
        // right after the image, where the free space of the disk begins now
        (start, EDGE_BYTES),
        // Ceph BlueStore keeps copies of its label here
        (GIB, 4 * KIB),
        (10 * GIB, 4 * KIB),
        (100 * GIB, 4 * KIB),
        (1000 * GIB, 4 * KIB),
        // backup GPT, MD 0.90 and 1.0, Intel and DDF RAID, the last two ZFS labels
        (end.saturating_sub(EDGE_BYTES), EDGE_BYTES),
    ];
    let usual = usual_offsets().map(|at| (at, USUAL_BYTES));
    let of_partitions =
        partitions.iter().flat_map(edges).map(|range| (range.start, range.end - range.start));
    let ranges = places.into_iter().chain(usual).chain(of_partitions);
    let ranges = ranges.map(|(at, len)| at.max(start)..at.saturating_add(len).min(end));
    merged(
        ranges
            .map(|range| align_down(range.start, sector.into())..align_up(range.end, sector.into()))
            .collect(),
    )
}

/// The parts of a partition in which signatures lie: its start and its end.
pub(crate) fn edges(partition: &Range<u64>) -> [Range<u64>; 2] {
    let Range { start, end } = *partition;
    [
        start..start.saturating_add(EDGE_BYTES).min(end),
        end.saturating_sub(EDGE_BYTES).max(start)..end,
    ]
}

/// Sorts ranges, drops empty ones, and joins those that touch.
pub(crate) fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests;
