//! Rates of the flashes in progress, computed from the progress that machines report. Kept in
//! memory only.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bty_script::plan::Progress;

use crate::domain::mac::Mac;
use crate::domain::time::Time;

/// Length of a step of the throughput curve in milliseconds.
pub const STEP_MS: i64 = 5_000;

/// Number of steps kept: ten minutes.
const STEPS_MAX: usize = 120;

/// Time without a report after which a machine is forgotten, in milliseconds.
const FORGET_MS: i64 = 10 * 60 * 1000;

/// Rates of one machine, in bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Read from the source.
    pub read: u64,
    /// Written to the disk.
    pub written: u64,
    /// Read back and compared.
    pub verified: u64,
}

/// Sums over all machines, for one step of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurveStep {
    /// Start of the step.
    pub at: Time,
    /// Bytes written in the step.
    pub written: u64,
    /// Bytes read back in the step.
    pub verified: u64,
}

/// The rates of all machines that are being flashed.
#[derive(Default)]
pub struct Rates(Mutex<MeasuredRates>);

#[derive(Default)]
struct MeasuredRates {
    machines: HashMap<Mac, Last>,
    steps: VecDeque<CurveStep>,
}

struct Last {
    at: Time,
    progress: Progress,
    rate: Rate,
}

impl Rates {
    /// Records the progress that a machine has reported.
    pub fn progress(&self, mac: &Mac, progress: &Progress, now: Time) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = inner.machines.get(mac);
        let since = |now: u64, of: fn(&Progress) -> u64| match known.map(|last| of(&last.progress))
        {
            Some(before) if before <= now => now - before,
            // a new flash starts at zero
            Some(_) => now,
            // it is unknown how long the bytes of the first report took
            None => 0,
        };
        let read = since(progress.source_bytes, |p| p.source_bytes);
        let written = since(progress.written_bytes, |p| p.written_bytes);
        let verified = since(progress.verified_bytes, |p| p.verified_bytes);
        let rate = match known.map(|last| now.ms_since(last.at)) {
            Some(ms) if ms > 0 => {
                let per_s = |bytes: u64| bytes.saturating_mul(1000) / ms.unsigned_abs();
                Rate { read: per_s(read), written: per_s(written), verified: per_s(verified) }
            }
            // two reports at the same time give no rate
            Some(_) => known.map(|last| last.rate).unwrap_or_default(),
            None => Rate::default(),
        };
        inner.machines.insert(mac.clone(), Last { at: now, progress: progress.clone(), rate });
        inner.count(now, written, verified);
    }

    /// Forgets a machine whose flash has ended.
    pub fn end(&self, mac: &Mac) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).machines.remove(mac);
    }

    /// Returns the rate of a machine at its last report; `None` if it is not being flashed.
    #[must_use]
    pub fn of(&self, mac: &Mac) -> Option<Rate> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .machines
            .get(mac)
            .map(|last| last.rate)
    }

    /// Returns the steps of the last ten minutes, oldest first; empty if no machine was flashed in
    /// that time.
    #[must_use]
    pub fn curve(&self, now: Time) -> Vec<CurveStep> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let this = begin(now);
        let first = this.plus_ms(-STEP_MS * i64::try_from(STEPS_MAX).unwrap_or_default());
        if !inner.steps.iter().any(|step| step.at > first) {
            return Vec::new();
        }
        let known: HashMap<Time, CurveStep> =
            inner.steps.iter().map(|step| (step.at, *step)).collect();
        let step = |n: i64| {
            let at = first.plus_ms(STEP_MS * n);
            known.get(&at).copied().unwrap_or(CurveStep { at, written: 0, verified: 0 })
        };
        (1..=i64::try_from(STEPS_MAX).unwrap_or_default()).map(step).collect()
    }
}

impl MeasuredRates {
    fn count(&mut self, now: Time, written: u64, verified: u64) {
        let at = begin(now);
        if self.steps.back().is_none_or(|step| step.at < at) {
            self.steps.push_back(CurveStep { at, written: 0, verified: 0 });
            self.machines.retain(|_, last| now.ms_since(last.at) < FORGET_MS);
        }
        if self.steps.len() > STEPS_MAX {
            self.steps.pop_front();
        }
        if let Some(step) = self.steps.back_mut() {
            step.written = step.written.saturating_add(written);
            step.verified = step.verified.saturating_add(verified);
        }
    }
}

fn begin(now: Time) -> Time {
    Time(now.0.div_euclid(STEP_MS) * STEP_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(source_bytes: u64, written_bytes: u64, verified_bytes: u64) -> Progress {
        let text = serde_json::json!({
            "phase": "write", "source_bytes": source_bytes, "source_total": null,
            "decoded_bytes": 0, "decoded_total": null, "written_bytes": written_bytes,
            "verified_bytes": verified_bytes,
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn rates_are_between_two_reports_and_begin_again_with_a_flash() {
        let (rates, mac): (Rates, Mac) = (Rates::default(), "02:00:00:00:00:01".parse().unwrap());
        rates.progress(&mac, &progress(100, 1000, 0), Time(0));
        assert_eq!(rates.of(&mac), Some(Rate::default()));
        rates.progress(&mac, &progress(300, 5000, 500), Time(2000));
        assert_eq!(rates.of(&mac), Some(Rate { read: 100, written: 2000, verified: 250 }));
        rates.progress(&mac, &progress(10, 20, 0), Time(4000));
        assert_eq!(rates.of(&mac), Some(Rate { read: 5, written: 10, verified: 0 }));
        rates.end(&mac);
        assert_eq!(rates.of(&mac), None);
    }

    #[test]
    fn the_curve_has_every_step_of_ten_minutes_and_nothing_when_nothing_was_flashed() {
        let (rates, mac): (Rates, Mac) = (Rates::default(), "02:00:00:00:00:01".parse().unwrap());
        assert_eq!(rates.curve(Time(0)), []);
        rates.progress(&mac, &progress(0, 10, 0), Time(600_000));
        rates.progress(&mac, &progress(0, 30, 7), Time(611_000));
        let curve = rates.curve(Time(612_000));
        assert_eq!(curve.len(), 120);
        let last: Vec<(u64, u64)> =
            curve[117..].iter().map(|step| (step.written, step.verified)).collect();
        assert_eq!(last, [(0, 0), (0, 0), (20, 7)]);
        assert_eq!(rates.curve(Time(9_000_000)), []);
    }
}
