//! What a delta flash would keep, move and fetch. Writes nothing.

use std::sync::{Arc, OnceLock};

use crossbeam_channel::bounded;

use super::layout::{BLOCK, Layout, ScanPart, pieces};
use super::matches::{Findings, Match, WantedHashes};
use super::policy::DiskClass;
use super::run::{order_moves, possible};
use super::survey::Survey;
use crate::disks::DiskHost;
use crate::extent::{BUFFER_BYTES, Extent, ExtentReader, zeroed};
use crate::flash::device_io::index as in_buffer;
use crate::flash::target::{TargetState, spawn};
use crate::flash::watch::{StallTimeout, Watch};
use crate::flash::{DeltaMode, DeltaReport, FlashOptions, FlashPlan};
use crate::image::Image;
use crate::pack::PackIndex;
use crate::read_context::ReadContext;
use crate::size::MIB;
use crate::{CancelToken, Error, ErrorKind, Result};

impl FlashPlan {
    /// Reads the targets, and estimates for each what a flash of `image` would keep, move and fetch.
    /// `None` for a target that gets a full flash. Writes nothing.
    ///
    /// The flash itself scans again, so its report may differ.
    ///
    /// # Errors
    /// - [`ErrorKind::Refused`]: [`DeltaMode::Always`] is set, and a delta flash is not possible.
    /// - [`ErrorKind::Target`]: a disk cannot be opened.
    /// - [`ErrorKind::Cancelled`]: `cancel` was cancelled.
    pub fn estimate(
        &self,
        image: &Image,
        host: &dyn DiskHost,
        cancel: &CancelToken,
    ) -> Result<Vec<Option<DeltaReport>>> {
        let sizes: Vec<u64> = self.targets.iter().map(|disk| disk.size_bytes).collect();
        let Some((index, layouts)) = possible(image, &sizes, self.options.delta)? else {
            return Ok(vec![None; sizes.len()]);
        };
        let survey = Arc::new(Survey::new(image, index, &self.options, cancel)?);
        let reading = FlashOptions::default().verify(false).delta(DeltaMode::Never);
        let mut estimates = Vec::new();
        for (disk, layout) in self.targets.iter().zip(layouts) {
            let device = host.open_read_only(disk)?;
            let target = Arc::new(TargetState::new(disk, device, &reading, cancel)?);
            let found: Arc<OnceLock<Result<Option<Match>>>> = Arc::default();
            let (alive, running) = bounded(0);
            let (surveying, result) = (Arc::clone(&survey), Arc::clone(&found));
            let class = DiskClass::of(disk);
            spawn("bty-estimate", &target, &alive, move |target| {
                let _ = result.set(surveying.of_target(target, layout, class));
            })?;
            drop(alive);
            let timeout = StallTimeout::new(self.options.stall_ms);
            Watch::new(&target, &timeout).wait(&running)?;
            cancel.check()?;
            let matches = match Arc::into_inner(found).and_then(OnceLock::into_inner) {
                Some(matches) => matches?,
                None => return Err(target.take_failure().unwrap_or_else(Error::cancelled)),
            };
            let index = &survey.index;
            estimates.push(matches.map(|it| report(index, it, self.options.stash_bytes)));
        }
        Ok(estimates)
    }
}

/// Estimates what a delta flash of the packed image `new` would keep, move and fetch on a disk that
/// holds `old`, an image in any format. Of two packed images only the indexes are read.
///
/// # Errors
/// - [`ErrorKind::Refused`]: `new` is not packed, or has more than 32 GiB of data.
/// - [`ErrorKind::Source`], [`ErrorKind::Format`], [`ErrorKind::Integrity`]: `old` cannot be read,
///   or is damaged.
/// - [`ErrorKind::Cancelled`]: `cancel` was cancelled.
pub fn diff(old: &Image, new: &Image, cancel: &CancelToken) -> Result<DeltaReport> {
    let refused = |why: &str| {
        let message = format!("{} {why}", new.info().name);
        Error::new(ErrorKind::Refused, message).hint("pack it first, and compare the packed image")
    };
    let index = new.shared_pack_index().cloned().ok_or_else(|| refused("is not packed"))?;
    // as if the disk were larger: the last MiB of a disk is always written
    let layout = Layout::new(&index, index.disk_bytes() + MIB)
        .ok_or_else(|| refused("has too much data to be compared"))?;
    let wanted = WantedHashes::new(&index);
    let findings = Findings::new(&index, &wanted);
    match old.shared_pack_index() {
        Some(old) if is_aligned(old) => findings.add_image(&index, &wanted, old),
        _ => add_content(&findings, &index, &wanted, layout, old, cancel)?,
    }
    let matches = findings.to_match(&index, &wanted, layout);
    Ok(report(&index, matches, FlashOptions::default().stash_bytes))
}

/// True if blocks of the image are blocks of the disk.
fn is_aligned(index: &PackIndex) -> bool {
    index.frames().iter().all(|frame| frame.disk_offset.is_multiple_of(BLOCK))
        && index.disk_bytes() / BLOCK < u64::from(u32::MAX - 8)
}

fn report(index: &PackIndex, mut matches: Match, stash_bytes: u64) -> DeltaReport {
    let order = order_moves(index, &mut matches, stash_bytes);
    matches.report(index, order.stash_peak_blocks, &[])
}

fn add_content(
    findings: &Findings,
    index: &PackIndex,
    wanted: &WantedHashes,
    layout: Layout,
    old: &Image,
    cancel: &CancelToken,
) -> Result<()> {
    let context = ReadContext::new(8, cancel).in_disk_order();
    let mut bytes = DiskBytes { extents: old.extents(&context, false)?, current: None };
    let mut buffer = zeroed(BUFFER_BYTES)?;
    for piece in pieces(index, layout, ScanPart::All) {
        cancel.check()?;
        let content = &mut buffer[..piece.len];
        bytes.read(piece.offset, content)?;
        findings.add(index, wanted, &piece, content);
    }
    Ok(())
}

/// Reads an image as a disk would read, with ascending offsets. What is not in the image is zero.
struct DiskBytes {
    extents: Box<dyn ExtentReader>,
    current: Option<Extent>,
}

impl DiskBytes {
    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<()> {
        into.fill(0);
        let end = offset + into.len() as u64;
        loop {
            if self.current.is_none() {
                self.current = self.extents.next()?;
            }
            let Some(extent) = &self.current else { return Ok(()) };
            let (start, len) = match extent {
                Extent::Data { offset, block } => (*offset, block.len() as u64),
                Extent::Zero { offset, len } => (*offset, *len),
            };
            let (from, until) = (start.max(offset), (start + len).min(end));
            if let Extent::Data { block, .. } = extent
                && from < until
            {
                let part = &block[in_buffer(from - start)..in_buffer(until - start)];
                into[in_buffer(from - offset)..in_buffer(until - offset)].copy_from_slice(part);
            }
            if start + len > end {
                return Ok(());
            }
            self.current = None;
        }
    }
}
