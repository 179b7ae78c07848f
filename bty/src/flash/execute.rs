//! Execution: probe again, open, wipe, write, prove, finish.
//!
//! The source is read once for all targets. A target that is less than half as fast as another is
//! left behind, so that it stops nobody; it gets a second reading of the source, from the extent
//! where it was left.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use crate::disks::{Disk, DiskHost};
use crate::extent::{Extent, ExtentReader, ReadDigests, first_data, zeroed};
use crate::flash::board::Board;
use crate::flash::finish::{self, Finishing, Work};
use crate::flash::lane::{Lane, Shared};
use crate::flash::plan::cut;
use crate::flash::watch::Patience;
use crate::flash::{FlashPlan, FlashReport, TargetReport};
use crate::image::foreign::{FOOTER_BYTES, is_vhd_footer};
use crate::image::{HEAD_BYTES, Image, ImageInfo};
use crate::partition_table::gpt;
use crate::read_context::ReadContext;
use crate::size::human;
use crate::{CancelToken, Context, Error, ErrorKind, Event, Observer, Phase, Result, threads};

/// Buffers of 2 MiB between reader and writers.
const BUFFERS: usize = 20;

/// How long the reader waits for one lane, in sum, before it considers leaving it behind.
const SLOWNESS: Duration = Duration::from_secs(2);

impl FlashPlan {
    /// Carries the plan out: see the [module](crate::flash) for the steps and their promises.
    ///
    /// `image` must be the one the plan was made for; another one is refused. With several targets,
    /// one that fails does not stop the others: its [`TargetReport`] tells why, and
    /// [`FlashReport::is_success`] is false.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] with all reasons when a disk changed since the plan was made or a
    /// rule forbids it; nothing was written then. [`ErrorKind::Source`], [`ErrorKind::Format`] or
    /// [`ErrorKind::Integrity`] when the image turned out bad, [`ErrorKind::Cancelled`] when
    /// cancelled: no target boots then. Failures of targets are in the report.
    pub fn execute(
        &self,
        image: &Image,
        host: &dyn DiskHost,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<FlashReport> {
        let disks = self.probe_again(image, host)?;
        self.check_fit(image, &disks, cancel)?;
        let reading = ReadContext::new(BUFFERS + 4 * disks.len().saturating_sub(1).min(4), cancel);
        let lanes = self.open(disks, host, cancel)?;
        let board = Board::new(
            image,
            &reading.counts,
            lanes.iter().map(|l| Arc::clone(&l.shared)).collect(),
        );
        let (running, over) = bounded(0);
        thread::scope(|scope| {
            threads::start_in(scope, "bty-progress", || board.tell(observer, &over))?;
            let result =
                Run { plan: self, image, reading: &reading, board: &board, observer }.run(lanes);
            drop::<Sender<()>>(running);
            result
        })
        .map_err(|error| if board.has_begun() { error.after_writing() } else { error })
        .context(|| format!("flashing {}", image.info().name))
    }

    /// The disks as they are now; refuses when one is not the disk that was planned.
    fn probe_again(&self, image: &Image, host: &dyn DiskHost) -> Result<Vec<Disk>> {
        if self.image != *image.info() {
            let message = format!(
                "the plan was made for {}, not for {}",
                self.image.source,
                image.info().source
            );
            return Err(Error::new(ErrorKind::Refused, message)
                .hint("plan again with the image that is to be written"));
        }
        let mut changed = Vec::new();
        let mut disks = Vec::new();
        for planned in &self.targets {
            let now = host.probe(&planned.path)?;
            if !planned.is_same_disk(&now) {
                changed.push(format!(
                    "{} is another disk than when the plan was made (then {}; now {})",
                    planned.path.display(),
                    planned.summary(),
                    now.summary()
                ));
            }
            disks.push(now);
        }
        if !changed.is_empty() {
            return Err(Error::new(ErrorKind::Refused, format!("refused: {}", changed.join("; ")))
                .hint("look at bty disks, and plan again"));
        }
        let fresh = Self::new(image.info(), disks, self.options.clone());
        fresh.check()?;
        Ok(fresh.targets)
    }

    /// Refuses disks for which data of the image would have to be left out, where that is seen
    /// before the image is read.
    fn check_fit(&self, image: &Image, disks: &[Disk], cancel: &CancelToken) -> Result<()> {
        let smaller = |disk: &&Disk| {
            self.options.fit && image.info().disk_bytes.is_some_and(|n| n > disk.size_bytes)
        };
        for disk in disks.iter().filter(smaller) {
            if let Some(offset) = image.first_data_behind(disk.size_bytes, cancel)? {
                return Err(does_not_fit(
                    &disk.path.display().to_string(),
                    offset,
                    ErrorKind::Refused,
                ));
            }
        }
        Ok(())
    }

    /// Opens every target before the first write, so that a refusal of one leaves all untouched.
    fn open(
        &self,
        disks: Vec<Disk>,
        host: &dyn DiskHost,
        cancel: &CancelToken,
    ) -> Result<Vec<Lane>> {
        let opened = disks.iter().map(|disk| host.open(disk)).collect::<Result<Vec<_>>>()?;
        let patience = Patience::default();
        let start = |(disk, device)| Lane::start(disk, device, &self.options, &patience, cancel);
        disks.into_iter().zip(opened).map(start).collect()
    }
}

/// One execution.
struct Run<'a> {
    plan: &'a FlashPlan,
    image: &'a Image,
    reading: &'a ReadContext,
    board: &'a Board,
    observer: &'a dyn Observer,
}

