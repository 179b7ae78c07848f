//! The state that all threads of one target share: the device, counters, the ledger, its failure.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::device::Device;
use crate::disks::Disk;
use crate::extent::{Extent, Pool, is_zero};
use crate::flash::device_io::{DeviceIo, index};
use crate::flash::ledger::Ledger;
use crate::size::align_down;
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
        with_ledger: bool,
        cancel: &CancelToken,
    ) -> Result<Self> {
        Ok(Self {
            io: DeviceIo::new(disk, device, cancel)?,
            counters: TargetCounters::default(),
            ledger: with_ledger.then(Ledger::default),
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

    /// Writes or zeroes one extent of the image. After a failure or a cancel extents are dropped,
    /// so that the queue drains and the reader is not blocked by this target.
    pub(super) fn apply(&self, extent: &Extent) {
        if self.has_failed() || self.io.cancel.is_cancelled() {
            return;
        }
        let result = match extent {
            Extent::Data { offset, block } => self.write_image(*offset, block),
            Extent::Zero { offset, len } => self.zero_image(*offset, *len),
        };
        if let Err(error) = result {
            self.fail(error);
        }
    }

    fn write_image(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let start = Instant::now();
        self.io.write(offset, bytes)?;
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.busy_micros.fetch_add(micros, Ordering::Relaxed);
        self.counters.written_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
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
