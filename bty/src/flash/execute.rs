//! Executes a plan: probe again, open, wipe, write, prove, finish.
//!
//! The image is read once for all targets. A target that is less than half as fast as another one
//! is left behind, so that it does not slow down the others. The image is then read again for it,
//! and it resumes at the extent where it was left behind.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use crossbeam_channel::{Sender, bounded};

use crate::disks::{Disk, DiskHost};
use crate::extent::ExtentReader;
use crate::flash::delta::DeltaFlash;
use crate::flash::distribute::{Distribution, Overflow, does_not_fit};
use crate::flash::finish::{self, Finishing, Work};
use crate::flash::progress_board::ProgressBoard;
use crate::flash::summary::ReadSummary;
use crate::flash::watch::StallTimeout;
use crate::flash::writer::TargetWriter;
use crate::flash::{FlashPlan, FlashReport, TargetReport};
use crate::image::{EraseWay, Image};
use crate::partition_table::gpt;
use crate::read_context::ReadContext;
use crate::trace::Span;
use crate::{
    CancelToken, Context, Error, ErrorKind, Event, Observer, Phase, Remedy, Result, threads,
};

/// Buffers of 2 MiB between reader and writers.
const BUFFERS: usize = 20;

impl FlashPlan {
    /// Executes the plan: see the [module](crate::flash) for the steps and their guarantees.
    ///
    /// With several targets, one that fails does not stop the others: its
    /// [`failure`](TargetReport::failure) says why, and [`FlashReport::is_success`] is false.
    ///
    /// # Errors
    /// - [`ErrorKind::Refused`], with all reasons: the plan was made for another image, a disk has
    ///   changed since, or a rule forbids the flash. Nothing was written.
    /// - [`ErrorKind::Source`], [`ErrorKind::Format`] or [`ErrorKind::Integrity`]: the image cannot
    ///   be read, is damaged, or differs from what was expected. Targets that were already written
    ///   to do not boot.
    /// - [`ErrorKind::Cancelled`]: `cancel` was cancelled. A target boots only if it was already
    ///   complete.
    ///
    /// Failures of single targets are in the report, not here.
    pub fn execute(
        &self,
        image: &Image,
        host: &dyn DiskHost,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<FlashReport> {
        Span::flash(&self.image, self.targets.len())
            .in_scope(|| self.execute_in_span(image, host, observer, cancel))
    }

    fn execute_in_span(
        &self,
        image: &Image,
        host: &dyn DiskHost,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<FlashReport> {
        let disks = self.probe_again(image, host)?;
        self.check_fit(image, &disks, cancel)?;
        let reading = ReadContext::new(BUFFERS + 4 * disks.len().saturating_sub(1).min(4), cancel);
        let writers = self.open(disks, host, cancel)?;
        let targets = writers.iter().map(|writer| Arc::clone(&writer.state)).collect();
        let board = ProgressBoard::new(image, &reading.counts, targets);
        let (alive, running) = bounded(0);
        thread::scope(|scope| {
            threads::start_in(scope, "bty-progress", || board.report(observer, &running))?;
            let execution =
                Execution { plan: self, image, reading: &reading, board: &board, observer };
            let result = execution.run(writers);
            // ends the progress thread, for which the scope waits
            drop::<Sender<()>>(alive);
            result
        })
        .map_err(|error| if board.has_begun_to_write() { error.after_writing() } else { error })
        .context(|| format!("flashing {}", image.info().name))
    }

    /// Probes the disks as they are now, and validates the plan for them.
    fn probe_again(&self, image: &Image, host: &dyn DiskHost) -> Result<Vec<Disk>> {
        if self.image != *image.info() {
            let (planned, given) = (&self.image.source, &image.info().source);
            let message = format!("the plan was made for {planned}, not for {given}");
            return Err(Error::new(ErrorKind::Refused, message)
                .hint("plan again with the image that is to be written"));
        }
        let mut changed = Vec::new();
        let mut disks = Vec::new();
        for planned in &self.targets {
            let now = host.probe(&planned.path)?;
            if !planned.is_same_disk(&now) {
                changed.push(format!(
                    "{} is not the disk that the plan was made for (then {}; now {})",
                    planned.path.display(),
                    planned.summary(),
                    now.summary()
                ));
            }
            disks.push(now);
        }
        if !changed.is_empty() {
            return Err(Error::new(ErrorKind::Refused, format!("refused: {}", changed.join("; ")))
                .hint("list the disks, choose again, and plan again")
                .with_remedy(Remedy::ListDisks));
        }
        let fresh = Self::new(image.info(), disks, self.options.clone());
        fresh.check()?;
        Ok(fresh.targets)
    }

    /// Refuses disks that are too small for the data of the image, as far as this can be known
    /// before the image is read.
    fn check_fit(&self, image: &Image, disks: &[Disk], cancel: &CancelToken) -> Result<()> {
        let is_smaller = |disk: &&Disk| {
            self.options.fit && image.info().disk_bytes.is_some_and(|n| n > disk.size_bytes)
        };
        for disk in disks.iter().filter(is_smaller) {
            if let Some(offset) = image.first_data_behind(disk.size_bytes, cancel)? {
                let name = disk.path.display().to_string();
                return Err(does_not_fit(&name, offset, ErrorKind::Refused));
            }
        }
        Ok(())
    }

    /// Opens every target before the first write, so that none is touched if one cannot be opened.
    fn open(
        &self,
        disks: Vec<Disk>,
        host: &dyn DiskHost,
        cancel: &CancelToken,
    ) -> Result<Vec<TargetWriter>> {
        let opened = disks.iter().map(|disk| host.open(disk)).collect::<Result<Vec<_>>>()?;
        let timeout = StallTimeout::new(self.options.stall_ms);
        let start =
            |(disk, device)| TargetWriter::start(disk, device, &self.options, &timeout, cancel);
        disks.into_iter().zip(opened).map(start).collect()
    }
}

pub(super) struct Execution<'a> {
    pub(super) plan: &'a FlashPlan,
    pub(super) image: &'a Image,
    pub(super) reading: &'a ReadContext,
    board: &'a ProgressBoard,
    observer: &'a dyn Observer,
}

impl Execution<'_> {
    fn run(&self, mut writers: Vec<TargetWriter>) -> Result<FlashReport> {
        let result = self.wipe_write_finish(&mut writers);
        if let Err(error) = &result {
            // no worker may still be writing when the caller sees the error
            for writer in &mut writers {
                writer.state.fail(repeat(error));
                let _ = writer.drain();
                writer.state.trace_bytes();
            }
        }
        result
    }