/// What one reading of the image showed.
#[derive(Clone, Default)]
pub(super) struct Seen {
    /// The first MiB, held back.
    pub(super) head: Vec<u8>,
    /// Size of the disk image.
    pub(super) disk_bytes: u64,
    data_bytes: u64,
    digests: ReadDigests,
    /// All digests that were promised are those that were found.
    is_digest_checked: bool,
    /// The last bytes so far are the footer of a virtual disk.
    ends_in_footer: bool,
}

impl Run<'_> {
    fn run(&self, mut lanes: Vec<Lane>) -> Result<FlashReport> {
        let result = self.steps(&mut lanes);
        if let Err(error) = &result {
            // nothing may still be writing when the caller is told
            for lane in &mut lanes {
                lane.shared.fail(repeat(error));
                let _ = lane.drain();
            }
        }
        result
    }

    fn steps(&self, lanes: &mut [Lane]) -> Result<FlashReport> {
        // reading ahead begins while the old heads are wiped
        let extents = self.image.extents(self.reading, false)?;
        self.enter(Phase::Wipe);
        let wipe = |shared: &Shared| {
            finish::wipe_before(shared).unwrap_or_else(|error| shared.fail(error));
        };
        let wiping: Vec<_> = lanes.iter().map(|lane| lane.begin(wipe)).collect();
        for (lane, running) in lanes.iter_mut().zip(&wiping) {
            // a lane that hangs has failed by then, and a cancel is seen by the reader
            let _ = lane.wait(running);
        }
        let mut reports: Vec<Option<TargetReport>> = lanes.iter().map(|_| None).collect();
        let mut waiting: Vec<usize> = (0..lanes.len()).collect();
        let mut seen = self.write(lanes, &waiting, extents)?;
        loop {
            let (behind, done): (Vec<usize>, Vec<usize>) = waiting
                .iter()
                .partition(|&&i| lanes[i].behind_from.is_some() && !lanes[i].shared.has_failed());
            let finished = self.finish(lanes, &done, &seen)?;
            done.into_iter().zip(finished).for_each(|(i, report)| reports[i] = Some(report));
            if behind.is_empty() {
                return Ok(self.report(&seen, reports.into_iter().flatten().collect()));
            }
            let names: Vec<&str> = behind.iter().map(|&i| lanes[i].shared.name.as_str()).collect();
            self.notice(format!(
                "reading the image again for {}, which is much slower",
                names.join(", ")
            ));
            self.reading.counts.reset();
            let again = self.image.extents(self.reading, false);
            match again.and_then(|extents| self.write(lanes, &behind, extents)) {
                Ok(again) => seen = again,
                // what was finished before stays finished: only those left behind fail
                Err(error) => behind.iter().for_each(|&i| lanes[i].shared.fail(repeat(&error))),
            }
            waiting = behind;
        }
    }

    fn enter(&self, phase: Phase) {
        self.board.enter(phase, self.observer);
    }

    fn notice(&self, message: String) {
        self.observer.event(&Event::Notice { message });
    }

    /// Reads the whole image, and gives each waiting lane the extents that it has not had yet.
    fn write(
        &self,
        lanes: &mut [Lane],
        waiting: &[usize],
        mut extents: Box<dyn ExtentReader>,
    ) -> Result<Seen> {
        self.enter(Phase::Write);
        let starts: Vec<(usize, u64)> =
            waiting.iter().map(|&i| (i, lanes[i].behind_from.take().unwrap_or(0))).collect();
        let mut seen = Seen { head: zeroed(HEAD_BYTES)?, ..Seen::default() };
        let rules = Rules {
            can_read_again: self.image.source().is_repeatable(),
            leave_out: self.plan.options.fit.then(|| gpt::backup_range(self.image.head())),
        };
        let mut number = 0;
        while let Some(extent) = extents.next()? {
            if let Some(part) = seen.hold_back(extent) {
                for &(index, _) in starts.iter().filter(|(_, from)| number >= *from) {
                    give(lanes, index, number, &part, &rules)?;
                }
                number += 1;
            }
            if starts.iter().all(|&(i, _)| lanes[i].shared.has_failed()) {
                break;
            }
        }
        self.check(&mut seen, &*extents, lanes, &starts)?;
        self.image.warnings().into_iter().for_each(|note| self.notice(note));
        Ok(seen)
    }

    /// Checks that what was read is what was promised.
    fn check(
        &self,
        seen: &mut Seen,
        extents: &dyn ExtentReader,
        lanes: &[Lane],
        starts: &[(usize, u64)],
    ) -> Result<()> {
        if starts.iter().all(|&(i, _)| lanes[i].shared.has_failed()) {
            return Ok(()); // stopped early: there is nothing to check
        }
        let info = self.image.info();
        if let Some(promised) = info.disk_bytes
            && promised != seen.disk_bytes
        {
            return Err(Error::new(
                ErrorKind::Source,
                format!("the image promised {promised} bytes, and has {}", seen.disk_bytes),
            )
            .hint("it was changed or cut: fetch it again"));
        }
        if seen.head() != self.image.head() {
            let message =
                "the image changed while it was read: it begins otherwise than when it was opened";
            return Err(Error::new(ErrorKind::Source, message)
                .hint("wait until it is complete, then start again"));
        }
        seen.digests = extents.digests();
        self.image.check_digests(&seen.digests, &self.reading.cancel)?;
        seen.is_digest_checked = info.has_expected_digest();
        Ok(())
    }

    /// Proves and completes the lanes `done`, side by side.
    fn finish(&self, lanes: &mut [Lane], done: &[usize], seen: &Seen) -> Result<Vec<TargetReport>> {
        for &i in done {
            lanes[i].drain()?;
        }
        self.enter(if self.plan.options.verify { Phase::Verify } else { Phase::Finish });
        let work = Work {
            options: self.plan.options.clone(),
            image: self.image.clone(),
            seen: seen.clone(),
        };
        let work = Arc::new(work);
        let ends: Vec<_> = done.iter().map(|&i| Finishing::begin(&lanes[i], &work)).collect();
        let reports: Vec<_> =
            done.iter().zip(ends).map(|(&i, end)| end.wait(&mut lanes[i])).collect();
        if reports
            .iter()
            .filter_map(|r| r.failure.as_ref())
            .any(|f| f.kind == ErrorKind::Cancelled.as_str())
        {
            return Err(Error::cancelled());
        }
        for (&i, report) in done.iter().zip(&reports) {
            if let (Some(failure), true) = (&report.failure, lanes.len() > 1) {
                self.observer.event(&Event::TargetFailed {
                    target: lanes[i].shared.name.clone(),
                    kind: failure.kind.clone(),
                    message: failure.message.clone(),
                });
            }
        }
        Ok(reports)
    }

    fn report(&self, seen: &Seen, targets: Vec<TargetReport>) -> FlashReport {
        let source_bytes = self.reading.counts.source_bytes.load(Ordering::Relaxed);
        let info = self.image.info().clone();
        FlashReport {
            source_bytes,
            skipped_bytes: info.source_bytes.map_or(0, |all| all.saturating_sub(source_bytes)),
            source_sha256: seen.digests.wire.sha256,
            is_digest_checked: seen.is_digest_checked,
            disk_bytes: seen.disk_bytes,
            data_bytes: seen.data_bytes,
            targets,
            phases: self.board.times(),
            image: info,
        }
    }
}

