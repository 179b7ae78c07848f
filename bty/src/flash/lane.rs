//! A lane: one target, its queue, its workers, and what became of it.
//!
//! Lanes are independent: a failing one only stops itself. Buffers are shared, so a slow lane slows
//! the reader; one that is much slower than the others is left behind on purpose and served by a
//! second reading (see [`execute`](super::execute)).

use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};

use crate::device::Device;
use crate::disks::{Disk, DiskKind};
use crate::extent::{BUFFER_ALIGN, BUFFER_BYTES, Block, Extent, Pool, is_zero};
use crate::flash::FlashOptions;
use crate::flash::ledger::Ledger;
use crate::flash::watch::{Beats, Patience, Watch};
use crate::size::{align_down, align_up};
use crate::{CancelToken, Error, ErrorKind, Result, partition_table, threads};

/// Writes in flight: enough to keep a fast disk busy while the next buffer is filled.
const WORKERS: usize = 6;

/// Extents that may wait. Only a few can hold data, because the buffers are bounded.
const QUEUE: usize = 64;

/// How often what was written is flushed, so that the last flush is short and progress tells the
/// truth.
const FLUSH_EVERY: Duration = Duration::from_secs(2);

/// How many sectors of the old content are remembered.
const SAMPLES: u64 = 64;

/// A table with more partitions than this was made to annoy: each costs two MiB of zeros.
const OLD_PARTITIONS_MAX: usize = 256;

/// A write that takes longer is cut in two the next time: all workers together then hold up a
/// cancel for less than a second.
const SLOW_WRITE: Duration = Duration::from_millis(300);

/// The least that is written at once when a device is slow.
const WRITE_MIN: usize = 128 << 10;

/// The most that is zeroed by one command, so that a cancel need not wait long for it; adapts to
/// the device.
const ZERO_MAX: u64 = 1 << 30;
const ZERO_MIN: u64 = 4 << 20;

/// One target while it is written.
pub(super) struct Lane {
    pub(super) disk: Disk,
    pub(super) shared: Arc<Shared>,
    orders: Option<Sender<Extent>>,
    running: Option<Receiver<()>>,
    /// Number of the first extent it has not been given, once it was left behind.
    pub(super) behind_from: Option<u64>,
    waited: Duration,
    watch: Watch,
}

/// What workers, the reader and observers of progress share.
pub(super) struct Shared {
    pub(super) name: String,
    /// A regular file: then no cable is to blame.
    pub(super) is_file: bool,
    pub(super) device: Arc<dyn Device>,
    pub(super) cancel: CancelToken,
    pub(super) written_bytes: AtomicU64,
    pub(super) durable_bytes: AtomicU64,
    pub(super) zeroed_bytes: AtomicU64,
    pub(super) wiped_bytes: AtomicU64,
    pub(super) verified_bytes: AtomicU64,
    pub(super) verify_total: AtomicU64,
    pub(super) ledger: Option<Ledger>,
    failure: Mutex<Option<Error>>,
    has_failed: AtomicBool,
    is_given_up: AtomicBool,
    asked: AtomicU64,
    answered: AtomicU64,
    /// From the write of the first MiB on: then a cancel waits until that is taken back.
    pub(super) may_boot: AtomicBool,
    busy_micros: AtomicU64,
    /// Guards sectors that two extents share.
    sector: Mutex<()>,
    zero_offload: AtomicBool,
    zero_chunk: AtomicU64,
    /// The most that is written at once; shrinks for slow devices, so that a cancel need not wait
    /// long.
    write_chunk: AtomicUsize,
    /// Samples of what was there before, for telling a lost write from a wrong one.
    old: Mutex<Vec<(u64, Vec<u8>)>>,
    /// Where partitions were before.
    old_partitions: Mutex<Vec<Range<u64>>>,
    /// Cleared zeros to write where the device cannot make them itself.
    zeros: Block,
}

