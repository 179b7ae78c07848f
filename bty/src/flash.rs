//! Flashing: plan, validate, execute, report.
//!
//! ```text
//! image ─► extents ─┬─► writer of target 1: queue ─► workers ─► device    first MiB held back
//!                   └─► writer of target 2: queue ─► workers ─► device    until all else is proven
//! ```
//!
//! A [`FlashPlan`] is plain data: an image, its targets and options. [`FlashPlan::validate`] is a
//! pure function that returns every reason to refuse the plan. Only [`FlashPlan::execute`] writes.
//! It probes the disks again, and refuses the plan if one has changed. Then it
//! 1. opens all targets exclusively, and zeroes their first MiB and the places where signatures of
//!    the old system may be: from here on the old system does not boot;
//! 2. reads the image once, and writes everything but its first MiB to all targets;
//! 3. checks the length and the digests of what was read;
//! 4. flushes, reads everything back from the medium, and compares;
//! 5. writes the first MiB, flushes, reads it back, and makes the kernel read the new partition
//!    table.
//!
//! The boot sector and the partition table are in the first MiB, which stays zero until everything
//! else is proven. So a flash that is interrupted at any point leaves a disk that does not boot,
//! instead of one that boots half a system. If a step fails or is cancelled, the first MiB is
//! zeroed again.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::boot::EFIVARS;
use crate::disks::Disk;
use crate::image::ImageInfo;
use crate::progress::{Counts, TargetCounts};
use crate::setters::setters;
use crate::size::MIB;
use crate::string_enum::string_enum;
use crate::{Digest, Error, ErrorKind, Event, Phase};

mod compare;
mod delta;
mod device_io;
mod distribute;
mod erase;
mod execute;
mod finish;
mod ledger;
mod plan;
mod progress_board;
mod proof;
mod readback;
mod stale;
mod summary;
mod target;
mod watch;
mod write_job;
mod writer;

pub use crate::image::EraseWay;
pub use compare::{VerifyOptions, VerifyReport, verify};
pub use delta::diff;
pub use erase::{EraseReport, erase, plan_erase};
pub(crate) use plan::fail_if_refused;
pub use plan::{Refusal, RefusalReason};

string_enum! {
    /// Whether a flash keeps and moves what a disk already holds, instead of fetching and writing
    /// all of the image.
    pub enum DeltaMode: "delta mode" {
        /// Does so where it is possible and expected to save time. Otherwise a full flash.
        ///
        /// It is possible if the image is packed and has up to 32 GiB of data, parts of it can be
        /// read alone, and no digest of the whole source is expected, or that of the index too.
        Auto = "auto",
        /// Always does so, and refuses an image that is not packed or cannot be read in parts.
        Always = "always",
        /// Fetches and writes everything.
        Never = "never",
    }
}

string_enum! {
    /// What proves that a disk holds the image.
    pub enum Proof: "proof" {
        /// Everything was read back from the medium after the last write.
        Full = "full",
        /// The scan has read everything before the first write; everything that was written and a
        /// sample of the rest was read back.
        Sample = "sample",
        /// Nothing was read back: verification is off.
        None = "none",
    }
}

/// Options of a flash. By default, `verify` is on, and `delta` is automatic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct FlashOptions {
    /// Read the targets back, and compare them with what was written.
    pub verify: bool,
    /// Move the backup GPT to the end of the disk.
    pub fix_gpt: bool,
    /// On a disk that is smaller than the image, leave out everything after the last partition. It
    /// must be zero, except for the backup GPT, which goes to the end of the disk.
    pub fit: bool,
    /// Make UEFI boot the target once, at the next boot, through `BootNext`. The boot order is not
    /// changed.
    pub uefi_boot: bool,
    /// Allow a partition as a target, instead of a whole disk.
    pub allow_partition: bool,
    /// Write an image in which no partition table, file system or boot sector was found.
    pub raw: bool,
    /// Allow overwriting a regular file that holds an image or an archive. A file that bty wrote as
    /// a disk may always be overwritten.
    pub overwrite: bool,
    /// Whether to keep and move what the disk already holds.
    pub delta: DeltaMode,
    /// Maximum memory in bytes for old content that is needed after its place was overwritten. What
    /// exceeds it is fetched instead.
    pub stash_bytes: u64,
    /// The disk has passed a full proof before, so a delta flash may read back only a sample of
    /// what it has kept.
    pub proven_disk: bool,
    /// Mount point of efivarfs, which holds the UEFI variables.
    pub efivars: PathBuf,
    /// Fail a target that completes no request for this many milliseconds.
    pub stall_ms: u64,
}

