//! The steps of a delta flash.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use super::fetch::{FetchPlan, send};
use super::layout::{HEAD, Layout, is_head};
use super::matches::{FrameState, Match, position};
use super::moves::Mover;
use super::order::{MoveOrder, MovedFrame, order};
use super::policy::SAMPLE_STRIDE;
use super::survey::Survey;
use crate::extent::{Extent, is_zero};
use crate::flash::device_io::index as in_buffer;
use crate::flash::execute::Execution;
use crate::flash::ledger::{Expected, LedgerEntry};
use crate::flash::stale::merged;
use crate::flash::summary::ReadSummary;
use crate::flash::write_job::WriteJob;
use crate::flash::writer::TargetWriter;
use crate::flash::{DeltaMode, DeltaReport, FlashReport};
use crate::image::Image;
use crate::pack::{BLOCK_BYTES, PackIndex};
use crate::{Error, ErrorKind, Phase, Result};

/// What a delta flash has done with one target.
#[derive(Clone, Copy, Debug)]
pub(in crate::flash) struct DeltaOutcome {
    pub(in crate::flash) report: DeltaReport,
    /// Not all that was kept is read back.
    pub(in crate::flash) is_sampled: bool,
}

/// A delta flash whose targets are scanned. Nothing was written yet.
pub(in crate::flash) struct DeltaFlash {
    index: Arc<PackIndex>,
    targets: Vec<ScannedTarget>,
}

#[derive(Clone)]
struct ScannedTarget {
    layout: Layout,
    /// Absent if the target has failed, or is not worth a scan: it gets the whole image.
    matches: Option<Arc<Match>>,
    order: Arc<MoveOrder>,
}

impl DeltaFlash {
    /// Scans the targets. `None` if a full flash is asked for, or expected to be faster.
    ///
    /// # Errors
    /// - [`ErrorKind::Refused`]: a delta flash is demanded, and the image or a target does not
    ///   allow it.
    /// - [`ErrorKind::Integrity`]: the image is not what it was when it was opened.
    /// - [`ErrorKind::Cancelled`].
    pub(in crate::flash) fn prepare(
        execution: &Execution<'_>,
        writers: &mut [TargetWriter],
    ) -> Result<Option<Self>> {
        let options = &execution.plan.options;
        let sizes: Vec<u64> = writers.iter().map(|writer| writer.disk.size_bytes).collect();
        let Some((index, layouts)) = possible(execution.image, &sizes, options.delta)? else {
            return Ok(None);
        };
        check_head(execution.image, &index)?;
        execution.enter(Phase::Scan);
        let cancel = &execution.reading.cancel;
        let survey = Arc::new(Survey::new(execution.image, index, options, cancel)?);
        let matches = survey.run(writers, &layouts)?;
        if matches.iter().all(Option::is_none) {
            return Ok(None);
        }
        let index = Arc::clone(&survey.index);
        let scanned = |(matches, layout): (Option<Match>, Layout)| match matches {
            Some(mut matches) => {
                let order = order_moves(&index, &mut matches, options.stash_bytes);
                let (matches, order) = (Some(Arc::new(matches)), Arc::new(order));
                ScannedTarget { layout, matches, order }
            }
            None => ScannedTarget { layout, matches: None, order: Arc::default() },
        };
        let targets = matches.into_iter().zip(layouts).map(scanned).collect();
        Ok(Some(Self { index, targets }))
    }

    /// Wipes, moves, fetches, and proves.
    pub(in crate::flash) fn run(
        &self,
        execution: &Execution<'_>,
        writers: &mut [TargetWriter],
    ) -> Result<FlashReport> {
        let kept: Vec<Range<u64>> = self.targets.iter().map(ScannedTarget::kept_range).collect();
        execution.wipe(writers, &kept);
        execution.enter(Phase::Write);
        let matches: Vec<_> = self.targets.iter().map(|it| it.matches.clone()).collect();
        let needed: Vec<Vec<u32>> =
            self.targets.iter().map(|target| target.fetched(&self.index)).collect();
        for (i, writer) in writers.iter().enumerate() {
            let kept_bytes = self.report(i, &[]).kept_bytes;
            writer.state.counters.equal_bytes.store(kept_bytes, Ordering::Relaxed);
            writer.state.io.expect_zeros();
        }
        let reading = execution.reading;
        let fetching = FetchPlan::start(execution.image, &self.index, needed, reading)?;
        let late = self.move_frames(writers)?;
        self.zero(writers)?;
        let done = self.index.disk_bytes() - fetching.bytes(&self.index);
        reading.counts.decoded_bytes.store(done, Ordering::Relaxed);
        fetching.run(&self.index, &matches, writers, reading)?;
        if late.iter().any(|it| !it.is_empty()) {
            let fetching = FetchPlan::start(execution.image, &self.index, late.clone(), reading)?;
            fetching.run(&self.index, &matches, writers, reading)?;
        }
        for writer in writers.iter_mut() {
            writer.drain()?;
        }
        for (i, writer) in writers.iter().enumerate() {
            let is_sampled = execution.plan.options.proven_disk && matches[i].is_some();
            let report = self.report(i, &late[i]);
            let _ = writer.state.delta.set(DeltaOutcome { report, is_sampled });
            if let Some(ledger) = &writer.state.ledger {
                ledger.replace(self.entries(i, is_sampled));
            }
        }
        // opening compared the index with the promised one, and each part is compared with the index
        let is_checked = execution.image.info().expected_pack_index_sha256.is_some();
        let summary = ReadSummary::of_packed(&self.index, execution.image.head(), is_checked);
        let all: Vec<usize> = (0..writers.len()).collect();
        let reports = execution.finish(writers, &all, &summary)?;
        Ok(execution.report(&summary, reports))
    }

