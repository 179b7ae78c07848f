//! The first and last steps of a target: before the first write, the wipe of the old system; after
//! the last one, the wipe of stale signatures, flush, proof, and only then the first MiB.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::Receiver;

use crate::boot::{self, BootNext};
use crate::extent::{Buffer, Pool};
use crate::flash::delta::DeltaOutcome;
use crate::flash::proof::{self, Mismatch};
use crate::flash::stale::{edges, merged, stale_ranges};
use crate::flash::summary::ReadSummary;
use crate::flash::target::TargetState;
use crate::flash::writer::TargetWriter;
use crate::flash::{Failure, FlashOptions, Proof, TargetReport};
use crate::image::{HEAD_BYTES, Image};
use crate::partition_table::gpt;
use crate::size::{MIB, align_up};
use crate::{CancelToken, Result};

/// Wipes the parts of the old system that could boot or be recognized. Afterwards neither the old
/// system nor a half-written new one boots. Signatures in the range `kept` are left: a delta flash
/// may need what is there, and makes all of it equal to the image.
pub(super) fn wipe_before(target: &TargetState, kept: &Range<u64>) -> Result<()> {
    let size = target.io.size_bytes();
    target.remember_samples()?;
    // the old table is read before the first MiB, which holds it, is wiped
    let old = target.remember_partitions();
    let head = size.min(HEAD_BYTES as u64);
    target.look_for_interruption(head)?;
    target.wipe(0, head)?;
    if !old.is_empty() {
        // the backup GPT at the end of the disk is wiped last: if this flash is interrupted, the
        // next one can still find the old partitions through it
        target.flush()?;
        let edges = old.iter().flat_map(edges).flat_map(|edge| without(&edge, kept));
        for range in merged(edges.collect()) {
            target.wipe(range.start, range.end - range.start)?;
        }
        target.flush()?;
    }
    let tail = size.saturating_sub(MIB).max(head);
    target.wipe(tail, size - tail)?;
    target.flush()
}

/// The parts of `range` before and after `hole`.
fn without(range: &Range<u64>, hole: &Range<u64>) -> [Range<u64>; 2] {
    [range.start..range.end.min(hole.start), range.start.max(hole.end)..range.end]
}

/// Input of the threads that finish targets. Shared through an `Arc`, because a hanging device may
/// keep a thread longer than the execution lasts.
pub(super) struct Work {
    pub(super) options: FlashOptions,
    pub(super) image: Image,
    pub(super) summary: ReadSummary,
}

/// A target that is being finished on a thread of its own.
pub(super) struct Finishing {
    running: Receiver<()>,
    outcome: Arc<OnceLock<Outcome>>,
}

#[derive(Clone, Default)]
struct Outcome {
    failure: Option<Failure>,
    notes: Vec<String>,
    backup_gpt_offset: Option<u64>,
    boot_entry: Option<String>,
}

impl Finishing {
    /// Starts to finish the target of `writer`, whose queue must be drained. On failure, the first
    /// MiB is zeroed again.
    pub(super) fn begin(writer: &TargetWriter, work: &Arc<Work>) -> Self {
        let (work, outcome) = (Arc::clone(work), Arc::new(OnceLock::new()));
        let result = Arc::clone(&outcome);
        let running = writer.begin(move |target| {
            let mut completion = Completion { target, work: &work, outcome: Outcome::default() };
            let mismatch = completion.run().err();
            completion.outcome.failure =
                mismatch.map(|mismatch| Failure::new(&mismatch.error, mismatch.difference));
            let has_failed = completion.outcome.failure.is_some();
            let _ = result.set(completion.outcome);
            if has_failed && !target.is_given_up() {
                make_unbootable(target);
            }
        });
        Self { running, outcome }
    }

