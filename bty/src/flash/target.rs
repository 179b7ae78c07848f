//! The state that all threads of one target share: the device, counters, the ledger, its failure.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::device::Device;
use crate::disks::Disk;
use crate::extent::{Extent, Pool, is_zero};
use crate::flash::delta::DeltaOutcome;
use crate::flash::device_io::{DeviceIo, index};
use crate::flash::ledger::Ledger;
use crate::flash::write_job::WriteJob;
use crate::flash::{DeltaMode, DeltaReport, FlashOptions};
use crate::size::{align_down, align_up};
use crate::trace::Span;
use crate::{CancelToken, Error, ErrorKind, Result, partition_table, threads};

/// Interval of flushes while a target is written. They keep the last flush short, and
/// `durable_bytes` in progress reports up to date.
const FLUSH_EVERY: Duration = Duration::from_secs(2);
/// Number of sectors of the old content that are remembered.
const SAMPLES: u64 = 64;
/// Maximum number of partitions of the old table that are remembered. A table with more of them is
/// hostile: each partition costs two MiB of zeros.
const OLD_PARTITIONS_MAX: usize = 256;

/// One target, as shared by its workers, the reader of the image and the progress reports.
pub(super) struct TargetState {
    pub(super) io: DeviceIo,
    pub(super) counters: TargetCounters,
    /// Absent when nothing will be read back.
    pub(super) ledger: Option<Ledger>,
    /// Set once a delta flash has written everything.
    pub(super) delta: OnceLock<DeltaOutcome>,
    pub(super) interrupted: InterruptedFlash,
    /// What is there already need not be written.
    compares: bool,
    pub(super) span: Span,
    status: Status,
    old: OldContent,
}

/// All in bytes, except `busy_micros`.
#[derive(Default)]
pub(super) struct TargetCounters {
    pub(super) written_bytes: AtomicU64,
    /// As much of `written_bytes` as a flush has made durable.
    pub(super) durable_bytes: AtomicU64,
    pub(super) zeroed_bytes: AtomicU64,
    pub(super) wiped_bytes: AtomicU64,
    pub(super) verified_bytes: AtomicU64,
    /// Total to verify; 0 while unknown.
    pub(super) verify_total: AtomicU64,
    pub(super) scanned_bytes: AtomicU64,
    /// Total to scan; 0 without a scan.
    pub(super) scan_total: AtomicU64,
    /// Image data that was there already.
    pub(super) equal_bytes: AtomicU64,
    /// Time spent writing data, summed over all workers.
    busy_micros: AtomicU64,
}

#[derive(Default)]
struct Status {
    /// The first failure, until [`TargetState::take_failure`] takes it.
    failure: Mutex<Option<Error>>,
    /// Stays true after the failure was taken.
    has_failed: AtomicBool,
    is_given_up: AtomicBool,
    may_boot: AtomicBool,
}

/// Guesses whether an earlier flash of the same image was interrupted, so that much of it is there.
#[derive(Default)]
pub(super) struct InterruptedFlash {
    is_likely: AtomicBool,
    /// Parts of the image in a row of which nothing was there.
    misses: AtomicU32,
}

/// After so many parts of which nothing is there, the rest is written without a look.
const MISSES_MAX: u32 = 8;

impl InterruptedFlash {
    /// To be called before the wipe with the first MiB of the disk.
    pub(super) fn look_at(&self, head: &[u8]) {
        self.is_likely.store(is_zero(head), Ordering::Relaxed);
    }

    /// True while it is worth comparing before writing.
    pub(super) fn is_likely(&self) -> bool {
        self.is_likely.load(Ordering::Relaxed) && self.misses.load(Ordering::Relaxed) < MISSES_MAX
    }

