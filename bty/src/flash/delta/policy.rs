//! Decides whether a delta flash is faster than a full one. Pure.

use crate::disks::Disk;
use crate::flash::{FlashOptions, Proof};
use crate::size::MIB;

/// A proof by sample reads one of so many kept frames.
pub(super) const SAMPLE_STRIDE: usize = 16;

/// What is known about a flash before it begins. Bytes, and bytes per second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate {
    /// Bytes of the disk that have to be read first.
    pub(super) scan_bytes: u64,
    /// Data of the image.
    pub(super) data_bytes: u64,
    /// Data that has to be moved.
    pub(super) moved_bytes: u64,
    /// Data that has to be fetched.
    pub(super) fetched_bytes: u64,
    /// Size of the whole packed file.
    pub(super) file_bytes: u64,
    /// Rate of the source.
    pub(super) source_rate: u64,
    /// Rate at which the disk is read.
    pub(super) disk_rate: u64,
    pub(super) disk: DiskClass,
    /// What proves a delta flash. After a full flash, a proof by sample is a full one.
    pub(super) proof: Proof,
}

/// What tells how fast a disk writes. Measuring it would mean to write, and the old system must
/// still boot.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiskClass {
    is_removable: bool,
    /// Flash memory, as far as the kernel knows.
    is_solid_state: bool,
}

impl DiskClass {
    pub(super) fn of(disk: &Disk) -> Self {
        let is_solid_state = disk.is_rotational == Some(false);
        Self { is_removable: disk.is_removable, is_solid_state }
    }

    /// How many times longer a write takes than a read of the same size, on a disk that reads
    /// `disk_rate` bytes per second.
    ///
    /// Sticks, memory cards and eMMC write a quarter of what they read. The kernel does not call
    /// all of them removable, but none of them reads as fast as an SSD.
    fn write_cost(self, disk_rate: u64) -> f64 {
        let is_slow_flash = self.is_solid_state && disk_rate < SSD_RATE_MIN;
        if self.is_removable || is_slow_flash { 4.0 } else { 1.25 }
    }
}

/// The proof that `options` ask of a delta flash.
pub(super) fn proof_of(options: &FlashOptions) -> Proof {
    match (options.verify, options.proven_disk) {
        (false, _) => Proof::None,
        (true, true) => Proof::Sample,
        (true, false) => Proof::Full,
    }
}

/// Every SSD reads more bytes per second than this.
const SSD_RATE_MIN: u64 = 350 * MIB;

/// A delta flash must save this share of the time of a full one, since rates are guesses.
const SAVED_SHARE_MIN: f64 = 0.1;

impl Estimate {
    /// True if a delta flash is expected to be faster.
    pub(super) fn pays(&self) -> bool {
        self.delta_seconds() < self.full_seconds() * (1.0 - SAVED_SHARE_MIN)
    }

    /// True if reading `region_bytes` of the disk takes less time than fetching `found_bytes` of
    /// data.
    pub(super) fn finding_pays(&self, region_bytes: u64, found_bytes: u64) -> bool {
        let file_bytes = share(self.file_bytes, found_bytes, self.data_bytes);
        seconds(region_bytes, self.disk_rate) < seconds(file_bytes, self.source_rate)
    }

    /// Without the read-back that both kinds of flash need: on a fast link, it would outweigh the
    /// rest.
    fn full_seconds(&self) -> f64 {
        let file = seconds(self.file_bytes, self.source_rate);
        let read_back = seconds(self.unproven_bytes(), self.disk_rate);
        file.max(self.write_seconds(self.data_bytes)) + read_back
    }

    /// Bytes that are read back after a full flash, but not after a delta flash.
    fn unproven_bytes(&self) -> u64 {
        let changed_bytes = self.moved_bytes.saturating_add(self.fetched_bytes);
        let kept_bytes = self.data_bytes.saturating_sub(changed_bytes);
        match self.proof {
            Proof::Sample => kept_bytes - kept_bytes / SAMPLE_STRIDE as u64,
            Proof::Full | Proof::None => 0,
        }
    }

    /// Moves read and write the same disk, so their times add up.
    fn delta_seconds(&self) -> f64 {
        let scan = seconds(self.scan_bytes, self.disk_rate);
        let moves =
            seconds(self.moved_bytes, self.disk_rate) + self.write_seconds(self.moved_bytes);
        let file_bytes = share(self.file_bytes, self.fetched_bytes, self.data_bytes);
        let fetch =
            seconds(file_bytes, self.source_rate).max(self.write_seconds(self.fetched_bytes));
        // the source sends during the moves as well, up to what memory holds
        scan + moves.max(fetch) + moves.min(fetch) / 2.0
    }

    fn write_seconds(&self, bytes: u64) -> f64 {
        seconds(bytes, self.disk_rate) * self.disk.write_cost(self.disk_rate)
    }
}

#[allow(clippy::cast_precision_loss)] // estimates
fn seconds(bytes: u64, rate: u64) -> f64 {
    bytes as f64 / rate.max(1) as f64
}