    /// Waits until the target is finished or its device is given up, and returns the outcome.
    pub(super) fn wait(self, writer: &mut TargetWriter) -> TargetReport {
        let abandoned = writer.wait(&self.running).err();
        // an outcome found before the device hung explains more than the hang
        let outcome = self.outcome.get().cloned().unwrap_or_else(|| {
            let error = abandoned
                .or_else(|| writer.state.take_failure())
                .expect("without an outcome there is a failure");
            Outcome { failure: Some(Failure::new(&error, None)), ..Outcome::default() }
        });
        let get = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let counters = &writer.state.counters;
        let delta = writer.state.delta.get();
        writer.state.trace_bytes();
        if let Some(failure) = &outcome.failure {
            writer.state.span.failed(&failure.message);
        }
        TargetReport {
            disk: writer.disk.clone(),
            failure: outcome.failure,
            written_bytes: get(&counters.written_bytes),
            zeroed_bytes: get(&counters.zeroed_bytes),
            wiped_bytes: get(&counters.wiped_bytes),
            verified_bytes: get(&counters.verified_bytes),
            backup_gpt_offset: outcome.backup_gpt_offset,
            boot_entry: outcome.boot_entry,
            proof: match delta {
                _ if writer.state.ledger.is_none() => Proof::None,
                Some(DeltaOutcome { is_sampled: true, .. }) => Proof::Sample,
                _ => Proof::Full,
            },
            delta: delta.map(|delta| delta.report).or_else(|| writer.state.resumed()),
            notes: outcome.notes,
        }
    }
}

struct Completion<'a> {
    target: &'a TargetState,
    work: &'a Work,
    outcome: Outcome,
}

