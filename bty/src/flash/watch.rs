//! Waiting for a device that may hang: what is asked of it runs in other threads, and whoever waits
//! for them looks at the clock.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::flash::lane::Shared;
use crate::{CancelToken, Error, ErrorKind, Result};

/// How often a wait looks up.
pub(super) const WAIT_STEP: Duration = Duration::from_millis(50);

/// How long a cancel waits for requests that were begun.
const CANCEL_PATIENCE: Duration = Duration::from_millis(800);

/// How long a cancel still waits: once for all devices, since they are waited for one after the
/// other.
#[derive(Clone, Default)]
pub(super) struct Patience(Arc<OnceLock<Instant>>);

impl Patience {
    fn is_over(&self, cancel: &CancelToken) -> bool {
        cancel.is_cancelled() && self.0.get_or_init(Instant::now).elapsed() > CANCEL_PATIENCE
    }
}

/// Requests that were made, and those that have finished: both stand still, and differ, when the
/// device hangs.
pub(super) type Beats = (u64, u64);

/// Watches one device.
pub(super) struct Watch {
    shared: Arc<Shared>,
    seen: (Beats, Instant),
    stall: Duration,
    patience: Patience,
}

impl Watch {
    /// A device that finishes no request for `stall_ms` is given up.
    pub(super) fn new(shared: &Arc<Shared>, stall_ms: u64, patience: &Patience) -> Self {
        let stall = Duration::from_millis(stall_ms);
        Self {
            shared: Arc::clone(shared),
            seen: ((0, 0), Instant::now()),
            stall,
            patience: patience.clone(),
        }
    }

    /// Gives the device up when it hangs.
    ///
    /// # Errors
    /// [`ErrorKind::Target`] when it was given up.
    pub(super) fn check(&mut self) -> Result<()> {
        let beats = self.shared.beats();
        if beats != self.seen.0 || beats.0 == beats.1 {
            self.seen = (beats, Instant::now());
        } else if self.seen.1.elapsed() > self.stall {
            self.shared.fail(self.hung());
            self.shared.give_up();
        }
        if self.shared.is_hung() { Err(self.hung()) } else { Ok(()) }
    }

    /// Waits until every sender of `running` is gone, or the device hangs. After a cancel only for
    /// a moment: what a slow device has begun cannot be taken back, and does no harm behind a
    /// zeroed head.
    ///
    /// # Errors
    /// Why it was not waited for any longer. Its threads are left to the kernel then.
    pub(super) fn wait(&mut self, running: &Receiver<()>) -> Result<()> {
        while running.recv_timeout(WAIT_STEP) != Err(RecvTimeoutError::Disconnected) {
            self.check()?;
            if self.patience.is_over(&self.shared.cancel)
                && !self.shared.may_boot.load(Ordering::SeqCst)
            {
                return Err(Error::cancelled());
            }
        }
        Ok(())
    }

    fn hung(&self) -> Error {
        let (name, seconds) = (&self.shared.name, self.stall.as_secs_f64());
        Error::new(
            ErrorKind::Target,
            format!("{name} has not finished a request for {seconds} seconds"),
        )
        .with_path(name)
        .hint(if self.shared.is_file {
            "look at dmesg, and at the disk and the file system that hold the file"
        } else {
            "look at the cable and at dmesg; the disk may be broken"
        })
    }
}
