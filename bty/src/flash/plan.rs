//! Validates a plan: every reason to refuse it, and warnings to show before the flash.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::disks::{Disk, DiskKind, TableKind, Use};
use crate::flash::{FlashOptions, FlashPlan};
use crate::image::ImageInfo;
use crate::size::{MIB, align_up, human};
use crate::{Error, ErrorKind, Result};

/// A reason to refuse an operation. Its text names the target, the reason and, in parentheses, what
/// to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Refusal {
    /// Path of the target concerned; absent if the reason concerns the plan as a whole.
    pub target: Option<String>,
    /// A word to match on: `in_use`, `system`, `too_small`, `read_only`, `partition`,
    /// `sector_size`, `same_as_source`, `twice`, `kind`, `no_target`, `no_gpt`, `unrecognized`,
    /// `overwrite`; from [`create::validate`](crate::create::validate) also `empty`,
    /// `no_partitions`, `name`, `exists`.
    pub reason: String,
    /// One sentence without a full stop.
    pub message: String,
}

const UNRECOGNIZED: &str = "unrecognized";

impl Refusal {
    /// True when the image does not look like a disk image. Only a person can decide whether it is
    /// one: [`FlashOptions::raw`] lifts this refusal.
    #[must_use]
    pub fn is_unrecognized_image(&self) -> bool {
        self.reason == UNRECOGNIZED
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Some(target) => write!(f, "{target}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl FlashPlan {
    /// Plans to write the image described by `image` to all of `targets`. Reads and writes nothing.
    pub fn new(image: &ImageInfo, targets: Vec<Disk>, options: FlashOptions) -> Self {
        let mut plan = Self { image: image.clone(), targets, options, notes: Vec::new() };
        plan.notes = plan.warnings();
        plan
    }

    /// Returns every reason to refuse the plan; empty if it may be executed. Pure: the result
    /// depends only on the plan.
    #[must_use]
    pub fn validate(&self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        if self.targets.is_empty() {
            refusals.push(Refusal {
                target: None,
                reason: "no_target".into(),
                message: "no target is given (bty disks lists them)".into(),
            });
        }
        if self.options.fix_gpt && self.image.table != Some(TableKind::Gpt) {
            refusals.push(Refusal {
                target: None,
                reason: "no_gpt".into(),
                message: "the image has no GPT whose backup could be moved (leave out --fix-gpt)"
                    .into(),
            });
        }
        if !self.image.is_recognized && !self.options.raw {
            refusals.push(Refusal {
                target: None,
                reason: UNRECOGNIZED.into(),
                message:
                    "no partition table, file system or boot sector was found in the image, so \
                     it is probably not the file you meant (check it; --raw writes it anyway)"
                        .into(),
            });
        }
        for (index, disk) in self.targets.iter().enumerate() {
            self.check_target(disk, &mut |reason, message| {
                refusals.push(Refusal {
                    target: Some(disk.path.display().to_string()),
                    reason: reason.into(),
                    message,
                });
            });
            if self.targets[..index].iter().any(|earlier| is_same_medium(earlier, disk)) {
                refusals.push(Refusal {
                    target: Some(disk.path.display().to_string()),
                    reason: "twice".into(),
                    message: "it is named more than once (name every disk once)".into(),
                });
            }
        }
        refusals
    }

    fn check_target(&self, disk: &Disk, refuse: &mut dyn FnMut(&str, String)) {
        for usage in &disk.uses {
            let reason = if matches!(usage, Use::System { .. }) { "system" } else { "in_use" };
            refuse(reason, usage.to_string());
        }
        match disk.kind {
            DiskKind::Partition if !self.options.allow_partition => refuse(
                "partition",
                "it is a partition, but an image is for a whole disk (name the disk, or allow \
                 partitions explicitly)"
                    .into(),
            ),
            DiskKind::Other => {
                refuse(
                    "kind",
                    "an image cannot be written to a device of this kind (bty disks lists the \
                     disks)"
                        .into(),
                );
            }
            _ => {}
        }
        if disk.is_read_only {
            refuse(
                "read_only",
                "it is read-only (look for a write-protect switch, or run blockdev --setrw)".into(),
            );
        }
        if let Some(need) = self.needed_bytes(disk)
            && align_up(need, u64::from(disk.logical_sector_bytes)) > disk.size_bytes
        {
            refuse(
                "too_small",
                format!(
                    "the image needs {} ({need} bytes), the disk has {} ({} bytes) ({})",
                    human(need),
                    human(disk.size_bytes),
                    disk.size_bytes,
                    if self.would_fit(disk) {
                        "use a larger disk, or --fit"
                    } else {
                        "use a larger disk"
                    }
                ),
            );
        }
        if let Some(sector) = self.image.sector_bytes
            && sector != disk.logical_sector_bytes
        {
            refuse(
                "sector_size",
                format!(
                    "the partition table of the image uses sectors of {sector} bytes, the disk \
                     sectors of {}: nothing would be found in its place (use an image made for \
                     {}-byte sectors)",
                    disk.logical_sector_bytes, disk.logical_sector_bytes
                ),
            );
        }
        if let (Some(holds), false) = (&disk.file_holds, self.options.overwrite) {
            refuse(
                "overwrite",
                format!(
                    "it is a file that holds {holds}, which would be lost (name another file, or \
                     give --overwrite)"
                ),
            );
        }
        if self.image.path.as_ref() == Some(&disk.path) {
            refuse("same_as_source", "it is the image itself (name another target)".into());
        }
    }

    /// Minimum size in bytes that `disk` must have, if known.
    fn needed_bytes(&self, disk: &Disk) -> Option<u64> {
        let fitted =
            self.image.fitted_bytes(disk.logical_sector_bytes).filter(|_| self.options.fit);
        fitted.or_else(|| self.image.min_disk_bytes())
    }

    /// True when [`FlashOptions::fit`] would help, provided that the part to leave out turns out to
    /// be zero.
    fn would_fit(&self, disk: &Disk) -> bool {
        let fitted = self.image.fitted_bytes(disk.logical_sector_bytes);
        !self.options.fit && fitted.is_some_and(|bytes| bytes <= disk.size_bytes)
    }

    fn warnings(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match (self.image.disk_bytes, self.image.partitions_end()) {
            (None, None) => {
                notes.push(
                    "the size of the image is unknown: whether it fits is seen only while writing"
                        .into(),
                );
            }
            (None, Some(end)) => notes
                .push(format!("by its partition table, the image needs at least {}", human(end))),
            (Some(bytes), Some(end)) if end > bytes => notes.push(cut_image_note(bytes, end)),
            _ => {}
        }
        if self.image.table.is_none() && self.image.is_recognized {
            notes.push("no partition table was found in the image: it may not boot".into());
        }
        if !self.image.has_expected_digest() {
            notes.push(
                "no digest is known for the image, so its content is not checked (--sha256, \
                 --sha512, or a .sha256 file beside it)"
                    .into(),
            );
        }
        if !self.options.verify {
            notes.push(
                "verification is off: whether the disk really holds the image is not checked"
                    .into(),
            );
        }
        for disk in &self.targets {
            let sector = u64::from(disk.logical_sector_bytes);
            if let Some(bytes) = self.image.disk_bytes
                && self.options.fit
                && bytes > disk.size_bytes
            {
                let (over, path) = (human(bytes - disk.size_bytes), disk.path.display());
                notes.push(format!(
                    "{path} is smaller than the image: the last {over} are left out if they are \
                     zero"
                ));
            }
            if let Some(bytes) = self.image.disk_bytes
                && bytes % sector != 0
            {
                let pad = align_up(bytes, sector) - bytes;
                notes.push(format!(
                    "the image ends inside a sector: {pad} zero bytes are added on {}",
                    disk.path.display()
                ));
            }
            let gpt = self.image.table == Some(TableKind::Gpt) && !self.options.fix_gpt;
            if gpt && self.image.disk_bytes.is_some_and(|bytes| bytes + MIB <= disk.size_bytes) {
                notes.push(format!(
                    "{} is larger than the image: its backup GPT will not be at the end \
                     (--fix-gpt moves it)",
                    disk.path.display()
                ));
            }
        }
        notes
    }

    /// Like [`validate`](Self::validate), but returns all reasons in one error.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when there is a reason to refuse the plan.
    pub fn check(&self) -> Result<()> {
        let refusals: Vec<String> = self.validate().iter().map(ToString::to_string).collect();
        if refusals.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Refused, format!("refused: {}", refusals.join("; "))))
    }
}

/// The warning about an image of `bytes` whose last partition ends at `end`.
pub(super) fn cut_image_note(bytes: u64, end: u64) -> String {
    let (has, reaches) = (human(bytes), human(end));
    format!("the image has {has}, but its partition table reaches {reaches}: it may be truncated")
}

/// True when two targets are the same medium under two paths. A disk and a partition of it are not
/// recognized as such here.
fn is_same_medium(a: &Disk, b: &Disk) -> bool {
    a.path == b.path
        || (a.diskseq.is_some()
            && a.diskseq == b.diskseq
            && a.kind == b.kind
            && a.size_bytes == b.size_bytes)
}