    /// Moves the frames of all targets, side by side. Returns those that have to be fetched after
    /// all, for each target.
    fn move_frames(&self, writers: &mut [TargetWriter]) -> Result<Vec<Vec<u32>>> {
        type Slot = Arc<OnceLock<Result<Vec<u32>>>>;
        let slots: Vec<Slot> = writers.iter().map(|_| Arc::default()).collect();
        let mut running = Vec::new();
        for ((writer, target), slot) in writers.iter().zip(&self.targets).zip(&slots) {
            let (Some(matches), Some(queue)) = (target.matches.clone(), writer.queue()) else {
                running.push(None);
                continue;
            };
            let (index, order, slot) =
                (Arc::clone(&self.index), Arc::clone(&target.order), Arc::clone(slot));
            running.push(Some(writer.begin(move |target| {
                let mover = Mover { target, index: &index, matches: &matches, queue: &queue };
                let result = mover.run(&order);
                drop(queue);
                let _ = slot.set(result);
            })));
        }
        for (writer, running) in writers.iter_mut().zip(&running) {
            if let Some(running) = running {
                // if the device hangs, the target has failed
                let _ = writer.wait(running);
            }
            writer.state.io.cancel.check()?;
        }
        let late = |(slot, writer): (Slot, &TargetWriter)| {
            match Arc::into_inner(slot).and_then(OnceLock::into_inner) {
                Some(Ok(late)) => late,
                Some(Err(error)) => {
                    writer.state.fail(error);
                    Vec::new()
                }
                // no moves, or the device hangs
                None => Vec::new(),
            }
        };
        Ok(slots.into_iter().zip(writers.iter()).map(late).collect())
    }

    /// Zeroes the frames of zeros, now that nobody needs the old content in their place.
    fn zero(&self, writers: &mut [TargetWriter]) -> Result<()> {
        for range in zero_ranges(&self.index) {
            for writer in writers.iter_mut() {
                let (offset, len) = (range.start, range.end - range.start);
                send(writer, WriteJob::Extent(Extent::Zero { offset, len }))?;
            }
        }
        Ok(())
    }

    /// What target number `target` held, of which the frames `late` had to be fetched after all.
    fn report(&self, target: usize, late: &[u32]) -> DeltaReport {
        let ScannedTarget { matches, order, .. } = &self.targets[target];
        match matches {
            Some(matches) => matches.report(&self.index, order.stash_peak_blocks, late),
            None => Match::nothing(&self.index).report(&self.index, 0, late),
        }
    }

    /// What target number `target` must hold after the first MiB. With `is_sampled`, of the frames
    /// that were kept only some.
    fn entries(&self, target: usize, is_sampled: bool) -> Vec<LedgerEntry> {
        let matches = self.targets[target].matches.as_ref();
        let mut entries: Vec<LedgerEntry> = zero_ranges(&self.index)
            .into_iter()
            .map(|range| LedgerEntry {
                offset: range.start,
                len: range.end - range.start,
                expected: Expected::Zeros,
            })
            .collect();
        let mut kept = 0;
        let mut run: Option<Range<usize>> = None;
        let frames = self.index.frames();
        for (number, frame) in frames.iter().enumerate() {
            let is_kept = matches.is_some_and(|it| it.states[number] == FrameState::Kept);
            kept += usize::from(is_kept);
            let is_left_out = is_sampled && is_kept && kept % SAMPLE_STRIDE != 1;
            let is_read = frame.blake3.is_some() && !is_head(frame) && !is_left_out;
            // frames of one entry have the same length, but for the last one
            let continues = run.as_ref().is_some_and(|run| {
                let (first, last) = (&frames[run.start], &frames[run.end - 1]);
                is_read
                    && run.end == number
                    && last.disk_bytes == first.disk_bytes
                    && frame.disk_bytes <= first.disk_bytes
            });
            if continues {
                run = run.map(|run| run.start..number + 1);
                continue;
            }
            entries.extend(run.take().map(|run| self.entry(run)));
            run = is_read.then_some(number..number + 1);
        }
        entries.extend(run.map(|run| self.entry(run)));
        entries
    }

