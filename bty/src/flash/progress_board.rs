//! Collects the counters of an execution, and reports them to the observer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::flash::PhaseTime;
use crate::flash::target::TargetState;
use crate::image::Image;
use crate::progress::{Counts, INTERVAL, TargetCounts};
use crate::read_context::ReadCounts;
use crate::trace::Span;
use crate::{Event, Observer, Phase};

pub(super) struct ProgressBoard {
    counts: Arc<ReadCounts>,
    source_total: Option<u64>,
    decoded_total: Option<u64>,
    targets: Vec<Arc<TargetState>>,
    /// The phases so far, with their start times. Another pass over the image repeats phases.
    phases: Mutex<Vec<(Phase, Instant)>>,
    started: Instant,
    /// The span of the current phase.
    span: Mutex<Span>,
}

impl ProgressBoard {
    pub(super) fn new(
        image: &Image,
        counts: &Arc<ReadCounts>,
        targets: Vec<Arc<TargetState>>,
    ) -> Self {
        Self {
            counts: Arc::clone(counts),
            source_total: image.info().source_bytes,
            decoded_total: image.info().disk_bytes,
            targets,
            phases: Mutex::new(Vec::new()),
            started: Instant::now(),
            span: Mutex::new(Span::none()),
        }
    }

    /// Ends the current phase and begins `phase`.
    pub(super) fn enter(&self, phase: Phase, observer: &dyn Observer) {
        if let Some(event) = self.progress() {
            observer.event(&event);
        }
        self.change_span(Span::phase(phase));
        self.phases().push((phase, Instant::now()));
        observer.event(&Event::Phase { phase });
    }

    /// Ends the span of the current phase, and begins `next`.
    fn change_span(&self, next: Span) {
        let mut span = self.span.lock().expect("nobody panics holding it");
        span.record("source_bytes", self.counts.source_bytes.load(Ordering::Relaxed));
        span.record("decoded_bytes", self.counts.decoded_bytes.load(Ordering::Relaxed));
        *span = next;
    }

    /// True once a phase has begun in which the targets are written to.
    pub(super) fn has_begun_to_write(&self) -> bool {
        self.phases().iter().any(|(phase, _)| *phase != Phase::Scan)
    }

    /// Reports progress to `observer` five times a second until all senders of `running` are gone,
    /// and then once more.
    pub(super) fn report(&self, observer: &dyn Observer, running: &Receiver<()>) {
        loop {
            let is_over = running.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout);
            if let Some(event) = self.progress() {
                observer.event(&event);
            }
            if is_over {
                return;
            }
        }
    }

    /// `None` before the first phase.
    fn progress(&self) -> Option<Event> {
        let phase = self.phases().last()?.0;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let targets = self.targets.iter().map(|target| {
            let counters = &target.counters;
            TargetCounts {
                target: target.name().to_owned(),
                written_bytes: get(&counters.written_bytes),
                durable_bytes: get(&counters.durable_bytes),
                zeroed_bytes: get(&counters.zeroed_bytes),
                verified_bytes: get(&counters.verified_bytes),
                kept_bytes: get(&counters.equal_bytes),
                scanned_bytes: get(&counters.scanned_bytes),
                scan_total: Some(get(&counters.scan_total)).filter(|&total| total > 0),
                verify_total: Some(get(&counters.verify_total)).filter(|&total| total > 0),
            }
        });
        Some(Event::Progress {
            phase,
            elapsed_ms: millis(self.started.elapsed()),
            counts: Counts {
                source_bytes: get(&self.counts.source_bytes),
                source_total: self.source_total,
                decoded_bytes: get(&self.counts.decoded_bytes),
                decoded_total: self.decoded_total,
            },
            targets: targets.collect(),
        })
    }

    /// The duration of each phase; the last one ends now.
    pub(super) fn phase_times(&self) -> Vec<PhaseTime> {
        let phases = self.phases();
        let ends = phases.iter().skip(1).map(|(_, start)| *start).chain([Instant::now()]);
        phases
            .iter()
            .zip(ends)
            .map(|((phase, start), end)| PhaseTime {
                phase: *phase,
                elapsed_ms: millis(end - *start),
            })
            .collect()
    }

    fn phases(&self) -> MutexGuard<'_, Vec<(Phase, Instant)>> {
        self.phases.lock().expect("nobody panics holding it")
    }
}

impl Drop for ProgressBoard {
    fn drop(&mut self) {
        self.change_span(Span::none());
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
