//! Progress events, and the token that cancels an operation.
//!
//! ```
//! use bty::{Event, Observer};
//!
//! let observer = |event: &Event| match event {
//!     Event::Phase { phase } => println!("{phase} begins"),
//!     Event::Progress { counts, .. } => println!("{} bytes decoded", counts.decoded_bytes),
//!     Event::Notice { message } => println!("note: {message}"),
//!     _ => {}
//! };
//! observer.event(&Event::Phase { phase: bty::Phase::Write }); // as `FlashPlan::execute` does
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::string_enum::string_enum;
use crate::{Error, ErrorKind, Result};

/// Interval between two progress events.
pub(crate) const INTERVAL: Duration = Duration::from_millis(200);

/// Cancels an operation from another thread or a signal handler. Clones share one flag.
///
/// A cancelled operation ends within a second, with [`ErrorKind::Cancelled`].
///
/// ```
/// use bty::CancelToken;
///
/// let all = CancelToken::new();
/// let one = all.child();
/// let guard = all.cancel_on_drop();
/// assert!(!one.is_cancelled());
/// drop(guard);
/// assert!(one.is_cancelled());
/// ```
#[derive(Clone, Debug, Default)]
pub struct CancelToken {
    flag: Arc<AtomicBool>,
    /// The token that this one is a [child](Self::child) of.
    parent: Option<Arc<Self>>,
}

impl CancelToken {
    /// Creates a token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a token that is cancelled together with this one, and that can be cancelled alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { flag: Arc::default(), parent: Some(Arc::new(self.clone())) }
    }

    /// Returns a guard that cancels this token when it is dropped, for example when a function
    /// returns early or panics.
    pub fn cancel_on_drop(&self) -> CancelGuard {
        CancelGuard(Some(self.clone()))
    }

    /// Cancels the operation, and those of all children. Cannot be undone.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::SeqCst);
    }

    /// True once [`cancel`](Self::cancel) was called on any clone, or on a token that this one is a
    /// child of.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let is_parent_cancelled = || self.parent.as_ref().is_some_and(|p| p.is_cancelled());
        self.flag.load(Ordering::Relaxed) || is_parent_cancelled()
    }

    /// Fails once cancelled, so that a loop can stop with `cancel.check()?`.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] once cancelled.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }
}

/// A token that is cancelled when the program sets `flag`, as crates for signals do.
impl From<Arc<AtomicBool>> for CancelToken {
    fn from(flag: Arc<AtomicBool>) -> Self {
        Self { flag, parent: None }
    }
}

/// Cancels a token when it is dropped. Created by [`CancelToken::cancel_on_drop`].
#[derive(Debug)]
#[must_use = "dropping the guard cancels the token"]
pub struct CancelGuard(Option<CancelToken>);

impl CancelGuard {
    /// Drops the guard without cancelling the token.
    pub fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if let Some(token) = &self.0 {
            token.cancel();
        }
    }
}

string_enum! {
    /// A phase of an operation. The variants are in the order in which they occur.
    pub enum Phase: "phase" {
        /// Reading a whole image without writing, or a disk of which an image is created.
        Read = "read",
        /// Reading the targets of a delta flash, to find what they already hold.
        Scan = "scan",
        /// Zeroing the boot sectors and signatures of the old system.
        Wipe = "wipe",
        /// Reading and decoding the image, and writing it to the targets.
        Write = "write",
        /// Reading the targets back, and comparing them with what was written.
        Verify = "verify",
        /// Writing the first MiB, and making the kernel re-read the partition table. Reported only
        /// without verification; with verification, this is part of `Verify`.
        Finish = "finish",
    }
}

/// Progress of reading the image. All counts are bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counts {
    /// Read from the source so far, before decoding.
    pub source_bytes: u64,
    /// Size of the source, if known.
    pub source_total: Option<u64>,
    /// Decoded so far, zeros included: the position in the disk image.
    pub decoded_bytes: u64,
    /// Size of the disk image, if known.
    pub decoded_total: Option<u64>,
}