impl Seen {
    /// Counts `extent`.
    pub(super) fn count(&mut self, extent: &Extent) {
        match extent {
            Extent::Data { block, .. } => {
                self.disk_bytes += block.len() as u64;
                self.data_bytes += block.len() as u64;
                let footer = block.len().checked_sub(FOOTER_BYTES).map(|at| &block[at..]);
                self.ends_in_footer = footer.is_some_and(is_vhd_footer);
            }
            Extent::Zero { len, .. } => {
                self.disk_bytes += len;
                self.ends_in_footer = false;
            }
        }
    }

    /// What a person should know of the image `info` that only reading all of it has shown.
    pub(super) fn notes(&self, info: &ImageInfo) -> Vec<String> {
        let mut notes = Vec::new();
        if let (None, Some(end)) = (info.disk_bytes, info.partitions_end())
            && end > self.disk_bytes
        {
            notes.push(cut(self.disk_bytes, end));
        }
        if self.ends_in_footer {
            notes.push(format!(
                "the image is a Virtual PC disk (vhd) of fixed size: its footer of {FOOTER_BYTES} bytes was written along, and does no harm"
            ));
        }
        notes
    }

    /// Counts `extent`, keeps what belongs to the first MiB, and returns the rest.
    fn hold_back(&mut self, extent: Extent) -> Option<Extent> {
        self.count(&extent);
        let held = HEAD_BYTES as u64;
        match extent {
            Extent::Data { offset, block } => {
                if offset >= held {
                    return Some(Extent::Data { offset, block });
                }
                #[allow(clippy::cast_possible_truncation)] // below one MiB
                let start = offset as usize;
                let kept = block.len().min(HEAD_BYTES - start);
                self.head[start..start + kept].copy_from_slice(&block[..kept]);
                (kept < block.len())
                    .then(|| Extent::Data { offset: held, block: block.slice(kept..block.len()) })
            }
            Extent::Zero { offset, len } => {
                let from = offset.max(held);
                let end = offset + len;
                (from < end).then(|| Extent::Zero { offset: from, len: end - from })
            }
        }
    }

