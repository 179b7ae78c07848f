//! A flasher that also reports to the console and the server.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bty::create::{CreateOptions, CreateReport};
use bty::flash::{FlashPlan, FlashReport, VerifyReport};
use bty::pack::{PackOptions, PackReport};
use bty::{CancelToken, Disk, Event, Observer, Result};
use bty_script::plan::{FlashedDisk, Progress};
use bty_script::world::{Flasher, Image};

use super::server::ProgressReporter;
use crate::console_log::ConsoleLog;

/// Wraps the flasher of the machine.
pub(super) struct ReportingFlasher {
    inner: Arc<dyn Flasher>,
    console_log: Arc<ConsoleLog>,
    reporter: Option<ProgressReporter>,
    has_begun: AtomicBool,
    flashed: Mutex<Vec<FlashedDisk>>,
}

impl ReportingFlasher {
    pub(super) fn new(
        inner: Arc<dyn Flasher>,
        console_log: Arc<ConsoleLog>,
        reporter: Option<ProgressReporter>,
    ) -> Self {
        Self {
            inner,
            console_log,
            reporter,
            has_begun: AtomicBool::new(false),
            flashed: Mutex::default(),
        }
    }

    /// The disks flashed so far, with their proof.
    pub(super) fn flashed(&self) -> Vec<FlashedDisk> {
        self.flashed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends no more progress, so that none arrives after the final report.
    pub(super) fn end(&self) {
        self.reporter.iter().for_each(ProgressReporter::end);
    }

    fn report(&self, event: &Event) {
        let Some(reporter) = &self.reporter else { return };
        if let Event::Progress { phase, counts, targets, .. } = event {
            let slowest = |count: fn(&bty::progress::TargetCounts) -> u64| {
                targets.iter().map(count).min().unwrap_or(0)
            };
            let written = slowest(|t| t.written_bytes + t.zeroed_bytes);
            reporter.update(Progress::new(
                phase.as_str(),
                counts,
                written,
                slowest(|t| t.verified_bytes),
            ));
        }
    }
}

impl Flasher for ReportingFlasher {
    fn execute(
        &self,
        plan: &FlashPlan,
        image: &Image,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<FlashReport> {
        let is_erasing = plan.image.erases.is_some();
        if is_erasing {
            self.console_log.announce("erasing starting");
        } else if !self.has_begun.swap(true, Ordering::SeqCst) {
            self.console_log.announce("auto-flash starting");
        }
        let all = |event: &Event| {
            observer.event(event);
            self.console_log.event(event);
            self.report(event);
        };
        let report = self.inner.execute(plan, image, &all, cancel)?;
        // to the server, a disk that was erased is not one that was flashed
        if is_erasing {
            return Ok(report);
        }
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

    fn pack(
        &self,
        image: &Image,
        path: &Path,
        options: &PackOptions,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<PackReport> {
        self.inner.pack(image, path, options, observer, cancel)
    }

    fn create_image(
        &self,
        disk: &Disk,
        path: &Path,
        options: &CreateOptions,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<CreateReport> {
        self.inner.create_image(disk, path, options, observer, cancel)
    }
}