/// Progress of one target. All counts are bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TargetCounts {
    /// Path of the target.
    pub target: String,
    /// Data accepted by the device so far.
    pub written_bytes: u64,
    /// Data made durable by a flush: it survives a power cut.
    pub durable_bytes: u64,
    /// Zero ranges of the image, zeroed on the target.
    pub zeroed_bytes: u64,
    /// Read back and found equal.
    pub verified_bytes: u64,
    /// Total to read back; absent while unknown.
    pub verify_total: Option<u64>,
    /// Image data that was there already, and need not be written.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kept_bytes: u64,
    /// Old content that the scan of a delta flash has read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub scanned_bytes: u64,
    /// Total to scan; absent without a scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan_total: Option<u64>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes references
fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

/// An event for an [`Observer`]. Serializes to one JSON object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A phase of the operation begins.
    Phase {
        /// The phase that begins.
        phase: Phase,
    },
    /// Progress, a few times a second and once at the end of each phase.
    Progress {
        /// The phase that the operation is in.
        phase: Phase,
        /// Milliseconds since the operation began.
        elapsed_ms: u64,
        /// Progress of reading the image.
        #[serde(flatten)]
        counts: Counts,
        /// Progress of each target.
        targets: Vec<TargetCounts>,
    },
    /// A warning that does not stop the operation, such as the retry of a failed request.
    Notice {
        /// The warning: one sentence without a full stop.
        message: String,
    },
    /// One of several targets failed; the others continue.
    TargetFailed {
        /// Path of the target.
        target: String,
        /// Kind of the error.
        kind: ErrorKind,
        /// Text of the error, with its causes.
        message: String,
    },
}

/// Limits progress events to five a second.
#[derive(Default)]
pub(crate) struct Ticks(Option<Instant>);

impl Ticks {
    /// True for the first call, and then once per interval.
    pub(crate) fn is_due(&mut self) -> bool {
        let is_due = self.0.is_none_or(|last| last.elapsed() >= INTERVAL);
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}

/// Receives [`Event`]s. Closures that take an `&Event` are observers.
pub trait Observer: Send + Sync {
    /// Receives one event. Called from the threads of the operation, so it must return quickly.
    fn event(&self, event: &Event);
}

/// Ignores all events: `&()` is the observer of callers that show nothing.
impl Observer for () {
    fn event(&self, _event: &Event) {}
}

impl<F: Fn(&Event) + Send + Sync> Observer for F {
    fn event(&self, event: &Event) {
        self(event);
    }
}

impl<T: Observer + ?Sized> Observer for Arc<T> {
    fn event(&self, event: &Event) {
        (**self).event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_cancelled_with_its_parent_but_not_the_other_way_round() {
        let parent = CancelToken::new();
        let (first, second) = (parent.child(), parent.child());
        first.cancel();
        assert!(first.is_cancelled() && first.clone().is_cancelled());
        assert!(!parent.is_cancelled() && !second.is_cancelled());
        let grandchild = second.child();
        parent.cancel();
        assert!(second.is_cancelled() && grandchild.is_cancelled());
        assert_eq!(grandchild.check().unwrap_err().kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn a_token_follows_the_flag_that_it_was_made_of() {
        let flag = Arc::new(AtomicBool::new(false));
        let token = CancelToken::from(Arc::clone(&flag));
        assert!(!token.is_cancelled());
        flag.store(true, Ordering::SeqCst);
        assert!(token.is_cancelled());
    }

    #[test]
    fn a_guard_cancels_unless_it_is_disarmed() {
        let token = CancelToken::new();
        token.cancel_on_drop().disarm();
        assert!(!token.is_cancelled());
        drop(token.cancel_on_drop());
        assert!(token.is_cancelled());
    }

    #[test]
    fn an_observer_can_be_shared() {
        let seen = std::sync::Mutex::new(Vec::new());
        let observer: Arc<dyn Observer> = Arc::new(());
        observer.event(&Event::Phase { phase: Phase::Read });
        let closure = |event: &Event| seen.lock().unwrap().push(event.clone());
        let observe =
            |observer: &dyn Observer| observer.event(&Event::Phase { phase: Phase::Wipe });
        observe(&observer);
        observe(&closure);
        assert_eq!(*seen.lock().unwrap(), [Event::Phase { phase: Phase::Wipe }]);
    }
}
