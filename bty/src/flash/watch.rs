//! Detects devices that hang.
//!
//! Requests to a device run on threads of their own, because the kernel may block them forever.
//! Other threads wait for them through a [`Watch`], which stops waiting when the device completes
//! no request for too long, or shortly after a cancel.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::flash::device_io::IoCounters;
use crate::flash::target::TargetState;
use crate::{CancelToken, Error, ErrorKind, Result};

/// Interval between two checks of the device.
pub(super) const WAIT_STEP: Duration = Duration::from_millis(50);

/// How long running requests may still take after a cancel.
const CANCEL_GRACE: Duration = Duration::from_millis(800);

/// Limits on waiting for devices. Clones share the time of the cancel: targets are waited for one
/// after the other, and would otherwise each get a grace period of their own.
#[derive(Clone)]
pub(super) struct StallTimeout {
    /// Maximum time in which a device completes no request; after that, it is given up.
    stall: Duration,
    /// When the cancel was first noticed.
    cancelled_at: Arc<OnceLock<Instant>>,
}

impl StallTimeout {
    pub(super) fn new(stall_ms: u64) -> Self {
        Self { stall: Duration::from_millis(stall_ms), cancelled_at: Arc::default() }
    }

    fn is_grace_over(&self, cancel: &CancelToken) -> bool {
        cancel.is_cancelled()
            && self.cancelled_at.get_or_init(Instant::now).elapsed() > CANCEL_GRACE
    }
}

/// Watches the device of one target.
pub(super) struct Watch {
    target: Arc<TargetState>,
    /// The last counters, and the time since which they have not changed while a request was
    /// running.
    last_progress: (IoCounters, Instant),
    timeout: StallTimeout,
}

impl Watch {
    pub(super) fn new(target: &Arc<TargetState>, timeout: &StallTimeout) -> Self {
        Self {
            target: Arc::clone(target),
            last_progress: (IoCounters::default(), Instant::now()),
            timeout: timeout.clone(),
        }
    }

    /// Gives up on the device if it hangs. Must be called regularly while waiting for the device.
    ///
    /// # Errors
    /// [`ErrorKind::Target`] if the device was given up, now or earlier.
    pub(super) fn check(&mut self) -> Result<()> {
        let now = self.target.io.counters();
        let (last, since) = self.last_progress;
        if now != last || now.begun == now.finished {
            self.last_progress = (now, Instant::now());
        } else if since.elapsed() > self.timeout.stall {
            self.target.fail(self.hung());
            self.target.give_up();
        }
        if self.target.is_given_up() { Err(self.hung()) } else { Ok(()) }
    }

    /// Waits until every sender of `running` is gone.
    ///
    /// After a cancel, running requests cannot be aborted, but they do no harm, because the first
    /// MiB of the disk is zero. So the wait for them is short, unless the first MiB is being
    /// written: then it lasts until that is complete or zero again.
    ///
    /// # Errors
    /// [`ErrorKind::Target`] if the device hangs, [`ErrorKind::Cancelled`] after a cancel. The
    /// threads are then abandoned; they end when the kernel returns from their request.
    pub(super) fn wait(&mut self, running: &Receiver<()>) -> Result<()> {
        while running.recv_timeout(WAIT_STEP) != Err(RecvTimeoutError::Disconnected) {
            self.check()?;
            if self.timeout.is_grace_over(&self.target.io.cancel) && !self.target.may_boot() {
                return Err(Error::cancelled());
            }
        }
        Ok(())
    }

    fn hung(&self) -> Error {
        let (name, seconds) = (self.target.name(), self.timeout.stall.as_secs_f64());
        let message = format!("{name} has not finished a request for {seconds} seconds");
        let hint = if self.target.io.is_file {
            "look at dmesg, and at the disk and the file system that hold the file"
        } else {
            "look at the cable and at dmesg; the disk may be broken"
        };
        Error::new(ErrorKind::Target, message).with_path(name).hint(hint)
    }
}
