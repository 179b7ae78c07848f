//! Spans and events for the crate `tracing`. The documentation of the crate lists them.

use std::path::Path;
#[cfg(feature = "http")]
use std::time::Duration;

use tracing::field::Empty;
#[cfg(feature = "http")]
use tracing::{Instrument, warn};
use tracing::{error, info_span};

#[cfg(feature = "http")]
use crate::Error;
use crate::disks::Disk;
use crate::image::ImageInfo;
use crate::{Phase, redact};

pub(crate) struct Span(tracing::Span);

impl Span {
    pub(crate) fn none() -> Self {
        Self(tracing::Span::none())
    }

    /// The span that this thread is in.
    pub(crate) fn current() -> Self {
        Self(tracing::Span::current())
    }

    pub(crate) fn open(reference: &str) -> Self {
        Self(info_span!("open", reference = &*redact::address(reference)))
    }

    pub(crate) fn read(image: &ImageInfo) -> Self {
        let image = &*image.name;
        Self(info_span!("read", image, source_bytes = Empty, disk_bytes = Empty))
    }

    pub(crate) fn flash(image: &ImageInfo, targets: usize) -> Self {
        Self(info_span!("flash", image = &*image.name, targets))
    }

    pub(crate) fn verify(image: &ImageInfo, disk: &Disk) -> Self {
        let (image, disk) = (&*image.name, disk.path.display());
        let (compared_bytes, different_bytes) = (Empty, Empty);
        Self(info_span!("verify", image, %disk, compared_bytes, different_bytes))
    }

    pub(crate) fn create(disk: &Disk, path: &Path) -> Self {
        let (disk, path) = (disk.path.display(), path.display());
        Self(info_span!("create", %disk, %path, disk_bytes = Empty, file_bytes = Empty))
    }

    pub(crate) fn phase(phase: Phase) -> Self {
        let phase = phase.as_str();
        Self(info_span!("phase", phase, source_bytes = Empty, decoded_bytes = Empty))
    }

    pub(crate) fn target(disk: &Disk) -> Self {
        let disk = disk.path.display();
        let (written_bytes, zeroed_bytes, verified_bytes) = (Empty, Empty, Empty);
        Self(info_span!("target", %disk, written_bytes, zeroed_bytes, verified_bytes))
    }

    /// Sets a field that was empty when the span was created.
    pub(crate) fn record(&self, field: &'static str, bytes: u64) {
        self.0.record(field, bytes);
    }

    pub(crate) fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.in_scope(work)
    }

    /// Records that the target of this span has failed.
    pub(crate) fn failed(&self, message: &str) {
        error!(parent: &self.0, error = &*redact::text(message), "the target failed");
    }
}

/// Puts the task `future` into the span that this thread is in.
#[cfg(feature = "http")]
pub(crate) fn in_current_span<F: Future>(future: F) -> impl Future<Output = F::Output> + use<F> {
    future.in_current_span()
}

/// Records that a request will be sent again after `delay`.
#[cfg(feature = "http")]
pub(crate) fn retry(error: &Error, attempt: u32, delay: Duration) {
    let (text, delay_ms) = (format!("{error:#}"), delay.as_millis() as u64);
    warn!(attempt, delay_ms, error = &*redact::text(&text), "a request failed; trying again");
}

#[cfg(test)]
#[cfg(all(feature = "http", feature = "testing"))]
mod tests;