impl Lane {
    /// A lane to `device`, with its workers waiting.
    pub(super) fn start(
        disk: Disk,
        device: Arc<dyn Device>,
        options: &FlashOptions,
        patience: &Patience,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let shared = Arc::new(Shared::new(&disk, device, options.verify, cancel)?);
        let (orders, inbox) = bounded(QUEUE);
        let (alive, ended) = bounded(0);
        threads::start_some(WORKERS, || {
            let inbox = inbox.clone();
            spawn("bty-writer", &shared, &alive, move |shared| {
                inbox.iter().for_each(|extent| shared.carry_out(&extent));
            })
        })?;
        drop(alive);
        // it ends after the workers, and so tells for all of them
        let (flushing, running) = bounded(0);
        spawn("bty-flusher", &shared, &flushing, move |shared| shared.flush_regularly(&ended))?;
        let watch = Watch::new(&shared, options.stall_ms, patience);
        Ok(Self {
            disk,
            shared,
            orders: Some(orders),
            running: Some(running),
            behind_from: None,
            waited: Duration::ZERO,
            watch,
        })
    }

    /// True while it takes extents.
    pub(super) fn is_active(&self) -> bool {
        self.orders.is_some() && self.behind_from.is_none() && !self.shared.has_failed()
    }

    /// Gives it `extent`, or waits a moment for room. `Ok(false)`: no room yet, ask again.
    pub(super) fn offer(&mut self, extent: &mut Option<Extent>) -> Result<bool> {
        let (Some(orders), Some(order)) = (&self.orders, extent.take()) else { return Ok(true) };
        let start = Instant::now();
        let sent = orders.send_timeout(order, Duration::from_millis(50));
        self.waited += start.elapsed();
        match sent {
            Ok(()) => return Ok(true),
            Err(SendTimeoutError::Timeout(order)) => *extent = Some(order),
            Err(SendTimeoutError::Disconnected(_)) => {
                self.shared.fail(Error::new(
                    ErrorKind::Target,
                    format!("writing to {} stopped", self.shared.name),
                ));
                return Ok(true);
            }
        }
        self.shared.cancel.check()?;
        // a device that was given up has failed
        let _ = self.watch.check();
        Ok(self.shared.has_failed())
    }

    /// How long the reader has waited for this lane.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }

    /// Bytes a second the device takes while it is asked to.
    pub(super) fn rate(&self) -> u64 {
        let busy = self.shared.busy_micros.load(Ordering::Relaxed).max(1);
        self.shared.written_bytes.load(Ordering::Relaxed).saturating_mul(1_000_000) / busy
    }

    /// Starts `work` on a thread of its own, which may hang with the device; [`wait`](Self::wait)
    /// for its end.
    pub(super) fn begin(&self, work: impl FnOnce(&Shared) + Send + 'static) -> Receiver<()> {
        let (alive, running) = bounded(0);
        if let Err(error) = spawn("bty-target", &self.shared, &alive, work) {
            self.shared.fail(error);
        }
        running
    }

    /// Waits for what was begun: see [`Watch::wait`].
    pub(super) fn wait(&mut self, running: &Receiver<()>) -> Result<()> {
        self.watch.wait(running)
    }

    /// Lets the workers finish what is queued and end; returns when they have.
    pub(super) fn drain(&mut self) -> Result<()> {
        self.orders = None;
        if let Some(running) = self.running.take() {
            // a device that hangs has failed by then
            let _ = self.wait(&running);
        }
        self.shared.cancel.check()
    }
}

/// Does `work` in a thread that nobody joins, since the device may keep it. `alive` is gone when it
/// has ended, and holds the device no more.
pub(super) fn spawn(
    name: &str,
    shared: &Arc<Shared>,
    alive: &Sender<()>,
    work: impl FnOnce(&Shared) + Send + 'static,
) -> Result<()> {
    let (shared, alive) = (Arc::clone(shared), alive.clone());
    let body = move || {
        // what a thread that panics leaves undone must not pass for done
        if catch_unwind(AssertUnwindSafe(|| work(&shared))).is_err() {
            shared.fail(
                Error::new(ErrorKind::Host, "bty has failed in a way that it should not")
                    .hint("report it"),
            );
        }
        // the device first: whoever is told that the work has ended may open it
        drop(shared);
        drop(alive);
    };
    threads::start(name, body).map(drop)
}

