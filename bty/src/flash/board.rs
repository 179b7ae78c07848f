//! The board: where the counts of an execution are collected, and told from.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::flash::PhaseTime;
use crate::flash::lane::Shared;
use crate::image::Image;
use crate::progress::{Counts, TargetCounts};
use crate::read_context::ReadCounts;
use crate::{Event, Observer, Phase};

/// How often progress is told.
const TICK: Duration = Duration::from_millis(200);

/// Where progress is collected, and told from.
pub(super) struct Board {
    counts: Arc<ReadCounts>,
    source_total: Option<u64>,
    decoded_total: Option<u64>,
    lanes: Vec<Arc<Shared>>,
    phases: Mutex<Vec<(Phase, Instant)>>,
    started: Instant,
}

impl Board {
    pub(super) fn new(image: &Image, counts: &Arc<ReadCounts>, lanes: Vec<Arc<Shared>>) -> Self {
        Self {
            counts: Arc::clone(counts),
            source_total: image.info().source_bytes,
            decoded_total: image.info().disk_bytes,
            lanes,
            phases: Mutex::new(Vec::new()),
            started: Instant::now(),
        }
    }

    /// Ends the phase before and begins `phase`.
    pub(super) fn enter(&self, phase: Phase, observer: &dyn Observer) {
        if let Some(event) = self.progress() {
            observer.event(&event);
        }
        self.phases.lock().expect("nobody panics holding it").push((phase, Instant::now()));
        observer.event(&Event::Phase { phase });
    }

    /// True from the first write on.
    pub(super) fn has_begun(&self) -> bool {
        !self.phases.lock().expect("nobody panics holding it").is_empty()
    }

    /// Tells `observer` the counts, a few times a second, and once more when all is over.
    pub(super) fn tell(&self, observer: &dyn Observer, over: &Receiver<()>) {
        loop {
            let is_over = over.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout);
            if let Some(event) = self.progress() {
                observer.event(&event);
            }
            if is_over {
                return;
            }
        }
    }

    fn progress(&self) -> Option<Event> {
        let phase = self.phases.lock().expect("nobody panics holding it").last()?.0;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let targets = self.lanes.iter().map(|lane| TargetCounts {
            target: lane.name.clone(),
            written_bytes: get(&lane.written_bytes),
            durable_bytes: get(&lane.durable_bytes),
            zeroed_bytes: get(&lane.zeroed_bytes),
            verified_bytes: get(&lane.verified_bytes),
            verify_total: Some(get(&lane.verify_total)).filter(|&total| total > 0),
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

    pub(super) fn times(&self) -> Vec<PhaseTime> {
        let phases = self.phases.lock().expect("nobody panics holding it");
        let ends = phases.iter().skip(1).map(|p| p.1).chain([Instant::now()]);
        phases
            .iter()
            .zip(ends)
            .map(|((phase, start), end)| PhaseTime {
                phase: phase.as_str().into(),
                elapsed_ms: millis(end - *start),
            })
            .collect()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
