//! Validates a plan: every reason to refuse it, and warnings to show before the flash.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disks::{Disk, DiskKind, TableKind, Use};
use crate::flash::{FlashOptions, FlashPlan};
use crate::image::{EraseWay, ImageInfo};
use crate::size::{MIB, align_up, human};
use crate::string_enum::string_enum;
use crate::{Error, ErrorKind, Remedy, Result};

string_enum! {
    /// The rule that a [`Refusal`] is about.
    pub enum RefusalReason: "reason of a refusal" {
        /// Something uses the disk: a mount, swap, another device.
        InUse = "in_use",
        /// The running system was started from the disk.
        System = "system",
        /// The disk is smaller than the image.
        TooSmall = "too_small",
        /// The kernel refuses writes.
        ReadOnly = "read_only",
        /// The target is a partition, and
        /// [`allow_partition`](crate::flash::FlashOptions) is off.
        Partition = "partition",
        /// The partition table was made for another sector size.
        SectorSize = "sector_size",
        /// The target is the file that the image is read from.
        SameAsSource = "same_as_source",
        /// Two targets are the same disk.
        Twice = "twice",
        /// The target is a device that is not a disk.
        UnsupportedKind = "kind",
        /// The plan has no targets.
        NoTarget = "no_target",
        /// [`fix_gpt`](crate::flash::FlashOptions) is on, but the image has no GPT.
        NoGpt = "no_gpt",
        /// The image does not look like a disk image, and
        /// [`raw`](crate::flash::FlashOptions) is off.
        Unrecognized = "unrecognized",
        /// The target is a file that holds an image, and
        /// [`overwrite`](crate::flash::FlashOptions) is off.
        Overwrite = "overwrite",
        /// From [`create::validate`](crate::create::validate): the disk has no bytes.
        Empty = "empty",
        /// From [`create::validate`](crate::create::validate): without partitions,
        /// [`shrink`](crate::create::CreateOptions) has no end to shrink to.
        NoPartitions = "no_partitions",
        /// From [`create::validate`](crate::create::validate): the name of the file has no known
        /// extension.
        UnknownFormat = "name",
        /// From [`create::validate`](crate::create::validate): the file exists.
        Exists = "exists",
    }
}

/// A reason to refuse an operation. Its text names the target, the reason and, in parentheses, what
/// to do about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Refusal {
    /// Path of the target concerned; absent if the reason concerns the plan as a whole.
    pub target: Option<String>,
    /// The rule that the plan breaks, to match on.
    pub reason: RefusalReason,
    /// One sentence without a full stop.
    pub message: String,
    /// What the message advises, if a program may have its own name for it. Not serialized, and not
    /// compared.
    #[serde(skip)]
    pub remedy: Option<Remedy>,
}

// without the remedy, so that a refusal equals itself after serialization
impl PartialEq for Refusal {
    fn eq(&self, other: &Self) -> bool {
        (&self.target, self.reason, &self.message) == (&other.target, other.reason, &other.message)
    }
}

impl Eq for Refusal {}

impl Refusal {
    pub(crate) fn of_plan(reason: RefusalReason, message: impl Into<String>) -> Self {
        Self { target: None, reason, message: message.into(), remedy: None }
    }

    /// A refusal that concerns the disk or the file at `path`.
    pub(crate) fn of(path: &Path, reason: RefusalReason, message: impl Into<String>) -> Self {
        Self { target: Some(path.display().to_string()), ..Self::of_plan(reason, message) }
    }

    pub(crate) fn with_remedy(mut self, remedy: Remedy) -> Self {
        self.remedy = Some(remedy);
        self
    }

    /// True when the image does not look like a disk image. Only a person can decide whether it is
    /// one: [`FlashOptions::raw`](field@FlashOptions::raw) lifts this refusal.
    #[must_use]
    pub fn is_unrecognized_image(&self) -> bool {
        self.reason == RefusalReason::Unrecognized
    }
}