impl Shared {
    pub(super) fn new(
        disk: &Disk,
        device: Arc<dyn Device>,
        with_ledger: bool,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let mut zeros = Pool::new(1).take(cancel)?;
        zeros.fill(0);
        Ok(Self {
            name: disk.path.display().to_string(),
            is_file: disk.kind == DiskKind::File,
            device,
            cancel: cancel.clone(),
            written_bytes: AtomicU64::new(0),
            durable_bytes: AtomicU64::new(0),
            zeroed_bytes: AtomicU64::new(0),
            wiped_bytes: AtomicU64::new(0),
            verified_bytes: AtomicU64::new(0),
            verify_total: AtomicU64::new(0),
            ledger: with_ledger.then(Ledger::default),
            failure: Mutex::new(None),
            has_failed: AtomicBool::new(false),
            is_given_up: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            may_boot: AtomicBool::new(false),
            busy_micros: AtomicU64::new(0),
            sector: Mutex::new(()),
            zero_offload: AtomicBool::new(true),
            zero_chunk: AtomicU64::new(64 << 20),
            write_chunk: AtomicUsize::new(BUFFER_BYTES),
            old: Mutex::new(Vec::new()),
            old_partitions: Mutex::new(Vec::new()),
            zeros: zeros.freeze(BUFFER_BYTES),
        })
    }

    /// Takes samples of the old content, evenly spread.
    pub(super) fn remember_old(&self) -> Result<()> {
        let sector = u64::from(self.device.sector_bytes());
        let step = align_down(self.device.size_bytes() / (SAMPLES + 1), sector);
        let mut buffer = Pool::new(1).take(&self.cancel)?;
        let sample = &mut buffer[..index(sector)];
        for at in (1..=SAMPLES).map(|i| i * step).take_while(|_| step > 0) {
            if self.read(at, sample).is_err() {
                break; // what was there does not matter enough: writing may well cure the sector
            }
            if !is_zero(sample) {
                self.old.lock().expect("nobody panics holding it").push((at, sample.to_vec()));
            }
        }
        Ok(())
    }

    /// Finds out where the partitions of the old table are, and returns it.
    pub(super) fn remember_partitions(&self) -> Vec<Range<u64>> {
        let size = self.device.size_bytes();
        // what cannot be read cannot be found by the new system either
        let mut read = |offset: u64, bytes: &mut [u8]| self.read_bytes(offset, bytes).is_ok();
        let mut partitions = partition_table::ranges(&mut read, size, self.device.sector_bytes());
        partitions.truncate(OLD_PARTITIONS_MAX);
        partitions.iter_mut().for_each(|range| range.end = range.end.min(size));
        partitions.retain(|range| range.start < range.end);
        self.old_partitions.lock().expect("nobody panics holding it").clone_from(&partitions);
        partitions
    }

    /// Where the partitions of the old table were.
    pub(super) fn old_partitions(&self) -> Vec<Range<u64>> {
        self.old_partitions.lock().expect("nobody panics holding it").clone()
    }

    /// Where samples of the old content were taken.
    pub(super) fn old_offsets(&self) -> Vec<u64> {
        self.old.lock().expect("nobody panics holding it").iter().map(|(at, _)| *at).collect()
    }

    /// True when a sample was taken at `offset`, and is what is there now.
    pub(super) fn remembers_old(&self, offset: u64) -> bool {
        let old = self.old.lock().expect("nobody panics holding it");
        let Some((at, sample)) = old.iter().find(|(at, _)| *at == offset) else { return false };
        let Ok(mut buffer) = Pool::new(1).take(&self.cancel) else { return false };
        let now = &mut buffer[..sample.len()];
        self.read(*at, now).is_ok() && now == sample.as_slice()
    }

