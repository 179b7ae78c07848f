//! The report of a run, and the counters behind it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

/// The result of a run.
#[derive(Debug, Default, Serialize)]
pub struct FleetRunReport {
    /// Number of simulated machines.
    pub machines: u32,
    /// Network boots of all machines.
    pub boots: u64,
    /// Requests of all machines.
    pub requests: u64,
    /// Flashes that were started.
    pub flashes: u64,
    /// Flashes whose completion the server acknowledged.
    pub completed: u64,
    /// Number of power losses.
    pub crashes: u64,
    /// Messages that were sent twice, or sent again because the response was lost.
    pub repeated: u64,
    /// Reports that arrived during a later boot.
    pub late: u64,
    /// Number of times that a machine was reported as stalled and assigned again.
    pub stalled: u64,
    /// Number of times that a machine stayed off after a power loss and was reported as stalled.
    pub silent: u64,
    /// Wrong decisions of the server, each with the machine and its plan.
    pub violations: Vec<String>,
    /// Duration of the run in seconds.
    pub seconds: f64,
    /// Response times in milliseconds, by kind of request.
    pub times_ms: BTreeMap<String, RequestTimes>,
}

/// Response times of one kind of request, in milliseconds.
#[derive(Debug, Default, Serialize)]
pub struct RequestTimes {
    /// Number of measured requests.
    pub count: usize,
    /// Time that half of the requests stayed below.
    pub p50: f64,
    /// Time that 99 % of the requests stayed below.
    pub p99: f64,
    /// Time of the slowest request.
    pub max: f64,
}

/// Counters and response times to which all machines add.
#[derive(Default)]
pub(super) struct Tally {
    report: Mutex<FleetRunReport>,
    times: Mutex<BTreeMap<&'static str, Vec<f64>>>,
}

impl Tally {
    pub(super) fn count(&self, change: impl FnOnce(&mut FleetRunReport)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn time(&self, what: &'static str, begun: Instant) {
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        self.times.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default().push(ms);
        self.count(|report| report.requests += 1);
    }

    pub(super) fn finish(self, seconds: f64) -> FleetRunReport {
        let mut report = self.report.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.seconds = seconds;
        for (what, mut times) in self.times.into_inner().unwrap_or_else(PoisonError::into_inner) {
            times.sort_by(f64::total_cmp);
            let at = |share: f64| {
                times
                    .get(((times.len() as f64 * share) as usize).min(times.len() - 1))
                    .copied()
                    .unwrap_or_default()
            };
            report.times_ms.insert(
                what.to_owned(),
                RequestTimes { count: times.len(), p50: at(0.5), p99: at(0.99), max: at(1.0) },
            );
        }
        report
    }
}
