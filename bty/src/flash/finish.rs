//! The end of a lane: stale signatures, flush, proof, and only then the first MiB.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::Receiver;

use crate::boot::BootNext;
use crate::disks::signatures::{edges, merged, stale_ranges};
use crate::extent::{Buffer, Pool};
use crate::flash::execute::Seen;
use crate::flash::lane::{Lane, Shared};
use crate::flash::verify::Mismatch;
use crate::flash::{Failure, FlashOptions, TargetReport, uefi, verify};
use crate::image::{HEAD_BYTES, Image};
use crate::partition_table::gpt;
use crate::size::{MIB, align_up};
use crate::{CancelToken, Error, Result};

/// Before anything is written: neither the old system nor a half-written new one may boot.
pub(super) fn wipe_before(shared: &Shared) -> Result<()> {
    let size = shared.device.size_bytes();
    shared.remember_old()?;
    // while the old table tells where they are
    let old = shared.remember_partitions();
    let head = size.min(HEAD_BYTES as u64);
    shared.wipe(0, head)?;
    if !old.is_empty() {
        // the backup of the table goes last: a flash that is interrupted here finds it the next
        // time
        shared.flush()?;
        for range in merged(old.iter().flat_map(edges).collect()) {
            shared.wipe(range.start, range.end - range.start)?;
        }
        shared.flush()?;
    }
    let tail = size.saturating_sub(MIB).max(head);
    shared.wipe(tail, size - tail)?;
    shared.flush()
}

/// What the end of a lane needs to know. It is shared with threads that a hanging device may keep.
pub(super) struct Work {
    pub(super) options: FlashOptions,
    pub(super) image: Image,
    pub(super) seen: Seen,
}

/// The end of a lane, going on.
pub(super) struct Finishing {
    running: Receiver<()>,
    outcome: Arc<OnceLock<Outcome>>,
}

/// What became of a lane.
#[derive(Clone, Default)]
struct Outcome {
    failure: Option<Failure>,
    notes: Vec<String>,
    backup_gpt_offset: Option<u64>,
    boot_entry: Option<String>,
}

impl Finishing {
    /// Begins to complete `lane`. A lane that fails does not boot.
    pub(super) fn begin(lane: &Lane, work: &Arc<Work>) -> Self {
        let (work, outcome) = (Arc::clone(work), Arc::new(OnceLock::new()));
        let told = Arc::clone(&outcome);
        let running = lane.begin(move |shared| {
            let mut end = End { shared, work: &work, outcome: Outcome::default() };
            let failure = end.complete().err();
            end.outcome.failure =
                failure.map(|mismatch| Failure::new(&mismatch.error, mismatch.difference));
            let has_failed = end.outcome.failure.is_some();
            let _ = told.set(end.outcome);
            if has_failed && !shared.is_hung() {
                make_unbootable(shared);
            }
        });
        Self { running, outcome }
    }

    /// Waits for the end, and tells what became of the lane.
    pub(super) fn wait(self, lane: &mut Lane) -> TargetReport {
        let left = lane.wait(&self.running).err();
        // what was found before its device hung says more
        let outcome = self.outcome.get().cloned().unwrap_or_else(|| {
            let error = left
                .or_else(|| lane.shared.take_failure())
                .expect("what has no outcome has failed");
            Outcome { failure: Some(Failure::new(&error, None)), ..Outcome::default() }
        });
        let get = |count: &AtomicU64| count.load(Ordering::SeqCst);
        TargetReport {
            disk: lane.disk.clone(),
            failure: outcome.failure,
            written_bytes: get(&lane.shared.written_bytes),
            zeroed_bytes: get(&lane.shared.zeroed_bytes),
            wiped_bytes: get(&lane.shared.wiped_bytes),
            verified_bytes: get(&lane.shared.verified_bytes),
            backup_gpt_offset: outcome.backup_gpt_offset,
            boot_entry: outcome.boot_entry,
            notes: outcome.notes,
        }
    }
}

struct End<'a> {
    shared: &'a Shared,
    work: &'a Work,
    outcome: Outcome,
}