    /// Marks the lane as failed; the first failure stays.
    pub(super) fn fail(&self, error: Error) {
        self.failure.lock().expect("nobody panics holding it").get_or_insert(error);
        self.has_failed.store(true, Ordering::SeqCst);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::SeqCst)
    }

    /// The failure, once.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.failure.lock().expect("nobody panics holding it").take()
    }

    /// Makes a request of the device, and counts it.
    pub(super) fn ask<T>(
        &self,
        request: impl FnOnce(&dyn Device) -> io::Result<T>,
    ) -> io::Result<T> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let result = request(&*self.device);
        self.answered.fetch_add(1, Ordering::Relaxed);
        result
    }

    pub(super) fn beats(&self) -> Beats {
        (self.asked.load(Ordering::Relaxed), self.answered.load(Ordering::Relaxed))
    }

    /// From here on the disk may boot. Fails when nobody waits for it any more.
    pub(super) fn begin_to_boot(&self) -> Result<()> {
        self.may_boot.store(true, Ordering::SeqCst);
        self.cancel.check()?;
        if self.is_hung() {
            return Err(Error::new(ErrorKind::Target, format!("{} was given up", self.name)));
        }
        Ok(())
    }

    /// Nothing more is asked of the device.
    pub(super) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::SeqCst);
    }

    /// True once the device was given up; then nothing more is asked of it.
    pub(super) fn is_hung(&self) -> bool {
        self.is_given_up.load(Ordering::SeqCst)
    }

    /// Writes or zeroes one extent. After a failure or a cancel, extents are dropped unread, so
    /// that nobody waits for this lane.
    fn carry_out(&self, extent: &Extent) {
        if self.has_failed() || self.cancel.is_cancelled() {
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
        self.write(offset, bytes)?;
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.busy_micros.fetch_add(micros, Ordering::Relaxed);
        self.written_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if let Some(ledger) = &self.ledger {
            ledger.data(offset, bytes);
        }
        Ok(())
    }

    fn zero_image(&self, offset: u64, len: u64) -> Result<()> {
        self.zero(offset, len)?;
        self.zeroed_bytes.fetch_add(len, Ordering::Relaxed);
        if let Some(ledger) = &self.ledger {
            ledger.zeros(offset, len);
        }
        Ok(())
    }

    /// Zeroes a small range that is not part of the image, by writing zeros: nothing is left to the
    /// device.
    ///
    /// In a file they are holes: the file system answers for what it reads as.
    pub(super) fn wipe(&self, offset: u64, len: u64) -> Result<()> {
        if self.is_file {
            self.zero(offset, len)?;
            self.wiped_bytes.fetch_add(len, Ordering::Relaxed);
            return Ok(());
        }
        let mut done = 0;
        while done < len {
            let part = (len - done).min(BUFFER_BYTES as u64);
            self.write(offset + done, &self.zeros[..index(part)])?;
            done += part;
        }
        self.wiped_bytes.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    /// Writes `bytes` at any offset. Sectors that are only partly covered keep their other bytes.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let sector = u64::from(self.device.sector_bytes());
        let end = offset + bytes.len() as u64;
        let (from, until) = (align_up(offset, sector), align_down(end, sector));
        if from >= until {
            return self.patch(offset, bytes);
        }
        let part = |a: u64, b: u64| &bytes[index(a - offset)..index(b - offset)];
        self.patch(offset, part(offset, from))?;
        self.write_aligned(from, part(from, until))?;
        self.patch(until, part(until, end))
    }

    /// Makes a range at any offset zero.
    fn zero(&self, offset: u64, len: u64) -> Result<()> {
        let sector = u64::from(self.device.sector_bytes());
        let (from, until) = (align_up(offset, sector), align_down(offset + len, sector));
        if from >= until {
            return self.patch(offset, &self.zeros[..index(len)]);
        }
        self.patch(offset, &self.zeros[..index(from - offset)])?;
        self.zero_aligned(from, until - from)?;
        self.patch(until, &self.zeros[..index(offset + len - until)])
    }

    /// Replaces part of one sector, or of two.
    fn patch(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let sector = u64::from(self.device.sector_bytes());
        let from = align_down(offset, sector);
        let until = align_up(offset + bytes.len() as u64, sector);
        let _alone = self.sector.lock().expect("nobody panics holding it");
        let mut buffer = Pool::new(1).take(&self.cancel)?;
        let span = &mut buffer[..index(until - from)];
        self.read(from, span)?;
        span[index(offset - from)..][..bytes.len()].copy_from_slice(bytes);
        self.write_aligned(from, span)
    }

    fn write_aligned(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        if !(bytes.as_ptr() as usize).is_multiple_of(BUFFER_ALIGN) && !bytes.is_empty() {
            let mut bounce = Pool::new(1).take(&self.cancel)?;
            for (i, part) in bytes.chunks(BUFFER_BYTES).enumerate() {
                bounce[..part.len()].copy_from_slice(part);
                self.write_whole(offset + (i * BUFFER_BYTES) as u64, &bounce[..part.len()])?;
            }
            return Ok(());
        }
        self.write_whole(offset, bytes)
    }

    fn write_whole(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            self.cancel.check()?;
            let at = offset + done as u64;
            let chunk = self.write_chunk.load(Ordering::Relaxed);
            let start = Instant::now();
            match self
                .ask(|device| device.write_at(&bytes[done..bytes.len().min(done + chunk)], at))
            {
                Ok(0) => {
                    return Err(self.failed("writing to", at, io::ErrorKind::WriteZero.into()));
                }
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed("writing to", at, e)),
            }
            if start.elapsed() > SLOW_WRITE {
                self.write_chunk.store((chunk / 2).max(WRITE_MIN), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn zero_aligned(&self, mut offset: u64, mut len: u64) -> Result<()> {
        while len > 0 && self.zero_offload.load(Ordering::Relaxed) {
            self.cancel.check()?;
            let chunk = self.zero_chunk.load(Ordering::Relaxed);
            let part = len.min(chunk);
            let start = Instant::now();
            match self.ask(|device| device.zero_at(offset, part)) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Unsupported => {
                    self.zero_offload.store(false, Ordering::Relaxed);
                    break;
                }
                Err(e) => return Err(self.failed("zeroing", offset, e)),
            }
            match start.elapsed().as_millis() {
                0..50 if part == chunk => {
                    self.zero_chunk.store((chunk * 2).min(ZERO_MAX), Ordering::Relaxed);
                }
                300.. => self.zero_chunk.store((chunk / 2).max(ZERO_MIN), Ordering::Relaxed),
                _ => {}
            }
            offset += part;
            len -= part;
        }
        while len > 0 {
            let part = len.min(BUFFER_BYTES as u64);
            self.write_whole(offset, &self.zeros[..index(part)])?;
            offset += part;
            len -= part;
        }
        Ok(())
    }

    /// Fills `bytes`, aligned, from `offset`, aligned.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            self.cancel.check()?;
            let at = offset + done as u64;
            match self.ask(|device| device.read_at(&mut bytes[done..], at)) {
                Ok(0) => {
                    return Err(self.failed(
                        "reading back",
                        at,
                        io::ErrorKind::UnexpectedEof.into(),
                    ));
                }
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed("reading back", at, e)),
            }
        }
        Ok(())
    }

    /// Fills `bytes`, at most a buffer less two sectors, from any offset.
    pub(super) fn read_bytes(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let sector = u64::from(self.device.sector_bytes());
        let from = align_down(offset, sector);
        let until = offset.checked_add(bytes.len() as u64).map(|end| align_up(end, sector));
        let Some(until) = until.filter(|&until| until <= self.device.size_bytes()) else {
            return Err(self.failed("reading", offset, io::ErrorKind::UnexpectedEof.into()));
        };
        let mut buffer = Pool::new(1).take(&self.cancel)?;
        let span = &mut buffer[..index(until - from)];
        self.read(from, span)?;
        bytes.copy_from_slice(&span[index(offset - from)..][..bytes.len()]);
        Ok(())
    }

    /// Flushes; what was written before is durable afterwards.
    pub(super) fn flush(&self) -> Result<()> {
        let before = self.written_bytes.load(Ordering::SeqCst);
        self.ask(|device| device.flush()).map_err(|e| {
            Error::new(ErrorKind::Target, format!("flushing {}", self.name)).because(e).with_path(&self.name).hint(
                if self.is_file {
                    "look at dmesg, and at the disk and the file system that hold the file"
                } else {
                    "the device lost data it had accepted: look at dmesg, try another cable, port or disk"
                },
            )
        })?;
        self.durable_bytes.fetch_max(before, Ordering::SeqCst);
        Ok(())
    }

    fn flush_regularly(&self, ended: &Receiver<()>) {
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(FLUSH_EVERY) {
            if self.has_failed() || self.cancel.is_cancelled() {
                continue;
            }
            if self.written_bytes.load(Ordering::SeqCst) > self.durable_bytes.load(Ordering::SeqCst)
                && let Err(error) = self.flush()
            {
                self.fail(error);
            }
        }
    }

    fn failed(&self, doing: &str, offset: u64, cause: io::Error) -> Error {
        let full = cause.kind() == io::ErrorKind::StorageFull;
        let error =
            Error::new(ErrorKind::Target, format!("{doing} {} at offset {offset}", self.name))
                .because(cause)
                .with_path(&self.name)
                .at_offset(offset);
        error.hint(if full {
            "the file system that holds the target is full: make room, then flash again"
        } else if self.is_file {
            "look at dmesg, and at the disk and the file system that hold the file, then flash again"
        } else {
            "look at dmesg; try another cable, port or disk, then flash again"
        })
    }
}

/// A length within one buffer as an index.
#[allow(clippy::cast_possible_truncation)] // lengths here never exceed a buffer in memory
fn index(bytes: u64) -> usize {
    bytes as usize
}
