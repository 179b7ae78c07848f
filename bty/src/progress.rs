//! Typed progress events, and the token that cancels.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Cancels long work from another thread or a signal handler. Clones share one flag.
///
/// Cancelled work ends within a second, with
/// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled).
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Creates a token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels the work. Cannot be undone.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// True once [`cancel`](Self::cancel) was called on any clone.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails once cancelled. For loops: `cancel.check()?`.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) once cancelled.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }
}

/// A part of the work. The variants are in the order in which they happen.
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
    /// without verification; else this is the end of `Verify`.
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
    /// Read from the source so far, as it came over the wire.
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
    /// Data that the device has accepted.
    pub written_bytes: u64,
    /// Data that a flush has made durable: it survives a power cut.
    pub durable_bytes: u64,
    /// Ranges of the image made zero.
    pub zeroed_bytes: u64,
    /// Read back and found equal.
    pub verified_bytes: u64,
    /// How much there is to read back; absent until that is known.
    pub verify_total: Option<u64>,
}

/// What an [`Observer`] is told. Serializes to one line of `--json` output.
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
        /// Milliseconds since the work began.
        elapsed_ms: u64,
        /// Progress of reading.
        #[serde(flatten)]
        counts: Counts,
        /// Progress of each target.
        targets: Vec<TargetCounts>,
    },
    /// A warning for people; the work goes on. For example: the server is asked again after a
    /// failed request.
    Notice {
        /// The warning: one sentence without a full stop.
        message: String,
    },
    /// One of several targets failed; the others go on.
    TargetFailed {
        /// Path of the target.
        target: String,
        /// Kind of the error, as of [`ErrorKind::as_str`](crate::ErrorKind::as_str).
        kind: String,
        /// Text of the error.
        message: String,
    },
}

/// Receives [`Event`]s. Closures that take an `&Event` are observers.
pub trait Observer: Send + Sync {
    /// Receives one event. Called from the threads that do the work, so it must return quickly.
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