    /// The part of the head that belongs to the image.
    pub(super) fn head(&self) -> &[u8] {
        let len = usize::try_from(self.disk_bytes).unwrap_or(usize::MAX).min(self.head.len());
        &self.head[..len]
    }
}

/// What holds for all lanes of one reading.
struct Rules {
    /// A lane may be left behind.
    can_read_again: bool,
    /// What a disk has no room for is left out, when it is zero or in this range.
    leave_out: Option<Option<Range<u64>>>,
}

/// Gives lane `index` an extent, and waits for room; leaves it behind when it holds up faster ones
/// too long and the image can be read again.
fn give(
    lanes: &mut [Lane],
    index: usize,
    number: u64,
    extent: &Extent,
    rules: &Rules,
) -> Result<()> {
    let lane = &lanes[index];
    if !lane.is_active() {
        return Ok(());
    }
    let mut order = with_room(lane, extent, rules);
    if order.is_none() {
        return Ok(());
    }
    while !(rules.can_read_again && should_leave_behind(lanes, index)) {
        if lanes[index].offer(&mut order)? {
            return Ok(());
        }
    }
    lanes[index].behind_from = Some(number);
    Ok(())
}

/// What `lane` has room for. It fails when that is not all, unless the rest may be left out.
fn with_room(lane: &Lane, extent: &Extent, rules: &Rules) -> Option<Extent> {
    let end = match extent {
        Extent::Data { offset, block } => offset.saturating_add(block.len() as u64),
        Extent::Zero { offset, len } => offset.saturating_add(*len),
    };
    let (name, room) = (&lane.shared.name, lane.disk.size_bytes);
    if end <= room {
        return Some(extent.clone());
    }
    let error = match &rules.leave_out {
        None => Error::new(
            ErrorKind::Target,
            format!("the image turned out larger than {name}, which has {}", human(room)),
        )
        .hint("use a larger disk; this one does not boot now"),
        Some(backup) => match fit(extent, room, backup.as_ref()) {
            Ok(part) => return part,
            Err(offset) => does_not_fit(name, offset, ErrorKind::Target),
        },
    };
    lane.shared.fail(error);
    None
}

/// The part of `extent` that a disk of `room` bytes has room for. What is behind it must be zero,
/// or the backup GPT of the image.
///
/// # Errors
/// The offset of the first byte that would be lost.
fn fit(extent: &Extent, room: u64, backup: Option<&Range<u64>>) -> Result<Option<Extent>, u64> {
    match extent {
        Extent::Zero { offset, len } => {
            let len = room.saturating_sub(*offset).min(*len);
            Ok((len > 0).then_some(Extent::Zero { offset: *offset, len }))
        }
        Extent::Data { offset, block } => {
            let kept = usize::try_from(room.saturating_sub(*offset))
                .unwrap_or(usize::MAX)
                .min(block.len());
            if let Some(at) = first_data(offset + kept as u64, &block[kept..], backup) {
                return Err(at);
            }
            Ok((kept > 0).then(|| Extent::Data { offset: *offset, block: block.slice(0..kept) }))
        }
    }
}

fn does_not_fit(name: &str, offset: u64, kind: ErrorKind) -> Error {
    Error::new(kind, format!("the image has data at offset {offset}, for which {name} has no room"))
        .with_path(name)
        .at_offset(offset)
        .hint("use a larger disk: only zeros can be left out")
}

fn should_leave_behind(lanes: &[Lane], index: usize) -> bool {
    let lane = &lanes[index];
    if lane.waited() < SLOWNESS {
        return false;
    }
    let fastest = lanes
        .iter()
        .enumerate()
        .filter(|(i, l)| *i != index && l.is_active())
        .map(|(_, l)| l.rate())
        .max();
    fastest.is_some_and(|rate| rate / 2 > lane.rate())
}

/// The same error once more, for another lane.
fn repeat(error: &Error) -> Error {
    let copy = Error::new(error.kind(), error.to_string());
    match error.next_step() {
        Some(step) => copy.hint(step),
        None => copy,
    }
}
