//! Where signatures of the old system may be left beyond the image.
//!
//! After a flash no file system, RAID, LVM or partition-table signature of the old system may be
//! found where the new partition table puts a partition or free space. Zeroing the whole disk would
//! take hours, so only the places where signatures lie are zeroed.

use std::ops::Range;

use crate::size::{GIB, KIB, MIB, align_down, align_up};

/// How much is made zero where a file system may begin or end.
const PLACE_BYTES: u64 = MIB;

/// How much is made zero where a partition often begins: as far as any signature at the start of
/// one, the two labels of ZFS included.
const USUAL_BYTES: u64 = 512 * KIB;

/// Sizes of first and second partitions that installers and makers of images choose, in MiB.
const USUAL_SIZES: [u64; 16] =
    [16, 32, 64, 100, 128, 200, 256, 260, 300, 500, 512, 538, 550, 600, 1024, 2048];

/// Where partitions often begin, in MiB: behind a gap of 1 or 4 MiB and a partition of a usual
/// size.
fn usual_offsets() -> impl Iterator<Item = u64> {
    let behind_gap = USUAL_SIZES.into_iter().flat_map(|size| [size + 1, size + 4]);
    let powers = (0..25).map(|bits| 1 << bits);
    behind_gap.chain(powers).map(|mib| mib * MIB)
}

/// What to make zero beyond an image that ends at `image_end`, so that nothing of the disk's past
/// comes alive: ascending, whole sectors of `sector` bytes, never before the image's end.
/// `partitions` are the byte ranges of those that were on the disk, and of those that the image
/// makes.
pub(crate) fn stale_ranges(
    image_end: u64,
    disk_bytes: u64,
    sector: u32,
    partitions: &[Range<u64>],
) -> Vec<Range<u64>> {
    let start = align_up(image_end, u64::from(sector));
    let end = align_down(disk_bytes, u64::from(sector));
    let places = [
        // right behind the image: whatever began where the disk's free space begins now
        (start, PLACE_BYTES),
        // Ceph BlueStore keeps copies of its label here
        (GIB, 4 * KIB),
        (10 * GIB, 4 * KIB),
        (100 * GIB, 4 * KIB),
        (1000 * GIB, 4 * KIB),
        // backup GPT, MD 0.90 and 1.0, Intel and DDF RAID, the last two ZFS labels
        (end.saturating_sub(PLACE_BYTES), PLACE_BYTES),
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

/// Where the signatures of a partition lie that is at `partition`: at its start and at its end.
pub(crate) fn edges(partition: &Range<u64>) -> [Range<u64>; 2] {
    let Range { start, end } = *partition;
    [
        start..start.saturating_add(PLACE_BYTES).min(end),
        end.saturating_sub(PLACE_BYTES).max(start)..end,
    ]
}

/// Ascending, without empty ones, and without those that touch another.
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