setters! {
    FlashOptions {
        verify: bool,
        fix_gpt: bool,
        fit: bool,
        uefi_boot: bool,
        allow_partition: bool,
        raw: bool,
        overwrite: bool,
        delta: DeltaMode,
        stash_bytes: u64,
        proven_disk: bool,
        efivars: impl Into<PathBuf>,
        stall_ms: u64,
    }
}

impl Default for FlashOptions {
    fn default() -> Self {
        Self {
            verify: true,
            fix_gpt: false,
            fit: false,
            uefi_boot: false,
            allow_partition: false,
            raw: false,
            overwrite: false,
            delta: DeltaMode::Auto,
            stash_bytes: 64 * MIB,
            proven_disk: false,
            efivars: PathBuf::from(EFIVARS),
            stall_ms: 120_000,
        }
    }
}

/// An image, the targets to write it to, and options. Creating and validating a plan accesses no
/// disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "a plan does nothing until it is executed"]
#[non_exhaustive]
pub struct FlashPlan {
    /// The image, as examined.
    pub image: ImageInfo,
    /// The disks, as probed when the plan was made.
    pub targets: Vec<Disk>,
    /// The options, as given by the caller.
    pub options: FlashOptions,
    /// Warnings to show before the flash. They do not prevent it.
    pub notes: Vec<String>,
}

/// The outcome of an execution. All sizes are bytes, all times milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FlashReport {
    /// The image that was written.
    pub image: ImageInfo,
    /// Bytes read from the source, before decoding.
    pub source_bytes: u64,
    /// Bytes of the source that did not have to be read: holes, unallocated clusters.
    pub skipped_bytes: u64,
    /// SHA-256 of the source: of the file as published. Present if a digest of it was expected, or
    /// [`OpenOptions::compute_sha256`](field@crate::image::OpenOptions::compute_sha256) was set.
    /// Otherwise absent for qcow2, of which not all is read, and for an uncompressed image if
    /// hashing would have delayed reading by more than a twentieth. Absent if all targets failed
    /// before the end of the image.
    pub source_sha256: Option<Digest>,
    /// True if a digest of the source, of the disk image or of the index was expected, and all
    /// expected digests match. After a delta flash, that of the index alone was checked.
    pub is_digest_checked: bool,
    /// Size of the disk image.
    pub disk_bytes: u64,
    /// Bytes of data in the disk image; the rest is zeros.
    pub data_bytes: u64,
    /// The outcome of each target, in the order of the plan.
    pub targets: Vec<TargetReport>,
    /// The duration of each phase, in the order in which they ran.
    pub phases: Vec<PhaseTime>,
}

/// The duration of a phase, over all targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PhaseTime {
    /// The phase that took this long.
    pub phase: Phase,
    /// Wall-clock time in milliseconds.
    pub elapsed_ms: u64,
}

/// The outcome of one target. All sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TargetReport {
    /// The disk, as probed right before the first write.
    pub disk: Disk,
    /// Why the target failed; absent on success. A failed target does not boot.
    pub failure: Option<Failure>,
    /// Bytes of image data written.
    pub written_bytes: u64,
    /// Bytes of the image's zero ranges, zeroed on the target.
    pub zeroed_bytes: u64,
    /// Bytes zeroed beyond the image: the rest of its last sector, and places of stale signatures.
    pub wiped_bytes: u64,
    /// Bytes read back from the medium and found equal, including wiped ranges after the image; 0
    /// without verification.
    pub verified_bytes: u64,
    /// Offset of the backup GPT, if it was moved to the end of the disk.
    pub backup_gpt_offset: Option<u64>,
    /// The boot entry through which UEFI boots the disk next: `Boot00FF`.
    pub boot_entry: Option<String>,
    /// What proves that the disk holds the image.
    pub proof: Proof,
    /// What the disk already held; absent after a full flash.
    pub delta: Option<DeltaReport>,
    /// Warnings, for example that the kernel did not re-read the partition table.
    pub notes: Vec<String>,
}

/// How much of an image a disk already held. All sizes are bytes of the disk image, zeros excluded:
/// `kept_bytes`, `moved_bytes` and `fetched_bytes` together are its data. As an estimate, before a
/// flash, or as the truth, after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeltaReport {
    /// Data that was in its place already.
    pub kept_bytes: u64,
    /// Data that was somewhere else on the disk.
    pub moved_bytes: u64,
    /// Data that was read from the source.
    pub fetched_bytes: u64,
    /// Bytes of the packed file that `fetched_bytes` take, compressed.
    pub source_bytes: u64,
    /// Maximum number of bytes in memory because their place was overwritten before they were
    /// needed.
    pub stash_peak_bytes: u64,
}

