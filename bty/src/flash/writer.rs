//! The writer of one target: a queue of extents, and the workers that write them.
//!
//! Writers are independent: a failure of one does not stop the others. They share the pool of
//! buffers, though, so a slow writer blocks the reader of the image. A writer that is much slower
//! than the others is left behind, and served by reading the image again (see
//! [`execute`](super::execute)).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};

use crate::device::Device;
use crate::disks::Disk;
use crate::extent::Extent;
use crate::flash::FlashOptions;
use crate::flash::target::{TargetState, spawn};
use crate::flash::watch::{StallTimeout, WAIT_STEP, Watch};
use crate::flash::write_job::WriteJob;
use crate::{CancelToken, Error, ErrorKind, Result, threads};

/// Writes in flight per target: enough to keep a fast disk busy while the next buffer is filled.
const WORKERS: usize = 6;

/// Capacity of the queue in jobs. Few of them can hold data, because the buffers are bounded.
const QUEUE: usize = 64;

/// One target while it is written.
pub(super) struct TargetWriter {
    pub(super) disk: Disk,
    pub(super) state: Arc<TargetState>,
    /// `None` once the queue was closed by [`drain`](Self::drain).
    queue: Option<Sender<WriteJob>>,
    /// Disconnected when all workers and the flusher have ended.
    running: Option<Receiver<()>>,
    /// Index of the first extent that it still needs; set when the writer was left behind.
    pub(super) resume_from: Option<u64>,
    /// Total time for which this writer has blocked the reader.
    waited: Duration,
    watch: Watch,
}

impl TargetWriter {
    /// Starts the workers, which wait for extents to write to `device`.
    pub(super) fn start(
        disk: Disk,
        device: Arc<dyn Device>,
        options: &FlashOptions,
        timeout: &StallTimeout,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let state = Arc::new(TargetState::new(&disk, device, options, cancel)?);
        let (queue, jobs) = bounded::<WriteJob>(QUEUE);
        let (working, ended) = bounded(0);
        threads::start_some(WORKERS, || {
            let jobs = jobs.clone();
            spawn("bty-writer", &state, &working, move |target| {
                jobs.iter().for_each(|job| target.apply(&job));
            })
        })?;
        drop(working);
        // the flusher ends after the workers, so waiting for it is waiting for all of them
        let (flushing, running) = bounded(0);
        spawn("bty-flusher", &state, &flushing, move |target| target.flush_regularly(&ended))?;
        let watch = Watch::new(&state, timeout);
        Ok(Self {
            disk,
            state,
            queue: Some(queue),
            running: Some(running),
            resume_from: None,
            waited: Duration::ZERO,
            watch,
        })
    }

    /// True while it accepts extents.
    pub(super) fn is_active(&self) -> bool {
        self.queue.is_some() && self.resume_from.is_none() && !self.state.has_failed()
    }

    /// How to write `extent`.
    pub(super) fn job(&self, extent: Extent) -> WriteJob {
        match extent {
            Extent::Data { offset, block } if self.state.interrupted.is_likely() => {
                WriteJob::Update { offset, block }
            }
            extent => WriteJob::Extent(extent),
        }
    }

    /// The queue, for another thread. It must be dropped before [`drain`](Self::drain).
    pub(super) fn queue(&self) -> Option<Sender<WriteJob>> {
        self.queue.clone()
    }

    /// Queues `job`, waiting a moment for room. Returns true when the caller is done with the
    /// job: it was queued, or the target has failed and needs no more. After false, `job` is
    /// still there, and the caller may offer it again.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`]. A failure of the target is not an error here.
    pub(super) fn offer(&mut self, job: &mut Option<WriteJob>) -> Result<bool> {
        let (Some(queue), Some(offered)) = (&self.queue, job.take()) else { return Ok(true) };
        let start = Instant::now();
        let sent = queue.send_timeout(offered, WAIT_STEP);
        self.waited += start.elapsed();
        match sent {
            Ok(()) => return Ok(true),
            Err(SendTimeoutError::Timeout(offered)) => *job = Some(offered),
            Err(SendTimeoutError::Disconnected(_)) => {
                let message = format!("writing to {} stopped", self.state.name());
                self.state.fail(Error::new(ErrorKind::Target, message));
                return Ok(true);
            }
        }
        self.state.io.cancel.check()?;
        // if the device hangs, the check has marked the target as failed
        let _ = self.watch.check();
        Ok(self.state.has_failed())
    }

    /// Total time for which the reader has waited for this writer.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }

    /// Starts `work` on a thread of its own, which may hang with the device. The result is for
    /// [`wait`](Self::wait).
    pub(super) fn begin(&self, work: impl FnOnce(&TargetState) + Send + 'static) -> Receiver<()> {
        let (alive, running) = bounded(0);
        if let Err(error) = spawn("bty-target", &self.state, &alive, work) {
            self.state.fail(error);
        }
        running
    }

    /// Waits for work that was begun, as [`Watch::wait`] does.
    pub(super) fn wait(&mut self, running: &Receiver<()>) -> Result<()> {
        self.watch.wait(running)
    }

    /// Closes the queue, and returns when the workers have written what was in it.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`]. A failure of the target is not an error here.
    pub(super) fn drain(&mut self) -> Result<()> {
        self.queue = None;
        if let Some(running) = self.running.take() {
            // if the device hangs, the watch has marked the target as failed
            let _ = self.wait(&running);
        }
        self.state.io.cancel.check()
    }
}