/// `part / all` of `bytes`.
fn share(bytes: u64, part: u64, all: u64) -> u64 {
    let product = u128::from(bytes) * u128::from(part) / u128::from(all.max(1));
    u64::try_from(product).unwrap_or(u64::MAX)
}

/// Guesses from a sample how much of an image a disk holds: the bytes to move and to fetch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    /// Places that were looked at.
    pub(super) frames: u32,
    /// Frames that are in their place.
    pub(super) kept: u32,
    /// Blocks in the others.
    pub(super) blocks: u32,
    /// Blocks among those whose content the image has somewhere.
    pub(super) wanted: u32,
}

impl Sample {
    /// Bytes of the image in `region_bytes` of the disk, if all of it is like this sample.
    pub(super) fn found_bytes(&self, region_bytes: u64) -> u64 {
        share(region_bytes, self.wanted.into(), self.blocks.into())
    }

    /// Bytes to move, and to fetch, of an image with `data_bytes` of data.
    pub(super) fn guess(&self, data_bytes: u64) -> (u64, u64) {
        let changed = share(data_bytes, u64::from(self.frames - self.kept), self.frames.into());
        // the more blocks are missing, the more frames miss at least one
        let (wanted, blocks) = (u64::from(self.wanted), u64::from(self.blocks));
        let moved = share(share(changed, wanted, blocks), wanted, blocks);
        (moved, changed - moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SSD: DiskClass = DiskClass { is_removable: false, is_solid_state: true };

    /// An image with 455 MiB of data in a file of 180 MiB, for an SSD.
    fn estimate(moved: u64, fetched: u64, source_rate: u64, disk_rate: u64) -> Estimate {
        Estimate {
            scan_bytes: 2048 * MIB,
            data_bytes: 455 * MIB,
            moved_bytes: moved * MIB,
            fetched_bytes: fetched * MIB,
            file_bytes: 180 * MIB,
            source_rate: source_rate * MIB,
            disk_rate: disk_rate * MIB,
            disk: SSD,
            proof: Proof::None,
        }
    }

    #[test]
    fn a_slow_network_makes_a_delta_flash_pay() {
        assert!(estimate(330, 125, 12, 500).pays());
        assert!(estimate(10, 10, 12, 500).pays());
        assert!(!estimate(0, 455, 12, 500).pays());
    }

    #[test]
    fn places_of_zeros_are_read_where_the_source_is_slower() {
        let slow = estimate(0, 125, 12, 500);
        assert!(slow.finding_pays(1500 * MIB, 100 * MIB));
        assert!(!slow.finding_pays(1500 * MIB, 10 * MIB));
        assert!(!estimate(0, 125, 2000, 500).finding_pays(1500 * MIB, 100 * MIB));
        let sample = Sample { frames: 64, kept: 0, blocks: 1024, wanted: 64 };
        assert_eq!(sample.found_bytes(1600), 100);
    }

    #[test]
    fn a_fast_network_makes_a_scan_too_slow() {
        assert!(!estimate(330, 125, 110, 500).pays());
        assert!(!estimate(10, 10, 1000, 500).pays());
    }

    #[test]
    fn a_disk_that_writes_slowly_makes_a_delta_flash_pay() {
        let stick = DiskClass { is_removable: true, is_solid_state: false };
        let slow = Estimate { disk: stick, ..estimate(10, 10, 1000, 100) };
        assert!(!slow.pays(), "most of the scan reads zeros");
        let full = Estimate { scan_bytes: 455 * MIB, ..slow };
        assert!(full.pays());
    }

    #[test]
    fn flash_memory_that_is_read_slowly_counts_as_writing_slowly() {
        let emmc = Estimate { scan_bytes: 700 * MIB, ..estimate(10, 10, 1000, 100) };
        assert!(emmc.pays());
        assert!(!Estimate { disk_rate: 500 * MIB, ..emmc }.pays(), "an SSD");
        let spinning = DiskClass { is_removable: false, is_solid_state: false };
        assert!(!Estimate { disk: spinning, ..emmc }.pays());
    }

    #[test]
    fn a_proof_by_sample_makes_a_delta_flash_pay() {
        let with = |proof| Estimate { proof, scan_bytes: 455 * MIB, ..estimate(0, 100, 600, 500) };
        assert!(with(Proof::Sample).pays(), "a full flash reads all of it back");
        assert!(!with(Proof::Full).pays());
        assert!(!with(Proof::None).pays());
    }

    #[test]
    fn a_sample_guesses_kept_moved_and_fetched() {
        let same = Sample { frames: 64, kept: 64, blocks: 0, wanted: 0 };
        assert_eq!(same.guess(1000), (0, 0));
        let empty = Sample { frames: 64, kept: 0, blocks: 1024, wanted: 0 };
        assert_eq!(empty.guess(1000), (0, 1000));
        let rebuilt = Sample { frames: 64, kept: 0, blocks: 1024, wanted: 800 };
        assert_eq!(rebuilt.guess(1000), (610, 390));
        assert_eq!(Sample::default().guess(1000), (0, 0));
    }
}