    fn entry(&self, frames: Range<usize>) -> LedgerEntry {
        let all = self.index.frames();
        let (offset, last) = (all[frames.start].disk_offset, &all[frames.end - 1]);
        let len = last.disk_offset + u64::from(last.disk_bytes) - offset;
        let expected = Expected::Frames { index: Arc::clone(&self.index), frames };
        LedgerEntry { offset, len, expected }
    }
}

impl ScannedTarget {
    fn kept_range(&self) -> Range<u64> {
        self.matches.as_ref().map_or(0..0, |_| self.layout.scanned())
    }

    /// Numbers of the frames to fetch, ascending.
    fn fetched(&self, index: &PackIndex) -> Vec<u32> {
        match &self.matches {
            Some(matches) => matches.frames(FrameState::Fetched).collect(),
            None => Match::nothing(index).frames(FrameState::Fetched).collect(),
        }
    }
}

/// The index of `image`, and the layouts of disks with these `sizes`. `None` if a delta flash is not
/// wanted, or not possible.
///
/// # Errors
/// [`ErrorKind::Refused`]: it is demanded, and not possible.
pub(super) fn possible(
    image: &Image,
    sizes: &[u64],
    mode: DeltaMode,
) -> Result<Option<(Arc<PackIndex>, Vec<Layout>)>> {
    let why = match (mode, image.shared_pack_index()) {
        (DeltaMode::Never, _) => return Ok(None),
        (_, None) => "the image is not packed",
        _ if !image.source().is_seekable() => "the source sends only the whole image",
        _ if image.has_unpromised_digest() => {
            "the digest of the whole file is expected, but not that of its index"
        }
        (_, Some(index)) => {
            let layouts = sizes.iter().map(|&size| Layout::new(index, size));
            match layouts.collect::<Option<Vec<_>>>() {
                Some(layouts) => return Ok(Some((Arc::clone(index), layouts))),
                None => "the image is larger than the disk, or has more than 32 GiB of data",
            }
        }
    };
    match mode {
        DeltaMode::Always => {
            let message = format!("a delta flash is not possible: {why}");
            Err(Error::new(ErrorKind::Refused, message)
                .hint("pack the image and give the digest of its index, or allow a full flash"))
        }
        _ => Ok(None),
    }
}

/// Compares the first MiB of the image, read when it was opened, with the index.
fn check_head(image: &Image, index: &PackIndex) -> Result<()> {
    let head = image.head();
    for frame in index.frames().iter().take_while(|frame| is_head(frame)) {
        let start = in_buffer(frame.disk_offset);
        let end = head.len().min(start + frame.disk_bytes as usize);
        let is_right = match frame.blake3 {
            Some(hash) => hash == *blake3::hash(&head[start..end]).as_bytes(),
            None => is_zero(&head[start..end]),
        };
        if !is_right {
            let message = "the first MiB of the image differs from its index";
            return Err(Error::new(ErrorKind::Integrity, message)
                .with_path(image.source().location())
                .hint("fetch or pack the image again"));
        }
    }
    Ok(())
}

/// Orders the moves of `matches`, and decides to fetch what has no room in the stash.
pub(super) fn order_moves(index: &PackIndex, matches: &mut Match, stash_bytes: u64) -> MoveOrder {
    let stash_blocks = stash_bytes / u64::from(BLOCK_BYTES);
    let stash_blocks = usize::try_from(stash_blocks).unwrap_or(usize::MAX);
    let order = order(&moved_frames(index, matches), stash_blocks);
    matches.fetch(&order.given_up);
    order
}

/// The frames of `matches` to move, in the order of the disk.
fn moved_frames<'a>(index: &PackIndex, matches: &'a Match) -> Vec<MovedFrame<'a>> {
    let frames = matches.frames(FrameState::Moved);
    frames
        .map(|number| {
            let frame = &index.frames()[number as usize];
            let position = position(frame.disk_offset);
            MovedFrame { number, position, sources: matches.sources_of(frame) }
        })
        .collect()
}

/// The parts of the disk after the first MiB that are zeros in the image, joined where they touch.
fn zero_ranges(index: &PackIndex) -> Vec<Range<u64>> {
    let frames = index.frames().iter().filter(|frame| frame.blake3.is_none());
    let ranges = frames
        .map(|frame| frame.disk_offset.max(HEAD)..frame.disk_offset + u64::from(frame.disk_bytes));
    merged(ranges.collect())
}