/// An error in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// Kind of the error.
    pub kind: ErrorKind,
    /// Text of the error, with its causes.
    pub message: String,
    /// The next step for the operator.
    pub hint: Option<String>,
    /// The offset on the target where it failed, in bytes.
    pub offset: Option<u64>,
    /// The first difference, if the target failed because it differs from the image.
    pub difference: Option<Difference>,
}

/// The first difference between a disk and an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Difference {
    /// Offset of the first differing byte on the disk.
    pub offset: u64,
    /// What the disk holds there.
    pub found: Found,
}

/// What a disk holds where it differs from the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Found {
    /// Zeros: the write was lost, or the range was discarded.
    Zeros,
    /// Data from elsewhere in the image: addresses wrap around, as on disks of fake capacity.
    Elsewhere {
        /// Offset in bytes at which the image has this data.
        offset: u64,
    },
    /// Data from before the flash: the write was lost.
    Old,
    /// Data that is none of these.
    Other,
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;

impl TargetReport {
    /// Marks the target as failed with `error`, and resets `verified_bytes` to 0.
    pub fn fail(&mut self, error: &Error) {
        self.failure = Some(Failure::new(error, None));
        self.verified_bytes = 0;
    }
}

impl Failure {
    fn new(error: &Error, difference: Option<Difference>) -> Self {
        Self {
            kind: error.kind(),
            message: format!("{error:#}"),
            hint: error.next_step().map(str::to_owned),
            offset: error.offset(),
            difference,
        }
    }
}

impl FlashPlan {
    /// Simulates the report of a successful execution, for dry runs. Assumes that the whole image
    /// is data; reads and writes nothing.
    #[must_use]
    pub fn dry_run_report(&self) -> FlashReport {
        let disk_bytes = self.image.min_disk_bytes().unwrap_or(0);
        let target = |disk: &Disk| TargetReport {
            disk: disk.clone(),
            failure: None,
            written_bytes: disk_bytes,
            zeroed_bytes: 0,
            wiped_bytes: 0,
            verified_bytes: if self.options.verify { disk_bytes } else { 0 },
            backup_gpt_offset: None,
            boot_entry: None,
            proof: if self.options.verify { Proof::Full } else { Proof::None },
            delta: None,
            notes: Vec::new(),
        };
        FlashReport {
            image: self.image.clone(),
            source_bytes: self.image.source_bytes.unwrap_or(0),
            skipped_bytes: 0,
            source_sha256: self.image.expected_sha256,
            is_digest_checked: self.image.is_content_promised(),
            disk_bytes,
            data_bytes: disk_bytes,
            targets: self.targets.iter().map(target).collect(),
            phases: Vec::new(),
        }
    }
}

impl FlashReport {
    /// True when every target was written and, unless disabled, verified.
    #[must_use]
    pub fn is_success(&self) -> bool {
        !self.targets.is_empty() && self.targets.iter().all(|t| t.failure.is_none())
    }

    /// The kind of all failures together, for exit codes; `None` without failures.
    ///
    /// [`ErrorKind::Integrity`] if any target failed with it, because its disk holds wrong data.
    /// [`ErrorKind::Cancelled`] or [`ErrorKind::Host`] if all targets failed with that kind, else
    /// [`ErrorKind::Target`].
    #[must_use]
    pub fn failure_kind(&self) -> Option<ErrorKind> {
        let kinds: Vec<ErrorKind> =
            self.targets.iter().filter_map(|t| Some(t.failure.as_ref()?.kind)).collect();
        let first = *kinds.first()?;
        Some(match first {
            _ if kinds.contains(&ErrorKind::Integrity) => ErrorKind::Integrity,
            ErrorKind::Cancelled | ErrorKind::Host if kinds.iter().all(|&k| k == first) => first,
            _ => ErrorKind::Target,
        })
    }

    /// Simulates the last progress event of `phase`, for dry runs.
    #[must_use]
    pub fn progress(&self, phase: Phase) -> Event {
        let total = Some(self.disk_bytes);
        let targets = self.targets.iter().map(|target| TargetCounts {
            target: target.disk.path.display().to_string(),
            written_bytes: target.written_bytes,
            durable_bytes: target.written_bytes,
            zeroed_bytes: target.zeroed_bytes,
            verified_bytes: if phase == Phase::Verify { target.verified_bytes } else { 0 },
            verify_total: total.filter(|_| phase == Phase::Verify),
            ..TargetCounts::default()
        });
        let counts = Counts {
            source_bytes: self.source_bytes,
            source_total: self.image.source_bytes,
            decoded_bytes: self.disk_bytes,
            decoded_total: total,
        };
        Event::Progress { phase, elapsed_ms: 0, counts, targets: targets.collect() }
    }
}
