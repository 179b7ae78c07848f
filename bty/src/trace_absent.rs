//! Stands in for the spans if the feature `tracing` is off: there are none.

use std::path::Path;
#[cfg(feature = "http")]
use std::time::Duration;

use crate::Phase;
use crate::disks::Disk;
use crate::image::ImageInfo;

pub(crate) struct Span;

impl Span {
    pub(crate) fn none() -> Self {
        Self
    }

    pub(crate) fn current() -> Self {
        Self
    }

    pub(crate) fn open(_: &str) -> Self {
        Self
    }

    pub(crate) fn read(_: &ImageInfo) -> Self {
        Self
    }

    pub(crate) fn flash(_: &ImageInfo, _: usize) -> Self {
        Self
    }

    pub(crate) fn verify(_: &ImageInfo, _: &Disk) -> Self {
        Self
    }

    pub(crate) fn create(_: &Disk, _: &Path) -> Self {
        Self
    }

    pub(crate) fn phase(_: Phase) -> Self {
        Self
    }

    pub(crate) fn target(_: &Disk) -> Self {
        Self
    }

    pub(crate) fn record(&self, _: &'static str, _: u64) {}

    pub(crate) fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }

    pub(crate) fn failed(&self, _: &str) {}
}

#[cfg(feature = "http")]
pub(crate) fn in_current_span<F: Future>(future: F) -> F {
    future
}

#[cfg(feature = "http")]
pub(crate) fn retry(_: &crate::Error, _: u32, _: Duration) {}