    fn found(&self, equal_bytes: u64) {
        if equal_bytes > 0 {
            self.misses.store(0, Ordering::Relaxed);
        } else {
            self.misses.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The content of the target before the first write.
#[derive(Default)]
struct OldContent {
    /// Offsets and bytes of some sectors that were not zero: finding them again after a flash
    /// proves that a write was lost.
    samples: Mutex<Vec<(u64, Vec<u8>)>>,
    partitions: Mutex<Vec<Range<u64>>>,
}

impl TargetState {
    pub(super) fn new(
        disk: &Disk,
        device: Arc<dyn Device>,
        options: &FlashOptions,
        cancel: &CancelToken,
    ) -> Result<Self> {
        Ok(Self {
            io: DeviceIo::new(disk, device, cancel)?,
            counters: TargetCounters::default(),
            ledger: options.verify.then(Ledger::default),
            compares: options.delta != DeltaMode::Never,
            delta: OnceLock::new(),
            interrupted: InterruptedFlash::default(),
            span: Span::target(disk),
            status: Status::default(),
            old: OldContent::default(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.io.name
    }

    /// Records the counters in the span.
    pub(super) fn trace_bytes(&self) {
        let TargetCounters { written_bytes, zeroed_bytes, verified_bytes, .. } = &self.counters;
        self.span.record("written_bytes", written_bytes.load(Ordering::SeqCst));
        self.span.record("zeroed_bytes", zeroed_bytes.load(Ordering::SeqCst));
        self.span.record("verified_bytes", verified_bytes.load(Ordering::SeqCst));
    }

    /// Marks the target as failed. The first failure is kept, later ones are dropped.
    pub(super) fn fail(&self, error: Error) {
        self.status.failure.lock().expect("nobody panics holding it").get_or_insert(error);
        self.status.has_failed.store(true, Ordering::SeqCst);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.status.has_failed.load(Ordering::SeqCst)
    }

    /// The failure; `None` at the second call.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.status.failure.lock().expect("nobody panics holding it").take()
    }

    /// Gives up on the device: threads stop waiting for it, and its first MiB is not written even
    /// if the device answers later.
    pub(super) fn give_up(&self) {
        self.status.is_given_up.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.status.is_given_up.load(Ordering::SeqCst)
    }

    /// Announces the write of the first MiB, after which the disk may boot.
    ///
    /// Sets the flag before the checks. A thread that has stopped waiting after a cancel, because
    /// it did not see the flag, can rely on this call to fail. A thread that sees the flag waits
    /// until the first MiB is proven or zero again.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] when cancelled, [`ErrorKind::Target`] when the device was given up.
    /// The first MiB must not be written then.
    pub(super) fn begin_to_boot(&self) -> Result<()> {
        self.status.may_boot.store(true, Ordering::SeqCst);
        self.io.cancel.check()?;
        if self.is_given_up() {
            let message = format!("{} did not respond and was abandoned", self.name());
            return Err(Error::new(ErrorKind::Target, message));
        }
        Ok(())
    }

    /// True from [`begin_to_boot`](Self::begin_to_boot) on: threads must wait until the first MiB
    /// of the disk is proven, or zero again.
    pub(super) fn may_boot(&self) -> bool {
        self.status.may_boot.load(Ordering::SeqCst)
    }

    /// Remembers samples of the old content, evenly spread over the disk.
    pub(super) fn remember_samples(&self) -> Result<()> {
        let sector = self.io.sector();
        let step = align_down(self.io.size_bytes() / (SAMPLES + 1), sector);
        let mut buffer = Pool::new(1).take(&self.io.cancel)?;
        let sample = &mut buffer[..index(sector)];
        for at in (1..=SAMPLES).map(|i| i * step).take_while(|_| step > 0) {
            if self.io.read(at, sample).is_err() {
                break; // samples only improve a message, and a write may repair the sector
            }
            if !is_zero(sample) {
                self.samples().push((at, sample.to_vec()));
            }
        }
        Ok(())
    }

    /// Looks whether the first `len` bytes are zero, as an interrupted flash leaves them.
    pub(super) fn look_for_interruption(&self, len: u64) -> Result<()> {
        let mut buffer = Pool::new(1).take(&self.io.cancel)?;
        let head = &mut buffer[..index(len)];
        if self.compares && self.io.read(0, head).is_ok() {
            self.interrupted.look_at(head);
        }
        Ok(())
    }

    /// What a flash of a whole image did not have to write, because it was there.
    pub(super) fn resumed(&self) -> Option<DeltaReport> {
        let get = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let kept_bytes = get(&self.counters.equal_bytes);
        let fetched_bytes = get(&self.counters.written_bytes);
        (kept_bytes > 0).then(|| DeltaReport {
            kept_bytes,
            fetched_bytes,
            ..DeltaReport::default()
        })
    }

    /// Remembers where the partitions of the old table are, and returns their ranges in bytes.
    pub(super) fn remember_partitions(&self) -> Vec<Range<u64>> {
        let size = self.io.size_bytes();
        // the new system cannot find what cannot be read either
        let mut read = |offset: u64, bytes: &mut [u8]| self.io.read_bytes(offset, bytes).is_ok();
        let sector = self.io.device.sector_bytes();
        let mut partitions = partition_table::ranges(&mut read, size, sector);
        partitions.truncate(OLD_PARTITIONS_MAX);
        partitions.iter_mut().for_each(|range| range.end = range.end.min(size));
        partitions.retain(|range| range.start < range.end);
        self.old.partitions.lock().expect("nobody panics holding it").clone_from(&partitions);
        partitions
    }

    /// The ranges found by [`remember_partitions`](Self::remember_partitions).
    pub(super) fn old_partitions(&self) -> Vec<Range<u64>> {
        self.old.partitions.lock().expect("nobody panics holding it").clone()
    }

    /// Offsets of the samples of the old content.
    pub(super) fn sample_offsets(&self) -> Vec<u64> {
        self.samples().iter().map(|(at, _)| *at).collect()
    }

    /// True when a sample was taken at `offset`, and the disk still holds the same bytes there.
    pub(super) fn still_holds_sample(&self, offset: u64) -> bool {
        let samples = self.samples();
        let Some((at, sample)) = samples.iter().find(|(at, _)| *at == offset) else { return false };
        let Ok(mut buffer) = Pool::new(1).take(&self.io.cancel) else { return false };
        let now = &mut buffer[..sample.len()];
        self.io.read(*at, now).is_ok() && now == sample.as_slice()
    }

    fn samples(&self) -> std::sync::MutexGuard<'_, Vec<(u64, Vec<u8>)>> {
        self.old.samples.lock().expect("nobody panics holding it")
    }

    /// Writes or zeroes a part of the image. After a failure or a cancel jobs are dropped, so that
    /// the queue drains and the reader is not blocked by this target.
    pub(super) fn apply(&self, job: &WriteJob) {
        if self.has_failed() || self.io.cancel.is_cancelled() {
            return;
        }
        let result = match job {
            WriteJob::Extent(Extent::Data { offset, block }) => self.write_image(*offset, block),
            WriteJob::Extent(Extent::Zero { offset, len }) => self.zero_image(*offset, *len),
            WriteJob::Update { offset, block } => self.update(*offset, block),
        };
        if let Err(error) = result {
            self.fail(error);
        }
    }

    fn write_image(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.write_counted(offset, bytes)?;
        if let Some(ledger) = &self.ledger {
            ledger.record_data(offset, bytes);
        }
        Ok(())
    }

    fn write_counted(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let start = Instant::now();
        self.io.write(offset, bytes)?;
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.busy_micros.fetch_add(micros, Ordering::Relaxed);
        self.counters.written_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Writes those blocks of `bytes` that the disk does not hold yet. What cannot be read is
    /// written, which may repair it.
    fn update(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut buffer = Pool::new(1).take(&self.io.cancel)?;
        let sector = self.io.sector();
        let is_aligned = offset.is_multiple_of(sector);
        let whole = index(align_up(bytes.len() as u64, sector));
        let found = (is_aligned && whole <= buffer.len())
            .then(|| self.io.read(offset, &mut buffer[..whole]))
            .is_some_and(|read| read.is_ok());
        self.io.cancel.check()?;
        let found = if found { &buffer[..bytes.len()] } else { &[] };
        let mut equal_bytes = 0;
        for (range, is_equal) in compared_blocks(bytes, found) {
            if is_equal {
                equal_bytes += range.len() as u64;
            } else {
                self.write_counted(offset + range.start as u64, &bytes[range])?;
            }
        }
        self.counters.equal_bytes.fetch_add(equal_bytes, Ordering::Relaxed);
        self.interrupted.found(equal_bytes);
        if let Some(ledger) = &self.ledger {
            ledger.record_data(offset, bytes);
        }
        Ok(())
    }

    /// Zeroes a range of the image. Zeros are never skipped, because the old content would remain.
    fn zero_image(&self, offset: u64, len: u64) -> Result<()> {
        self.io.zero(offset, len)?;
        self.counters.zeroed_bytes.fetch_add(len, Ordering::Relaxed);
        if let Some(ledger) = &self.ledger {
            ledger.record_zeros(offset, len);
        }
        Ok(())
    }

    /// Zeroes a small range that is not part of the image.
    ///
    /// On a device the zeros are written, so that nothing depends on its zeroing command. In a file
    /// they become a hole: the file system guarantees that it reads as zeros.
    pub(super) fn wipe(&self, offset: u64, len: u64) -> Result<()> {
        if self.io.is_file {
            self.io.zero(offset, len)?;
        } else {
            self.io.write_zeros(offset, len)?;
        }
        self.counters.wiped_bytes.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    /// Makes everything written before durable.
    pub(super) fn flush(&self) -> Result<()> {
        // read before the flush: what other threads write meanwhile may miss it
        let before = self.counters.written_bytes.load(Ordering::SeqCst);
        self.io.flush()?;
        self.counters.durable_bytes.fetch_max(before, Ordering::SeqCst);
        Ok(())
    }

    /// Flushes every two seconds until all senders of `ended` are gone.
    pub(super) fn flush_regularly(&self, ended: &Receiver<()>) {
        let counters = &self.counters;
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(FLUSH_EVERY) {
            if self.has_failed() || self.io.cancel.is_cancelled() {
                continue;
            }
            let written = counters.written_bytes.load(Ordering::SeqCst);
            if written > counters.durable_bytes.load(Ordering::SeqCst)
                && let Err(error) = self.flush()
            {
                self.fail(error);
            }
        }
    }
}

/// Runs of 4096-byte blocks in which `new` and `old` are equal, or differ. All of `new` differs
/// from what `old` does not have. Zeros count as different: on an empty disk, they do not tell that
/// anything was written before.
fn compared_blocks<'a>(
    new: &'a [u8],
    old: &'a [u8],
) -> impl Iterator<Item = (Range<usize>, bool)> + 'a {
    const BLOCK: usize = 4096;
    let is_equal = move |at: usize| {
        let end = new.len().min(at + BLOCK);
        old.get(at..end) == Some(&new[at..end]) && !is_zero(&new[at..end])
    };
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        let equal = start < new.len() && is_equal(start);
        while at < new.len() && is_equal(at) == equal {
            at += BLOCK;
        }
        at = at.min(new.len());
        (start < at).then_some((start..at, equal))
    })
}

impl TargetCounters {
    /// Bytes written per second of writing.
    pub(super) fn rate(&self) -> u64 {
        let busy = self.busy_micros.load(Ordering::Relaxed).max(1);
        self.written_bytes.load(Ordering::Relaxed).saturating_mul(1_000_000) / busy
    }
}

/// Runs `work` on a detached thread, since a hanging device may keep it forever. The thread drops
/// its clone of `alive` when it has ended and no longer holds the device.
pub(super) fn spawn(
    name: &str,
    target: &Arc<TargetState>,
    alive: &Sender<()>,
    work: impl FnOnce(&TargetState) + Send + 'static,
) -> Result<()> {
    let (target, alive) = (Arc::clone(target), alive.clone());
    let body = move || {
        // a panicking thread must not pass for one that has done its work
        if catch_unwind(AssertUnwindSafe(|| work(&target))).is_err() {
            target.fail(
                Error::new(ErrorKind::Host, "internal error: a worker thread panicked")
                    .hint("report it"),
            );
        }
        // the device first: the waiting thread may open it as soon as `alive` is dropped
        drop(target);
        drop(alive);
    };
    threads::start(name, body).map(drop)
}
