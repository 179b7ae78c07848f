//! The end of a lane: stale signatures, flush, proof, and only then the first MiB.

use std::path::Path;
use std::sync::atomic::Ordering;

use crate::disks::signatures::stale_ranges;
use crate::extent::{Buffer, Pool};
use crate::flash::execute::Seen;
use crate::flash::lane::{Lane, Shared};
use crate::flash::uefi::BootNext;
use crate::flash::verify::Mismatch;
use crate::flash::{Failure, FlashPlan, TargetReport, uefi, verify};
use crate::image::{HEAD_BYTES, Image};
use crate::size::{MIB, align_up};
use crate::table::gpt;
use crate::{CancelToken, Error, Result};

/// Before anything is written: neither the old system nor a half-written new one may boot.
pub(super) fn wipe_before(shared: &Shared) -> Result<()> {
    let size = shared.device.size_bytes();
    shared.remember_old()?;
    let head = size.min(HEAD_BYTES as u64);
    shared.wipe(0, head)?;
    let tail = size.saturating_sub(MIB).max(head);
    shared.wipe(tail, size - tail)?;
    shared.flush()
}

/// Completes the lane and tells what became of it. A lane that fails does not boot.
pub(super) fn finish(lane: &Lane, plan: &FlashPlan, image: &Image, seen: &Seen) -> TargetReport {
    let shared = &lane.shared;
    let mut end = End { shared, plan, notes: Vec::new(), backup_gpt_offset: None, boot_entry: None };
    let failure = end.complete(image, seen).err().map(|mismatch| {
        if !shared.is_hung() {
            make_unbootable(shared);
        }
        Failure::new(&mismatch.error, mismatch.difference)
    });
    TargetReport {
        disk: lane.disk.clone(),
        failure,
        written_bytes: shared.written_bytes.load(Ordering::SeqCst),
        zeroed_bytes: shared.zeroed_bytes.load(Ordering::SeqCst),
        wiped_bytes: shared.wiped_bytes.load(Ordering::SeqCst),
        verified_bytes: shared.verified_bytes.load(Ordering::SeqCst),
        backup_gpt_offset: end.backup_gpt_offset,
        boot_entry: end.boot_entry,
        notes: end.notes,
    }
}

struct End<'a> {
    shared: &'a Shared,
    plan: &'a FlashPlan,
    notes: Vec<String>,
    backup_gpt_offset: Option<u64>,
    boot_entry: Option<String>,
}

impl End<'_> {
    fn complete(&mut self, image: &Image, seen: &Seen) -> Result<(), Mismatch> {
        if let Some(error) = self.shared.take_failure() {
            return Err(error.into());
        }
        let mut head = Pool::new(1).take(&self.shared.cancel)?;
        let head_len = self.lay_out_head(&mut head, seen);
        self.wipe_after(seen.disk_bytes)?;
        self.shared.flush()?;
        if let Some(ledger) = &self.shared.ledger {
            verify::check_body(self.shared, &ledger.take_sorted(), image)?;
        }
        if self.plan.options.fix_gpt {
            // after the proof, because it may change the last sectors of the image
            self.relocate_gpt(&mut head[..head_len])?;
        }
        self.write_head(&head[..head_len])?;
        self.announce(&head[..head_len]);
        Ok(())
    }

    /// The first MiB, padded to a sector; its length.
    fn lay_out_head(&self, head: &mut Buffer, seen: &Seen) -> usize {
        let bytes = seen.head();
        let sector = u64::from(self.shared.device.sector_bytes());
        let len = usize::try_from(align_up(bytes.len() as u64, sector)).expect("at most one MiB");
        head[..bytes.len()].copy_from_slice(bytes);
        head[bytes.len()..len].fill(0);
        len
    }

    /// Zeroes the rest of the last sector, and where old RAID, LVM or partition tables may be left behind the image.
    fn wipe_after(&self, disk_bytes: u64) -> Result<()> {
        let size = self.shared.device.size_bytes();
        let sector = self.shared.device.sector_bytes();
        let end = disk_bytes.max(HEAD_BYTES as u64).min(size);
        let padded = align_up(end, u64::from(sector)).min(size);
        let pad = (padded > end).then_some(end..padded);
        for range in pad.into_iter().chain(stale_ranges(padded, size, sector)) {
            let len = range.end - range.start;
            self.shared.wipe(range.start, len)?;
            if let Some(ledger) = &self.shared.ledger {
                ledger.zeros(range.start, len);
            }
        }
        Ok(())
    }

    /// Moves the backup GPT to the end of the disk: patches the held-back head, and writes the backup.
    fn relocate_gpt(&mut self, head: &mut [u8]) -> Result<(), Mismatch> {
        let device = &self.shared.device;
        let moved = gpt::relocate_backup(head, device.size_bytes(), device.sector_bytes())?;
        let Some(backup) = moved else {
            self.notes.push("the backup GPT was at the end of the disk already".into());
            return Ok(());
        };
        self.shared.write(backup.backup_offset, &backup.backup)?;
        self.shared.flush()?;
        let mut found = Pool::new(1).take(&self.shared.cancel)?;
        let found = &mut found[..backup.backup.len()];
        self.shared.read(backup.backup_offset, found)?;
        if self.plan.options.verify && found != backup.backup.as_slice() {
            return Err(verify::differs(self.shared, backup.backup_offset, &backup.backup, found));
        }
        self.backup_gpt_offset = Some(backup.backup_offset);
        Ok(())
    }

    /// The last write: from here on the disk boots.
    fn write_head(&self, head: &[u8]) -> Result<(), Mismatch> {
        self.shared.cancel.check()?;
        self.shared.write(0, head)?;
        self.shared.written_bytes.fetch_add(head.len() as u64, Ordering::SeqCst);
        self.shared.flush()?;
        if self.plan.options.verify {
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

    /// Tells the kernel, and the firmware when asked to. The disk is complete by now: what fails here is a note.
    fn announce(&mut self, head: &[u8]) {
        if let Err(error) = self.shared.device.reread_table() {
            self.notes
                .push(format!("the kernel did not re-read the partition table ({error}): partprobe or a reboot helps"));
        }
        if !self.plan.options.uefi_boot {
            return;
        }
        match boot_next(&self.plan.options.efivars, head, self.shared.device.sector_bytes()) {
            Ok(BootNext::Set { entry }) => self.boot_entry = Some(format!("Boot{entry:04X}")),
            Ok(BootNext::Skipped { reason }) => self.notes.push(format!("the boot order is as it was: {reason}")),
            Err(error) => self.notes.push(format!("the firmware was not told to boot it next: {error}")),
        }
    }
}

/// Asks the firmware to boot the disk that begins with `head` next, once.
fn boot_next(efivars: &Path, head: &[u8], sector: u32) -> Result<BootNext> {
    let Some(loader) = uefi::fallback_loader() else {
        return Ok(BootNext::Skipped { reason: "UEFI has no fallback loader for this architecture" });
    };
    let table = gpt::read(head, sector)?;
    uefi::set_boot_next(efivars, table.as_ref(), uefi::LABEL, loader)
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
        match shared.device.write_at(&zeros[start..end], at) {
            Ok(n) if n > 0 => at = align_up(at + n as u64, sector),
            _ => break,
        }
    }
    let _ = shared.device.flush();
}

impl From<Error> for Mismatch {
    fn from(error: Error) -> Self {
        Self { error, difference: None }
    }
}
