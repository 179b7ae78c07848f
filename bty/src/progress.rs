//! Progress events, and the token that cancels an operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Cancels an operation from another thread or a signal handler. Clones share one flag.
///
/// A cancelled operation ends within a second, with
/// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled).
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Creates a token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels the operation. Cannot be undone.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// True once [`cancel`](Self::cancel) was called on any clone.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails once cancelled, so that a loop can stop with `cancel.check()?`.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) once cancelled.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }
}

/// A phase of an operation. The variants are in the order in which they occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Phase {
    /// Reading the whole image without writing (`bty image --full`).
    Read,
    /// Zeroing the boot sectors and signatures of the old system.
    Wipe,
    /// Reading and decoding the image, and writing it to the targets.
    Write,
    /// Reading the targets back, and comparing them with what was written.
    Verify,
    /// Writing the first MiB, and making the kernel re-read the partition table. Reported only
    /// without verification; with verification, this is part of `Verify`.
    Finish,
}

impl Phase {
    /// The name of the phase in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Wipe => "wipe",
            Self::Write => "write",
            Self::Verify => "verify",
            Self::Finish => "finish",
        }
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
}

/// An event for an [`Observer`]. Serializes to one line of `--json` output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A phase begins.
    Phase {
        /// The phase that begins.
        phase: Phase,
    },
    /// Progress, a few times a second and once at the end of each phase.
    Progress {
        /// The current phase.
        phase: Phase,
        /// Milliseconds since the operation began.
        elapsed_ms: u64,
        /// Progress of reading.
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
        /// Kind of the error, as returned by [`ErrorKind::as_str`](crate::ErrorKind::as_str).
        kind: String,
        /// Text of the error.
        message: String,
    },
}

/// Receives [`Event`]s. Closures that take an `&Event` are observers.
pub trait Observer: Send + Sync {
    /// Receives one event. Called from the threads of the operation, so it must return quickly.
    fn event(&self, event: &Event);
}

/// Ignores all events.
impl Observer for () {
    fn event(&self, _event: &Event) {}
}

impl<F: Fn(&Event) + Send + Sync> Observer for F {
    fn event(&self, event: &Event) {
        self(event);
    }
}