impl End<'_> {
    fn complete(&mut self) -> Result<(), Mismatch> {
        if let Some(error) = self.shared.take_failure() {
            return Err(error.into());
        }
        let work = self.work;
        let mut head = Pool::new(1).take(&self.shared.cancel)?;
        let head_len = self.lay_out_head(&mut head, work.seen.head());
        self.wipe_after(work.seen.disk_bytes)?;
        self.outcome.notes.extend(work.seen.notes(work.image.info()));
        self.shared.flush()?;
        if let Some(ledger) = &self.shared.ledger {
            verify::check_body(self.shared, &ledger.take_sorted(), &work.image)?;
        }
        let was_cut = work.options.fit && work.seen.disk_bytes > self.shared.device.size_bytes();
        if work.options.fix_gpt || was_cut && gpt::backup_range(&head[..head_len]).is_some() {
            // after the proof, because it may change the last sectors of the image
            self.relocate_gpt(&mut head[..head_len])?;
        }
        self.write_head(&head[..head_len])?;
        self.announce(&head[..head_len]);
        Ok(())
    }

    /// The first MiB, padded to a sector; its length.
    fn lay_out_head(&self, head: &mut Buffer, bytes: &[u8]) -> usize {
        let sector = u64::from(self.shared.device.sector_bytes());
        let len = usize::try_from(align_up(bytes.len() as u64, sector)).expect("at most one MiB");
        head[..bytes.len()].copy_from_slice(bytes);
        head[bytes.len()..len].fill(0);
        len
    }

    /// Zeroes the rest of the last sector, and where old RAID, LVM or partition tables may be left
    /// behind the image.
    fn wipe_after(&self, disk_bytes: u64) -> Result<()> {
        let size = self.shared.device.size_bytes();
        let sector = self.shared.device.sector_bytes();
        let end = disk_bytes.max(HEAD_BYTES as u64).min(size);
        let padded = align_up(end, u64::from(sector)).min(size);
        let pad = (padded > end).then_some(end..padded);
        let of_image = self.work.image.info().partitions.iter();
        let of_image = of_image.map(|p| p.start_bytes..p.start_bytes.saturating_add(p.size_bytes));
        let partitions: Vec<_> = self.shared.old_partitions().into_iter().chain(of_image).collect();
        for range in pad.into_iter().chain(stale_ranges(padded, size, sector, &partitions)) {
            let len = range.end - range.start;
            self.shared.wipe(range.start, len)?;
            if let Some(ledger) = &self.shared.ledger {
                ledger.zeros(range.start, len);
            }
        }
        Ok(())
    }

    /// Moves the backup GPT to the end of the disk: patches the held-back head, and writes the
    /// backup.
    fn relocate_gpt(&mut self, head: &mut [u8]) -> Result<(), Mismatch> {
        let device = &self.shared.device;
        let mut on_disk =
            |offset: u64, bytes: &mut [u8]| self.shared.read_bytes(offset, bytes).is_ok();
        let moved =
            gpt::relocate_backup(head, &mut on_disk, device.size_bytes(), device.sector_bytes())?;
        let Some(backup) = moved else {
            self.outcome.notes.push("the backup GPT was at the end of the disk already".into());
            return Ok(());
        };
        self.shared.write(backup.backup_offset, &backup.backup)?;
        self.shared.flush()?;
        let mut found = Pool::new(1).take(&self.shared.cancel)?;
        let found = &mut found[..backup.backup.len()];
        self.shared.read(backup.backup_offset, found)?;
        if self.work.options.verify && found != backup.backup.as_slice() {
            return Err(verify::differs(self.shared, backup.backup_offset, &backup.backup, found));
        }
        self.outcome.backup_gpt_offset = Some(backup.backup_offset);
        Ok(())
    }

    /// The last write: from here on the disk boots.
    fn write_head(&self, head: &[u8]) -> Result<(), Mismatch> {
        self.shared.begin_to_boot()?;
        self.shared.write(0, head)?;
        self.shared.written_bytes.fetch_add(head.len() as u64, Ordering::SeqCst);
        self.shared.flush()?;
        if self.work.options.verify {
            let mut found = Pool::new(1).take(&self.shared.cancel)?;
            let found = &mut found[..head.len()];
            self.shared.read(0, found)?;
            if found != head {
                return Err(verify::differs(self.shared, 0, head, found));
            }
            self.shared.verified_bytes.fetch_add(head.len() as u64, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Tells the kernel, and the firmware when asked to. The disk is complete by now: what fails
    /// here is a note.
    fn announce(&mut self, head: &[u8]) {
        if let Err(error) = self.shared.ask(|device| device.reread_table()) {
            self.outcome
                .notes
                .push(format!("the kernel did not re-read the partition table ({error}): partprobe or a reboot helps"));
        }
        if !self.work.options.uefi_boot {
            return;
        }
        let efivars = &self.work.options.efivars;
        let note =
            match uefi::boot_next(efivars, head, self.shared.device.sector_bytes(), uefi::LABEL) {
                Ok(BootNext::Set { entry }) => {
                    self.outcome.boot_entry = Some(format!("Boot{entry:04X}"));
                    return;
                }
                Ok(BootNext::Skipped { reason }) => {
                    format!("the boot order is as it was: {reason}")
                }
                Err(error) => format!("the firmware was not told to boot it next: {error}"),
            };
        self.outcome.notes.push(note);
    }
}

/// Zeroes the first MiB again, whatever state the lane is in; even when cancelled.
fn make_unbootable(shared: &Shared) {
    let sector = u64::from(shared.device.sector_bytes());
    let len = shared.device.size_bytes().min(HEAD_BYTES as u64);
    let Ok(mut zeros) = Pool::new(1).take(&CancelToken::new()) else { return };
    zeros[..HEAD_BYTES].fill(0);
    let mut at = 0;
    // best effort: the device may be the reason for the failure
    while at < len {
        let end = usize::try_from(len).unwrap_or(HEAD_BYTES);
        let start = usize::try_from(at).unwrap_or(end);
        match shared.ask(|device| device.write_at(&zeros[start..end], at)) {
            Ok(n) if n > 0 => at = align_up(at + n as u64, sector),
            _ => break,
        }
    }
    let _ = shared.ask(|device| device.flush());
}

impl From<Error> for Mismatch {
    fn from(error: Error) -> Self {
        Self { error, difference: None }
    }
}