impl Completion<'_> {
    /// The order of the steps guarantees that an interrupted flash never boots: everything else is
    /// durable and proven before the first MiB is written.
    fn run(&mut self) -> Result<(), Mismatch> {
        if let Some(error) = self.target.take_failure() {
            return Err(error.into());
        }
        let Work { options, image, summary } = self.work;
        let mut head = Pool::new(1).take(&self.target.io.cancel)?;
        let head_len = self.lay_out_head(&mut head, summary.head());
        self.wipe_after(summary.disk_bytes)?;
        self.outcome.notes.extend(summary.notes(image.info()));
        self.target.flush()?;
        if let Some(ledger) = &self.target.ledger {
            proof::check_body(self.target, &ledger.take_sorted(), image)?;
        }
        let was_cut = options.fit && summary.disk_bytes > self.target.io.size_bytes();
        if options.fix_gpt || was_cut && gpt::backup_range(&head[..head_len]).is_some() {
            // after the proof, because it may overwrite the last sectors of the image
            self.relocate_gpt(&mut head[..head_len])?;
        }
        self.write_head(&head[..head_len])?;
        self.announce(&head[..head_len]);
        Ok(())
    }

    /// Copies the first MiB of the image into `head`, pads it with zeros to a whole sector, and
    /// returns its length.
    fn lay_out_head(&self, head: &mut Buffer, bytes: &[u8]) -> usize {
        let len = align_up(bytes.len() as u64, self.target.io.sector());
        let len = usize::try_from(len).expect("at most one MiB");
        head[..bytes.len()].copy_from_slice(bytes);
        head[bytes.len()..len].fill(0);
        len
    }

    /// Zeroes the rest of the image's last sector, and the places after the image where the new
    /// system might find signatures of the old one.
    fn wipe_after(&self, disk_bytes: u64) -> Result<()> {
        let size = self.target.io.size_bytes();
        let sector = self.target.io.device.sector_bytes();
        let end = disk_bytes.max(HEAD_BYTES as u64).min(size);
        let padded = align_up(end, u64::from(sector)).min(size);
        let pad = (padded > end).then_some(end..padded);
        let new = self.work.image.info().partitions.iter();
        let new = new.map(|p| p.start_bytes..p.start_bytes.saturating_add(p.size_bytes));
        let partitions: Vec<_> = self.target.old_partitions().into_iter().chain(new).collect();
        for range in pad.into_iter().chain(stale_ranges(padded, size, sector, &partitions)) {
            let len = range.end - range.start;
            self.target.wipe(range.start, len)?;
            if let Some(ledger) = &self.target.ledger {
                ledger.record_zeros(range.start, len);
            }
        }
        Ok(())
    }

    /// Moves the backup GPT to the end of the disk: changes the head, which is not written yet, and
    /// writes the backup.
    fn relocate_gpt(&mut self, head: &mut [u8]) -> Result<(), Mismatch> {
        let io = &self.target.io;
        let mut on_disk = |offset: u64, bytes: &mut [u8]| io.read_bytes(offset, bytes).is_ok();
        let sector = io.device.sector_bytes();
        let moved = gpt::relocate_backup(head, &mut on_disk, io.size_bytes(), sector)?;
        let Some(backup) = moved else {
            self.outcome.notes.push("the backup GPT was already at the end of the disk".into());
            return Ok(());
        };
        io.write(backup.backup_offset, &backup.backup)?;
        self.target.flush()?;
        let mut found = Pool::new(1).take(&io.cancel)?;
        let found = &mut found[..backup.backup.len()];
        io.read(backup.backup_offset, found)?;
        if self.work.options.verify && found != backup.backup.as_slice() {
            return Err(proof::differs(self.target, backup.backup_offset, &backup.backup, found));
        }
        self.outcome.backup_gpt_offset = Some(backup.backup_offset);
        Ok(())
    }

    /// The last write: from here on the disk may boot.
    fn write_head(&self, head: &[u8]) -> Result<(), Mismatch> {
        self.target.begin_to_boot()?;
        self.target.io.write(0, head)?;
        let counters = &self.target.counters;
        counters.written_bytes.fetch_add(head.len() as u64, Ordering::SeqCst);
        self.target.flush()?;
        if self.work.options.verify {
            let mut found = Pool::new(1).take(&self.target.io.cancel)?;
            let found = &mut found[..head.len()];
            self.target.io.read(0, found)?;
            if found != head {
                return Err(proof::differs(self.target, 0, head, found));
            }
            counters.verified_bytes.fetch_add(head.len() as u64, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Makes the kernel read the new partition table, and the firmware boot the disk if the options
    /// say so. The disk is complete by now, so a failure here only adds a note.
    fn announce(&mut self, head: &[u8]) {
        if let Err(error) = self.target.io.request(|device| device.reread_table()) {
            self.outcome.notes.push(format!(
                "the kernel did not re-read the partition table ({error}): run partprobe, or \
                 reboot"
            ));
        }
        if !self.work.options.uefi_boot {
            return;
        }
        let efivars = &self.work.options.efivars;
        let sector = self.target.io.device.sector_bytes();
        let reason = match boot::uefi::boot_next(efivars, head, sector, boot::uefi::LABEL) {
            Ok(BootNext::Set { entry }) => {
                self.outcome.boot_entry = Some(format!("Boot{entry:04X}"));
                return;
            }
            Ok(BootNext::Skipped { reason }) => reason.to_owned(),
            Err(error) => format!("{error:#}"),
        };
        let note = format!("the firmware was not told to boot it next: {reason}");
        self.outcome.notes.push(note);
    }
}

/// Zeroes the first MiB again after a failure, even when cancelled. Best effort: the device may be
/// the reason for the failure.
fn make_unbootable(target: &TargetState) {
    let len = target.io.size_bytes().min(HEAD_BYTES as u64);
    // a separate token, because that of the execution may be cancelled
    let Ok(mut zeros) = Pool::new(1).take(&CancelToken::new()) else { return };
    zeros[..HEAD_BYTES].fill(0);
    let mut at = 0;
    while at < len {
        let end = usize::try_from(len).unwrap_or(HEAD_BYTES);
        let start = usize::try_from(at).unwrap_or(end);
        match target.io.request(|device| device.write_at(&zeros[start..end], at)) {
            Ok(n) if n > 0 => at = align_up(at + n as u64, target.io.sector()),
            _ => break,
        }
    }
    let _ = target.io.request(|device| device.flush());
}
