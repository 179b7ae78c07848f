//! Flashing: plan, validate, execute, report.
//!
//! ```text
//! image ─► extents ─┬─► lane of target 1: workers ─► device     first MiB held back
//!                   └─► lane of target 2: workers ─► device     until everything else is proven
//! ```
//!
//! [`FlashPlan`] is data: what will be written where. [`FlashPlan::validate`] is pure and gives
//! every reason against it at once. [`FlashPlan::execute`] probes the disks again, refuses when
//! anything changed, and is the only way to a write. It
//! 1. opens all targets exclusively, zeroes their first MiB and the places where stale signatures
//!    hide, so that nothing old boots;
//! 2. reads the image once and writes it to all targets, the first MiB excepted;
//! 3. checks the length and the digest of what was read;
//! 4. flushes, reads everything back from the medium and compares;
//! 5. writes the first MiB, flushes, reads it back, and asks the kernel to look at the new
//!    partition table.
//!
//! Whenever a step fails or is cancelled, the first MiB of the target is zero: it does not boot.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::disks::Disk;
use crate::image::ImageInfo;
use crate::{Digest, Error, ErrorKind};

mod board;
mod execute;
mod finish;
mod lane;
mod ledger;
mod plan;
pub(crate) mod uefi;
mod verify;
mod watch;

pub use plan::Refusal;
pub(crate) use verify::read_head;
pub use verify::{Difference, Found, VerifyReport, verify};

/// What to do besides writing. The default verifies and does nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct FlashOptions {
    /// Read the targets back and compare.
    pub verify: bool,
    /// Move the backup GPT to the end of the disk.
    pub fix_gpt: bool,
    /// On a disk that is smaller than the image, leave out what lies behind the last partition,
    /// when all of it is zero. The backup GPT goes to the end of the disk.
    pub fit: bool,
    /// Let the firmware boot the target next, once (`BootNext`; the boot order is never touched).
    pub uefi_boot: bool,
    /// Write to a partition instead of a whole disk.
    pub allow_partition: bool,
    /// Write an image in which no partition table, file system or boot sector was found.
    pub raw: bool,
    /// Write to a regular file that holds an image or an archive, and that bty did not make a disk
    /// of.
    pub overwrite: bool,
    /// Where the firmware's variables are mounted.
    pub efivars: PathBuf,
    /// A target that finishes not one request for so many milliseconds is given up.
    pub stall_ms: u64,
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
            efivars: PathBuf::from("/sys/firmware/efi/efivars"),
            stall_ms: 120_000,
        }
    }
}

/// What will be written where. Data only: making and validating it touches nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "a plan does nothing until it is executed"]
#[non_exhaustive]
pub struct FlashPlan {
    /// The image, as examined.
    pub image: ImageInfo,
    /// The disks, as probed when the plan was made.
    pub targets: Vec<Disk>,
    /// The options.
    pub options: FlashOptions,
    /// What a person should know that forbids nothing.
    pub notes: Vec<String>,
}

/// What happened. All sizes are bytes, all times milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FlashReport {
    /// The image.
    pub image: ImageInfo,
    /// Bytes that came over the wire.
    pub source_bytes: u64,
    /// Bytes of the source that needed no reading: holes, unallocated clusters.
    pub skipped_bytes: u64,
    /// SHA-256 of the wire bytes; absent when not all of them were read, and when nobody promised
    /// one and it would have taken more than a twentieth of the time.
    pub source_sha256: Option<Digest>,
    /// True when somebody promised a digest of the file or of the image inside, and all that were
    /// promised are equal.
    pub is_digest_checked: bool,
    /// Size of the disk image.
    pub disk_bytes: u64,
    /// How much of it is data; the rest is zeros.
    pub data_bytes: u64,
    /// The outcome of each target, in the order of the plan.
    pub targets: Vec<TargetReport>,
    /// How long each phase took.
    pub phases: Vec<PhaseTime>,
}

/// How long a phase took, over all targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PhaseTime {
    /// Its name as in [`Phase`](crate::Phase).
    pub phase: String,
    /// Wall-clock time.
    pub elapsed_ms: u64,
}

/// The outcome of one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TargetReport {
    /// The disk, as probed right before the first write.
    pub disk: Disk,
    /// Why it failed; absent on success. A failed target does not boot.
    pub failure: Option<Failure>,
    /// Data written.
    pub written_bytes: u64,
    /// Image ranges made zero.
    pub zeroed_bytes: u64,
    /// Ranges beyond the image made zero: stale signatures, padding of the last sector.
    pub wiped_bytes: u64,
    /// Read back from the medium and found equal, wiped ranges behind the image included; 0 without
    /// verification.
    pub verified_bytes: u64,
    /// Offset of the backup GPT that was written at the end of the disk.
    pub backup_gpt_offset: Option<u64>,
    /// The firmware variable that boots it next.
    pub boot_entry: Option<String>,
    /// What a person should know: a partition table that could not be re-read, say.
    pub notes: Vec<String>,
}

/// An error as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// Its kind, as of [`ErrorKind::as_str`].
    pub kind: String,
    /// Its text.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
    /// The offset on the target concerned.
    pub offset: Option<u64>,
    /// The first difference, when it read back other than written.
    pub difference: Option<Difference>,
}

impl TargetReport {
    /// Makes it the report of a target that failed.
    pub fn fail(&mut self, error: &Error) {
        self.failure = Some(Failure::new(error, None));
        self.verified_bytes = 0;
    }
}

impl Failure {
    fn new(error: &Error, difference: Option<Difference>) -> Self {
        Self {
            kind: error.kind().to_string(),
            message: error.to_string(),
            hint: error.next_step().map(str::to_owned),
            offset: error.offset(),
            difference,
        }
    }
}

impl FlashPlan {
    /// The report of an execution in which all goes well and the image is all data, for dry runs.
    /// No time passes, and nothing is read.
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
            notes: Vec::new(),
        };
        FlashReport {
            image: self.image.clone(),
            source_bytes: self.image.source_bytes.unwrap_or(0),
            skipped_bytes: 0,
            source_sha256: self.image.expected_sha256,
            is_digest_checked: self.image.has_expected_digest(),
            disk_bytes,
            data_bytes: disk_bytes,
            targets: self.targets.iter().map(target).collect(),
            phases: Vec::new(),
        }
    }
}

impl FlashReport {
    /// True when every target was flashed and, unless switched off, verified.
    #[must_use]
    pub fn is_success(&self) -> bool {
        !self.targets.is_empty() && self.targets.iter().all(|t| t.failure.is_none())
    }

    /// The kind of the worst failure: integrity before target I/O, so that an exit code tells the
    /// more alarming one.
    #[must_use]
    pub fn failure_kind(&self) -> Option<ErrorKind> {
        let kinds: Vec<&str> =
            self.targets.iter().filter_map(|t| Some(t.failure.as_ref()?.kind.as_str())).collect();
        match kinds.first() {
            None => None,
            Some(_) if kinds.contains(&"integrity") => Some(ErrorKind::Integrity),
            Some(_) if kinds.iter().all(|&kind| kind == "host") => Some(ErrorKind::Host),
            Some(_) => Some(ErrorKind::Target),
        }
    }
}