/// Fails when there are `refusals`, with all of them in one message.
pub(crate) fn fail_if_refused(refusals: &[Refusal]) -> Result<()> {
    let texts: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    if texts.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Refused, format!("refused: {}", texts.join("; "))))
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
        let mut refusals = self.refusals_of_plan();
        for (index, disk) in self.targets.iter().enumerate() {
            refusals.extend(disk.refusals(&self.options));
            refusals.extend(self.refusals_of_image_on(disk));
            refusals.extend(self.image.erases.and_then(|way| refusal_of_way(way, disk)));
            if self.targets[..index].iter().any(|earlier| is_same_medium(earlier, disk)) {
                let message = "it is named more than once (name every disk once)";
                refusals.push(Refusal::of(&disk.path, RefusalReason::Twice, message));
            }
        }
        refusals
    }

    fn refusals_of_plan(&self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        if self.targets.is_empty() {
            let message = "there is no target (choose one of the disks)";
            refusals.push(
                Refusal::of_plan(RefusalReason::NoTarget, message).with_remedy(Remedy::ListDisks),
            );
        }
        if self.options.fix_gpt && self.image.table != Some(TableKind::Gpt) {
            let message = "the image has no GPT whose backup could be moved (do not fix the GPT)";
            refusals.push(
                Refusal::of_plan(RefusalReason::NoGpt, message).with_remedy(Remedy::NoFixGpt),
            );
        }
        if !self.image.is_recognized && !self.options.raw {
            let message = "no partition table, file system or boot sector was found in the image, \
                           so it is probably not the file you meant (check it, or write it as raw \
                           data anyway)";
            refusals.push(
                Refusal::of_plan(RefusalReason::Unrecognized, message).with_remedy(Remedy::Raw),
            );
        }
        refusals
    }

    /// The reasons not to write this image to `disk`. Those against `disk` itself are not among
    /// them.
    fn refusals_of_image_on(&self, disk: &Disk) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        if let Some(need) = self.needed_bytes(disk)
            && align_up(need, u64::from(disk.logical_sector_bytes)) > disk.size_bytes
        {
            refusals.push(self.too_small(disk, need));
        }
        if let Some(sector) = self.image.sector_bytes
            && sector != disk.logical_sector_bytes
        {
            let has = disk.logical_sector_bytes;
            let message = format!(
                "the partition table of the image counts in sectors of {sector} bytes, but the \
                 disk has sectors of {has}, so no partition would be found (use an image made for \
                 {has}-byte sectors)"
            );
            refusals.push(Refusal::of(&disk.path, RefusalReason::SectorSize, message));
        }
        if self.image.path.as_ref() == Some(&disk.path) {
            let message = "it is the image itself (name another target)";
            refusals.push(Refusal::of(&disk.path, RefusalReason::SameAsSource, message));
        }
        refusals
    }

    fn too_small(&self, disk: &Disk, need: u64) -> Refusal {
        let would_fit = self.would_fit(disk);
        let next = if would_fit {
            "use a larger disk, or leave out what follows the last partition"
        } else {
            "use a larger disk"
        };
        let message = format!(
            "the image needs {} ({need} bytes), the disk has {} ({} bytes) ({next})",
            human(need),
            human(disk.size_bytes),
            disk.size_bytes,
        );
        let refusal = Refusal::of(&disk.path, RefusalReason::TooSmall, message);
        if would_fit { refusal.with_remedy(Remedy::Fit) } else { refusal }
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

    /// True if the backup GPT ends up before the end of `disk`.
    fn leaves_backup_gpt_behind(&self, disk: &Disk) -> bool {
        let has_gpt = self.image.table == Some(TableKind::Gpt) && !self.options.fix_gpt;
        has_gpt && self.image.disk_bytes.is_some_and(|bytes| bytes + MIB <= disk.size_bytes)
    }

    /// What helps against the causes of [`notes`](field@Self::notes), for programs that can offer
    /// it. Pure, as [`validate`](Self::validate).
    #[must_use]
    pub fn remedies(&self) -> Vec<Remedy> {
        let mut remedies = Vec::new();
        if self.image.erases.is_some() {
            return remedies;
        }
        if !self.image.is_content_promised() {
            remedies.push(Remedy::Sha256);
        }
        if self.targets.iter().any(|disk| self.leaves_backup_gpt_behind(disk)) {
            remedies.push(Remedy::FixGpt);
        }
        remedies
    }

    fn warnings(&self) -> Vec<String> {
        if let Some(way) = self.image.erases {
            return self.targets.iter().filter_map(|disk| warning_of_way(way, disk)).collect();
        }
        let mut notes = Vec::new();
        match (self.image.disk_bytes, self.image.partitions_end()) {
            (None, None) => {
                notes.push(
                    "the size of the image is unknown, so whether it fits shows only while writing"
                        .into(),
                );
            }
            (None, Some(end)) => notes.push(format!(
                "according to its partition table, the image needs at least {}",
                human(end)
            )),
            (Some(bytes), Some(end)) if end > bytes => notes.push(cut_image_note(bytes, end)),
            _ => {}
        }
        if self.image.table.is_none() && self.image.is_recognized {
            notes.push("no partition table was found in the image: it may not boot".into());
        }
        if !self.image.is_content_promised() {
            notes.push(
                "no digest is known for the image, so its content is not checked (give one, or put \
                 a .sha256 file next to the image)"
                    .into(),
            );
        }
        if !self.options.verify {
            notes.push(
                "verification is off, so nothing proves that the disk holds the image afterwards"
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
            if self.leaves_backup_gpt_behind(disk) {
                notes.push(format!(
                    "{} is larger than the image, so its backup GPT will not be at the end",
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
        fail_if_refused(&self.validate())
    }
}

/// Refuses a disk that cannot be erased in this way.
fn refusal_of_way(way: EraseWay, disk: &Disk) -> Option<Refusal> {
    let is_nvme = disk.kind == DiskKind::Disk && disk.transport.as_deref() == Some("nvme");
    let message = "it is not an NVMe disk, so it cannot format itself (erase it in another way)";
    (way == EraseWay::NvmeFormat && !is_nvme)
        .then(|| Refusal::of(&disk.path, RefusalReason::UnsupportedKind, message))
}

/// What the way does not reach, for a person to know before it begins.
fn warning_of_way(way: EraseWay, disk: &Disk) -> Option<String> {
    let is_overwriting = matches!(way, EraseWay::Zeros | EraseWay::Random);
    let is_flash = disk.is_rotational == Some(false);
    (is_overwriting && is_flash).then(|| {
        format!(
            "{} may be flash memory, which keeps old copies of sectors where no write reaches them",
            disk.path.display()
        )
    })
}

impl Disk {
    /// Every reason not to write to this disk, whatever the image; empty if there is none. Pure:
    /// the result depends on the disk as it was probed, and on `allow_partition` and `overwrite`.
    ///
    /// A [`FlashPlan`] also checks whether the image and the disk go together.
    #[must_use]
    pub fn refusals(&self, options: &FlashOptions) -> Vec<Refusal> {
        let refuse = |reason, message: &str| Refusal::of(&self.path, reason, message);
        let mut refusals = Vec::new();
        for usage in &self.uses {
            let is_system = matches!(usage, Use::System { .. });
            let reason = if is_system { RefusalReason::System } else { RefusalReason::InUse };
            refusals.push(refuse(reason, &usage.to_string()));
        }
        match self.kind {
            DiskKind::Partition if !options.allow_partition => {
                let message = "it is a partition, but an image is for a whole disk (name the disk, \
                               or allow partitions explicitly)";
                refusals.push(
                    refuse(RefusalReason::Partition, message).with_remedy(Remedy::AllowPartition),
                );
            }
            DiskKind::Other => {
                let message =
                    "an image cannot be written to a device of this kind (choose one of the disks)";
                refusals.push(
                    refuse(RefusalReason::UnsupportedKind, message).with_remedy(Remedy::ListDisks),
                );
            }
            _ => {}
        }
        if self.is_read_only {
            let message =
                "it is read-only (look for a write-protect switch, or run blockdev --setrw)";
            refusals.push(refuse(RefusalReason::ReadOnly, message));
        }
        if let (Some(holds), false) = (&self.file_holds, options.overwrite) {
            let message = format!(
                "it is a file that holds {holds}, which would be lost (name another file, or \
                 overwrite it)"
            );
            refusals
                .push(refuse(RefusalReason::Overwrite, &message).with_remedy(Remedy::Overwrite));
        }
        refusals
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
