//! Compares a disk with an image without writing.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{SendTimeoutError, bounded};
use serde::{Deserialize, Serialize};

use crate::disks::{Disk, DiskHost};
use crate::extent::{Extent, Pool, is_zero};
use crate::flash::device_io::{DeviceIo, index};
use crate::flash::ledger::GRAIN_BYTES;
use crate::flash::readback::{READERS, found_at, pieces, read_piece};
use crate::flash::summary::ReadSummary;
use crate::flash::target::{TargetState, spawn};
use crate::flash::watch::{StallTimeout, WAIT_STEP, Watch};
use crate::flash::{DeltaMode, Difference, FlashOptions, Found};
use crate::image::{Image, ImageInfo};
use crate::partition_table::gpt;
use crate::progress::{Counts, TargetCounts, Ticks};
use crate::read_context::ReadContext;
use crate::setters::setters;
use crate::trace::Span;
use crate::{CancelToken, Digest, Error, ErrorKind, Event, Observer, Phase, Result, threads};

/// Options for [`verify`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Expect the backup GPT at the end of the disk, where
    /// [`FlashOptions::fix_gpt`](field@FlashOptions::fix_gpt) puts it.
    pub fix_gpt: bool,
}

setters! {
    VerifyOptions {
        fix_gpt: bool,
    }
}

/// The outcome of [`verify`]. Sizes and offsets are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The image, as examined.
    pub image: ImageInfo,
    /// The disk, as probed by the caller.
    pub disk: Disk,
    /// True when every byte of the image is on the disk.
    pub is_equal: bool,
    /// The first difference; absent when the disk is equal.
    pub first_difference: Option<Difference>,
    /// Number of bytes that differ.
    pub different_bytes: u64,
    /// Number of bytes compared: the size of the image, plus that of a backup GPT after it.
    pub compared_bytes: u64,
    /// SHA-256 of the source; present as in
    /// [`FlashReport::source_sha256`](crate::flash::FlashReport::source_sha256).
    pub source_sha256: Option<Digest>,
}

impl VerifyReport {
    /// Simulates a report, for dry runs. Reads and compares nothing.
    #[must_use]
    pub fn dry_run(image: &ImageInfo, disk: &Disk, is_equal: bool) -> Self {
        let compared_bytes = image.min_disk_bytes().unwrap_or(0);
        Self {
            image: image.clone(),
            disk: disk.clone(),
            is_equal,
            first_difference: (!is_equal).then_some(Difference { offset: 0, found: Found::Other }),
            different_bytes: if is_equal { 0 } else { compared_bytes },
            compared_bytes,
            source_sha256: image.expected_sha256,
        }
    }

    /// Simulates the last progress event of the comparison, for dry runs.
    #[must_use]
    pub fn progress(&self) -> Event {
        progress(&self.image, &self.disk, self.compared_bytes)
    }
}

fn progress(image: &ImageInfo, disk: &Disk, compared_bytes: u64) -> Event {
    let target = TargetCounts {
        target: disk.path.display().to_string(),
        verified_bytes: compared_bytes,
        verify_total: image.disk_bytes,
        ..TargetCounts::default()
    };
    Event::Progress {
        phase: Phase::Verify,
        elapsed_ms: 0,
        counts: Counts::default(),
        targets: vec![target],
    }
}