    fn wipe_write_finish(&self, writers: &mut [TargetWriter]) -> Result<FlashReport> {
        if let Some(delta) = DeltaFlash::prepare(self, writers)? {
            return delta.run(self, writers);
        }
        // before the wipe, so that the image is read ahead during it
        let extents = self.image.extents(self.reading, false)?;
        self.wipe(writers, &[]);
        let mut reports: Vec<Option<TargetReport>> = writers.iter().map(|_| None).collect();
        let mut waiting: Vec<usize> = (0..writers.len()).collect();
        let mut summary = self.write(writers, &waiting, extents)?;
        loop {
            let (behind, done): (Vec<usize>, Vec<usize>) = waiting.iter().partition(|&&i| {
                writers[i].resume_from.is_some() && !writers[i].state.has_failed()
            });
            let finished = self.finish(writers, &done, &summary)?;
            done.into_iter().zip(finished).for_each(|(i, report)| reports[i] = Some(report));
            if behind.is_empty() {
                return Ok(self.report(&summary, reports.into_iter().flatten().collect()));
            }
            let names: Vec<&str> = behind.iter().map(|&i| writers[i].state.name()).collect();
            let names = names.join(", ");
            self.notice(format!("reading the image again for {names}, which is much slower"));
            self.reading.counts.reset();
            let extents = self.image.extents(self.reading, false);
            match extents.and_then(|extents| self.write(writers, &behind, extents)) {
                Ok(second) => summary = second,
                // targets that were finished before stay finished: only those left behind fail
                Err(error) => behind.iter().for_each(|&i| writers[i].state.fail(repeat(&error))),
            }
            waiting = behind;
        }
    }

