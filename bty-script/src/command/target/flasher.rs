//! Flashes as before, and lets console and server know.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bty::flash::{FlashPlan, FlashReport, VerifyReport};
use bty::{CancelToken, Disk, Event, Observer, Result};
use bty_script::plan::{FlashedDisk, Progress};
use bty_script::world::{Flasher, Image};

use super::server::Reporter;
use crate::console::Marks;

/// Stands before the flasher of the machine.
pub(super) struct Watched {
    inner: Arc<dyn Flasher>,
    marks: Arc<Marks>,
    reporter: Option<Reporter>,
    has_begun: AtomicBool,
    flashed: Mutex<Vec<FlashedDisk>>,
}

impl Watched {
    pub(super) fn new(
        inner: Arc<dyn Flasher>,
        marks: Arc<Marks>,
        reporter: Option<Reporter>,
    ) -> Self {
        Self {
            inner,
            marks,
            reporter,
            has_begun: AtomicBool::new(false),
            flashed: Mutex::default(),
        }
    }

    /// What was flashed, with its proof.
    pub(super) fn flashed(&self) -> Vec<FlashedDisk> {
        self.flashed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// No progress is told after this.
    pub(super) fn end(&self) {
        self.reporter.iter().for_each(Reporter::end);
    }

    fn tell(&self, event: &Event) {
        let Some(reporter) = &self.reporter else { return };
        if let Event::Progress { phase, counts, targets, .. } = event {
            let slowest = |of: fn(&bty::progress::TargetCounts) -> u64| {
                targets.iter().map(of).min().unwrap_or(0)
            };
            let written = slowest(|t| t.written_bytes + t.zeroed_bytes);
            reporter.tell(Progress::new(
                phase.as_str(),
                counts,
                written,
                slowest(|t| t.verified_bytes),
            ));
        }
    }
}

impl Flasher for Watched {
    fn execute(
        &self,
        plan: &FlashPlan,
        image: &Image,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<FlashReport> {
        if !self.has_begun.swap(true, Ordering::SeqCst) {
            self.marks.mark("auto-flash starting");
        }
        let all = |event: &Event| {
            observer.event(event);
            self.marks.event(event);
            self.tell(event);
        };
        let report = self.inner.execute(plan, image, &all, cancel)?;
        self.flashed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(FlashedDisk::of(&report));
        Ok(report)
    }

    fn verify(
        &self,
        image: &Image,
        disk: &Disk,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<VerifyReport> {
        self.inner.verify(image, disk, observer, cancel)
    }

    fn create(&self, path: &Path, size_bytes: u64) -> Result<Disk> {
        self.inner.create(path, size_bytes)
    }
}
