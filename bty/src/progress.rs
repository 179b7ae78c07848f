//! Typed progress events, and the token that cancels.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Cancels long work from another thread or a signal handler. Clones share one flag.
///
/// Work that was cancelled ends within a second with
/// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled).
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that nobody has cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels. Cannot be undone.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// True once cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails once cancelled; for loops.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled).
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }
}

/// A part of the work, in the order in which they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Phase {
    /// Reading the whole image without writing (`bty image --full`).
    Read,
    /// Clearing the old boot blocks and signatures of the targets.
    Wipe,
    /// Reading, decoding and writing.
    Write,
    /// Reading the targets back and comparing.
    Verify,
    /// Writing the first MiB, re-reading the partition table. Told when nothing is read back; else
    /// it is a part of `Verify`.
    Finish,
}

impl Phase {
    /// Its name in JSON.
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

/// How far the work is. All counts are bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counts {
    /// Read from the source, as it came over the wire.
    pub source_bytes: u64,
    /// How many the source will give, when known.
    pub source_total: Option<u64>,
    /// Decoded so far, zeros included; the position in the disk image.
    pub decoded_bytes: u64,
    /// Size of the disk image, when known.
    pub decoded_total: Option<u64>,
}

/// How far one target is. All counts are bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TargetCounts {
    /// Which target, as it was named.
    pub target: String,
    /// Data handed to the device.
    pub written_bytes: u64,
    /// Data the device has confirmed after a flush: it survives a power cut.
    pub durable_bytes: u64,
    /// Ranges made zero.
    pub zeroed_bytes: u64,
    /// Read back and found equal.
    pub verified_bytes: u64,
    /// How much there is to read back, once it is known.
    pub verify_total: Option<u64>,
}

/// Something an observer may show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A phase begins.
    Phase {
        /// Which.
        phase: Phase,
    },
    /// Counts, a few times a second and once at the end of each phase.
    Progress {
        /// The phase they belong to.
        phase: Phase,
        /// Milliseconds since the work began.
        elapsed_ms: u64,
        /// The source's side.
        #[serde(flatten)]
        counts: Counts,
        /// Each target's side.
        targets: Vec<TargetCounts>,
    },
    /// Something a person should know that stops nothing: a retry, a table that could not be
    /// re-read.
    Notice {
        /// One sentence.
        message: String,
    },
    /// One of several targets failed; the others go on.
    TargetFailed {
        /// Which target.
        target: String,
        /// The error's kind.
        kind: String,
        /// The error's text.
        message: String,
    },
}

/// Receives [`Event`]s. Called from worker threads, so it returns quickly.
pub trait Observer: Send + Sync {
    /// Takes note of `event`.
    fn event(&self, event: &Event);
}

/// Ignores everything.
impl Observer for () {
    fn event(&self, _event: &Event) {}
}

impl<F: Fn(&Event) + Send + Sync> Observer for F {
    fn event(&self, event: &Event) {
        self(event);
    }
}