    /// Wipes the old systems of all targets, and has them format themselves if that is how they are
    /// erased. Wipes all signatures, except the signatures in the range `kept` of each;
    /// without `kept`, all of them.
    pub(super) fn wipe(&self, writers: &mut [TargetWriter], kept: &[Range<u64>]) {
        self.enter(Phase::Wipe);
        let formats = self.image.info().erases == Some(EraseWay::NvmeFormat);
        let wiping: Vec<_> = writers
            .iter()
            .enumerate()
            .map(|(i, writer)| {
                let kept = kept.get(i).cloned().unwrap_or(0..0);
                writer.begin(move |target| {
                    let wiped = finish::wipe_before(target, &kept);
                    let formatted =
                        wiped.and_then(|()| if formats { target.io.format() } else { Ok(()) });
                    formatted.unwrap_or_else(|error| target.fail(error));
                })
            })
            .collect();
        for (writer, running) in writers.iter_mut().zip(&wiping) {
            // if the device hangs, the target has failed; a cancel is noticed by the reader
            let _ = writer.wait(running);
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.board.enter(phase, self.observer);
    }

    fn notice(&self, message: String) {
        self.observer.event(&Event::Notice { message });
    }

    /// Reads the whole image, and sends each of the `waiting` writers the extents that it still
    /// needs.
    fn write(
        &self,
        writers: &mut [TargetWriter],
        waiting: &[usize],
        mut extents: Box<dyn ExtentReader>,
    ) -> Result<ReadSummary> {
        self.enter(Phase::Write);
        let starts: Vec<(usize, u64)> =
            waiting.iter().map(|&i| (i, writers[i].resume_from.take().unwrap_or(0))).collect();
        let mut summary = ReadSummary::with_head()?;
        let distribution = Distribution {
            can_read_again: self.image.source().is_repeatable(),
            overflow: if self.plan.options.fit {
                Overflow::LeaveOut { backup_gpt: gpt::backup_range(self.image.head()) }
            } else {
                Overflow::Refuse
            },
        };
        let have_all_failed =
            |writers: &[TargetWriter]| waiting.iter().all(|&i| writers[i].state.has_failed());
        let mut number = 0;
        while let Some(extent) = extents.next()? {
            if let Some(part) = summary.hold_back(extent) {
                for &(index, _) in starts.iter().filter(|(_, start)| number >= *start) {
                    distribution.send_extent(writers, index, number, &part)?;
                }
                number += 1;
            }
            if have_all_failed(writers) {
                break;
            }
        }
        // after an early stop there is nothing to check
        if !have_all_failed(writers) {
            self.check_summary(&mut summary, &*extents)?;
        }
        self.image.warnings().into_iter().for_each(|note| self.notice(note));
        Ok(summary)
    }

    /// Compares what was read with what was expected: the size, the first MiB as seen when the
    /// image was opened, and the digests.
    fn check_summary(&self, summary: &mut ReadSummary, extents: &dyn ExtentReader) -> Result<()> {
        let info = self.image.info();
        if let Some(promised) = info.disk_bytes
            && promised != summary.disk_bytes
        {
            let has = summary.disk_bytes;
            let message = format!("the image should have {promised} bytes, but has {has}");
            return Err(Error::new(ErrorKind::Source, message)
                .hint("it was changed or cut: fetch it again"));
        }
        if summary.head() != self.image.head() {
            let message = "the image changed while it was read: it begins differently than when \
                           it was opened";
            return Err(Error::new(ErrorKind::Source, message)
                .hint("wait until it is complete, then start again"));
        }
        summary.digests = extents.digests();
        self.image.check_digests(&summary.digests, &self.reading.cancel)?;
        summary.is_digest_checked = info.is_content_promised();
        Ok(())
    }

    /// Proves and completes the targets `done`, side by side.
    pub(super) fn finish(
        &self,
        writers: &mut [TargetWriter],
        done: &[usize],
        summary: &ReadSummary,
    ) -> Result<Vec<TargetReport>> {
        for &i in done {
            writers[i].drain()?;
        }
        self.enter(if self.plan.options.verify { Phase::Verify } else { Phase::Finish });
        let work = Arc::new(Work {
            options: self.plan.options.clone(),
            image: self.image.clone(),
            summary: summary.clone(),
        });
        let running: Vec<_> = done.iter().map(|&i| Finishing::begin(&writers[i], &work)).collect();
        let reports: Vec<_> =
            done.iter().zip(running).map(|(&i, end)| end.wait(&mut writers[i])).collect();
        let failures = || reports.iter().filter_map(|report| report.failure.as_ref());
        if failures().any(|failure| failure.kind == ErrorKind::Cancelled) {
            return Err(Error::cancelled());
        }
        for (&i, report) in done.iter().zip(&reports) {
            if let (Some(failure), true) = (&report.failure, writers.len() > 1) {
                self.observer.event(&Event::TargetFailed {
                    target: writers[i].state.name().to_owned(),
                    kind: failure.kind,
                    message: failure.message.clone(),
                });
            }
        }
        Ok(reports)
    }

    pub(super) fn report(&self, summary: &ReadSummary, targets: Vec<TargetReport>) -> FlashReport {
        let source_bytes = self.reading.counts.source_bytes.load(Ordering::Relaxed);
        let info = self.image.info().clone();
        FlashReport {
            source_bytes,
            skipped_bytes: info.source_bytes.map_or(0, |all| all.saturating_sub(source_bytes)),
            source_sha256: summary.digests.wire.sha256,
            is_digest_checked: summary.is_digest_checked,
            disk_bytes: summary.disk_bytes,
            data_bytes: summary.data_bytes,
            targets,
            phases: self.board.phase_times(),
            image: info,
        }
    }
}

/// A copy of `error` for another target; errors cannot be cloned.
fn repeat(error: &Error) -> Error {
    let mut copy = Error::new(error.kind(), format!("{error:#}"));
    if let Some(step) = error.next_step() {
        copy = copy.hint(step);
    }
    error.remedy().into_iter().fold(copy, Error::with_remedy)
}