/// Compares `disk` with `image` byte by byte, reading from the medium. Writes nothing, and works on
/// a disk in use. `observer` receives the progress.
///
/// # Errors
/// - [`ErrorKind::Refused`]: the disk is smaller than the image, or not the one that was probed.
/// - [`ErrorKind::Target`]: the disk cannot be opened or read.
/// - [`ErrorKind::Source`], [`ErrorKind::Format`] or [`ErrorKind::Integrity`]: the image cannot be
///   read, is damaged, or differs from what was expected.
/// - [`ErrorKind::Cancelled`]: `cancel` was cancelled.
///
/// A difference is not an error: the report says where it is.
pub fn verify(
    image: &Image,
    disk: &Disk,
    host: &dyn DiskHost,
    options: &VerifyOptions,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<VerifyReport> {
    let span = Span::verify(image.info(), disk);
    let report = span.in_scope(|| compare(image, disk, host, options, observer, cancel))?;
    span.record("compared_bytes", report.compared_bytes);
    span.record("different_bytes", report.different_bytes);
    Ok(report)
}

fn compare(
    image: &Image,
    disk: &Disk,
    host: &dyn DiskHost,
    options: &VerifyOptions,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<VerifyReport> {
    let flash = FlashOptions::default().verify(false).delta(DeltaMode::Never);
    let target = Arc::new(TargetState::new(disk, host.open_read_only(disk)?, &flash, cancel)?);
    let patch =
        if options.fix_gpt { GptPatch::new(image, &target.io)? } else { GptPatch::default() };
    let reading = ReadContext::new(8, cancel);
    let comparison = Arc::new(Comparison::new(&target, patch));
    let mut summary = ReadSummary::default();
    let (mut digest, mut ticks) = (None, Ticks::default());
    comparison.run(|compare| {
        let mut extents = image.extents(&reading, false)?;
        while let Some(extent) = extents.next()? {
            summary.count(&extent);
            if summary.disk_bytes > disk.size_bytes {
                let message = format!("the image is larger than {}", disk.path.display());
                return Err(
                    Error::new(ErrorKind::Refused, message).hint("is this the disk you meant?")
                );
            }
            compare(extent)?;
            if ticks.is_due() {
                let compared_bytes = comparison.compared_bytes.load(Ordering::Relaxed);
                observer.event(&progress(image.info(), disk, compared_bytes));
            }
        }
        comparison.patch.behind(summary.disk_bytes).into_iter().try_for_each(compare)?;
        let found = extents.digests();
        digest = found.wire.sha256;
        image.check_digests(&found, cancel)
    })?;
    let compared_bytes = comparison.compared_bytes.load(Ordering::Relaxed);
    observer.event(&progress(image.info(), disk, compared_bytes));
    let first_difference = comparison
        .first_different()
        .map(|offset| Difference { offset, found: found_at(&target.io, offset) });
    Ok(VerifyReport {
        image: image.info().clone(),
        disk: disk.clone(),
        is_equal: first_difference.is_none(),
        first_difference,
        different_bytes: comparison.different_bytes.load(Ordering::Relaxed),
        compared_bytes,
        source_sha256: digest,
    })
}

/// The bytes that `fix_gpt` changes, with their offsets on the disk: a comparison expects them
/// instead of those of the image.
#[derive(Default)]
struct GptPatch(Vec<(u64, Vec<u8>)>);

impl GptPatch {
    fn new(image: &Image, io: &DeviceIo) -> Result<Self> {
        let mut head = image.head().to_vec();
        let mut on_disk = |offset: u64, bytes: &mut [u8]| io.read_bytes(offset, bytes).is_ok();
        let (disk_bytes, sector) = (io.size_bytes(), io.device.sector_bytes());
        let backup = gpt::expected_backup(&mut head, &mut on_disk, disk_bytes, sector)?;
        Ok(Self(
            backup.map_or(Vec::new(), |backup| {
                vec![(0, head), (backup.backup_offset, backup.backup)]
            }),
        ))
    }

    /// The changed ranges after `end`, the end of the image, as extents to compare.
    fn behind(&self, end: u64) -> Vec<Extent> {
        let ranges = self.0.iter().map(|(at, new)| (end.max(*at), at + new.len() as u64));
        ranges
            .filter(|(from, until)| from < until)
            .map(|(offset, until)| Extent::Zero { offset, len: until - offset })
            .collect()
    }

    /// `bytes` of the image, which belong at `offset`, with the changes applied.
    fn apply<'a>(&self, offset: u64, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut bytes = Cow::Borrowed(bytes);
        for (at, new) in &self.0 {
            let start = offset.max(*at);
            let end = (offset + bytes.len() as u64).min(at + new.len() as u64);
            if start < end {
                let (len, to, from) =
                    (index(end - start), index(start - offset), index(start - at));
                bytes.to_mut()[to..to + len].copy_from_slice(&new[from..from + len]);
            }
        }
        bytes
    }

    fn touches(&self, offset: u64, len: u64) -> bool {
        self.0.iter().any(|(at, new)| offset < at + new.len() as u64 && *at < offset + len)
    }
}

/// Compares extents with a disk on several threads.
struct Comparison {
    target: Arc<TargetState>,
    patch: GptPatch,
    /// Offset of the first byte that differs, [`u64::MAX`] while none does.
    first_different: AtomicU64,
    different_bytes: AtomicU64,
    compared_bytes: AtomicU64,
}

impl Comparison {
    fn new(target: &Arc<TargetState>, patch: GptPatch) -> Self {
        Self {
            target: Arc::clone(target),
            patch,
            first_different: AtomicU64::new(u64::MAX),
            different_bytes: AtomicU64::new(0),
            compared_bytes: AtomicU64::new(0),
        }
    }

    fn first_different(&self) -> Option<u64> {
        Some(self.first_different.load(Ordering::SeqCst)).filter(|&at| at != u64::MAX)
    }

    /// Runs `produce`, and compares every extent that it passes to its argument. Returns when all
    /// are compared. The reading threads are detached, since the disk may hang.
    fn run(
        self: &Arc<Self>,
        produce: impl FnOnce(&mut dyn FnMut(Extent) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let (queue, extents) = bounded::<Extent>(16);
        let (alive, running) = bounded(0);
        threads::start_some(READERS, || {
            let (this, extents) = (Arc::clone(self), extents.clone());
            spawn("bty-reader", &self.target, &alive, move |_| {
                extents.iter().for_each(|extent| this.compare_or_fail(&extent));
            })
        })?;
        // so that both channels disconnect when the threads end
        drop((extents, alive));
        let timeout = StallTimeout::new(FlashOptions::default().stall_ms);
        let mut watch = Watch::new(&self.target, &timeout);
        let result = produce(&mut |mut extent| {
            loop {
                extent = match queue.send_timeout(extent, WAIT_STEP) {
                    Ok(()) => return Ok(()),
                    Err(SendTimeoutError::Timeout(extent)) => extent,
                    Err(SendTimeoutError::Disconnected(_)) => return Err(self.stopped()),
                };
                self.target.io.cancel.check()?;
                watch.check()?;
            }
        });
        drop(queue);
        let waited = watch.wait(&running);
        result.and(waited)?;
        self.target.take_failure().map_or(Ok(()), Err)
    }

    fn stopped(&self) -> Error {
        Error::new(ErrorKind::Target, format!("reading {} stopped", self.target.name()))
    }

    fn compare_or_fail(&self, extent: &Extent) {
        if !self.target.has_failed()
            && let Err(error) = self.compare(extent)
        {
            self.target.fail(error);
        }
    }

    fn compare(&self, extent: &Extent) -> Result<()> {
        let mut buffer = Pool::new(1).take(&self.target.io.cancel)?;
        let (start, len) = match extent {
            Extent::Data { offset, block } => (*offset, block.len() as u64),
            Extent::Zero { offset, len } => (*offset, *len),
        };
        for (offset, len) in pieces(start, len, GRAIN_BYTES) {
            let found = read_piece(&self.target.io, offset, len, &mut buffer)?;
            match extent {
                Extent::Data { block, .. } => {
                    let from = index(offset - start);
                    let expected = self.patch.apply(offset, &block[from..from + len]);
                    self.count_differences(offset, &expected, found);
                }
                Extent::Zero { .. } if self.patch.touches(offset, len as u64) => {
                    let zeros = vec![0; len];
                    self.count_differences(offset, &self.patch.apply(offset, &zeros), found);
                }
                Extent::Zero { .. } if is_zero(found) => {}
                Extent::Zero { .. } => self.count_differences(offset, &vec![0; len], found),
            }
            self.compared_bytes.fetch_add(len as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn count_differences(&self, offset: u64, expected: &[u8], found: &[u8]) {
        if expected == found {
            return;
        }
        let mut differing = expected
            .iter()
            .zip(found)
            .enumerate()
            .filter(|(_, (a, b))| a != b)
            .map(|(i, _)| i as u64);
        if let Some(first) = differing.next() {
            self.first_different.fetch_min(offset + first, Ordering::SeqCst);
            self.different_bytes.fetch_add(1 + differing.count() as u64, Ordering::Relaxed);
        }
    }
}
