//! The progress of a machine's flash, in words.

use super::render::percent;
use crate::domain::machine::{Cycle, Machine};
use crate::domain::time::Time;
use crate::services::rates::{Rate, Rates};

/// The phases of a flash in their order: the word of reports, that of pages, and what the machine
/// is doing.
const PHASES: [(&str, &str, &str); 4] = [
    ("wipe", "Erase", "Erasing"),
    ("write", "Write", "Flashing"),
    ("verify", "Read back", "Verifying"),
    ("finish", "Finish", "Finishing"),
];

/// Progress of a flash, formatted for people.
pub(super) struct Progress {
    /// `wipe`, `write`, `verify` or `finish`.
    pub(super) phase: String,
    /// Completed part of the phase, in percent.
    pub(super) percent: u64,
    /// What the machine is doing, such as `Flashing 41 %, 6 min left, 114.0 MiB/s`.
    pub(super) headline: String,
    /// The rates of reading the image, writing, and reading back, without those that are zero.
    pub(super) rates: String,
    /// Completed and total bytes.
    pub(super) done: String,
    /// All phases; empty if the reported one is unknown.
    pub(super) steps: Vec<PhaseStep>,
}

/// A phase of a flash.
pub(super) struct PhaseStep {
    pub(super) name: &'static str,
    /// `done`, `now` or `next`.
    pub(super) state: &'static str,
}

/// Returns the progress of the order that `machine` is carrying out, if it has reported any. The
/// order may be one that an operator has replaced since.
pub(super) fn progress(rates: &Rates, machine: &Machine) -> Option<Progress> {
    let cycle = machine.open_cycle().or_else(|| machine.overtaken_cycle())?;
    let report: bty_script::plan::Progress =
        serde_json::from_value(cycle.progress.clone()?).ok()?;
    let progress = in_words(&report, rates.of(&machine.mac).unwrap_or_default());
    if machine.status().is_stalled() {
        let headline = format!("No progress since {} %", progress.percent);
        return Some(Progress { headline, rates: String::new(), ..progress });
    }
    Some(progress)
}

fn in_words(report: &bty_script::plan::Progress, rate: Rate) -> Progress {
    let total = report.decoded_total.or(report.source_total);
    let (done, speed) = match report.phase.as_str() {
        "verify" => (report.verified_bytes, rate.verified),
        _ if report.decoded_total.is_some() => (report.written_bytes, rate.written),
        _ => (report.source_bytes, rate.read),
    };
    let human = bty::size::human;
    let percent = percent(done, total.unwrap_or_default());
    let place = PHASES.iter().position(|(word, ..)| *word == report.phase);
    let doing = place.and_then(|at| PHASES.get(at)).map_or("Working", |(_, _, doing)| *doing);
    let has_bytes = matches!(report.phase.as_str(), "write" | "verify");
    let mut headline = if has_bytes { format!("{doing} {percent} %") } else { doing.to_owned() };
    let left = total.map(|total| total.saturating_sub(done)).filter(|left| *left > 0);
    if let (true, Some(seconds)) = (has_bytes, left.and_then(|left| left.checked_div(speed))) {
        headline.push_str(&format!(", {} left, {}/s", duration(seconds), human(speed)));
    }
    Progress {
        headline,
        percent,
        rates: rates_in_words(rate),
        done: total
            .map_or_else(|| human(done), |total| format!("{} of {}", human(done), human(total))),
        steps: place.map(steps).unwrap_or_default(),
        phase: report.phase.clone(),
    }
}

fn rates_in_words(rate: Rate) -> String {
    let Rate { read, written, verified } = rate;
    let rates = [("read", read), ("written", written), ("read back", verified)];
    let measured = rates.into_iter().filter(|(_, rate)| *rate > 0);
    let texts = measured.map(|(what, rate)| format!("{what} {}/s", bty::size::human(rate)));
    let text = texts.collect::<Vec<_>>().join(", ");
    if text.is_empty() { "rate not yet known".into() } else { text }
}

fn steps(now: usize) -> Vec<PhaseStep> {
    let state = |at: usize| match at.cmp(&now) {
        std::cmp::Ordering::Less => "done",
        std::cmp::Ordering::Equal => "now",
        std::cmp::Ordering::Greater => "next",
    };
    let phases = PHASES.iter().enumerate();
    phases.map(|(at, (_, name, _))| PhaseStep { name, state: state(at) }).collect()
}

/// Formats a duration in seconds, rounded up to its unit.
fn duration(seconds: u64) -> String {
    match seconds {
        0..=59 => format!("{} s", seconds.max(1)),
        60..=5399 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h", seconds.div_ceil(3600)),
    }
}

/// Returns how long the live environment of a stalled machine has been silent, such as `no report
/// for 17 min`; `None` if the machine is not stalled, or has stalled before it started one.
pub(super) fn silence(machine: &Machine, now: Time) -> Option<String> {
    let is_stalled = |cycle: &&Cycle| cycle.stage.is_open() && machine.status().is_stalled();
    let cycle = machine.cycle.as_ref().filter(is_stalled)?;
    let seconds = u64::try_from(now.ms_since(cycle.heard_at).max(0) / 1000).unwrap_or_default();
    Some(format!("no report for {}", duration(seconds)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn report(phase: &str, done: u64) -> bty_script::plan::Progress {
        bty_script::plan::Progress {
            phase: phase.into(),
            source_bytes: done / 2,
            source_total: Some(2 * GIB),
            decoded_bytes: done,
            decoded_total: Some(4 * GIB),
            written_bytes: if phase == "verify" { 4 * GIB } else { done },
            verified_bytes: if phase == "verify" { done } else { 0 },
        }
    }

    fn rate(written: u64, verified: u64) -> Rate {
        Rate { read: written / 2, written, verified }
    }

    #[test]
    fn a_flash_says_how_far_it_is_and_how_long_it_takes() {
        let words = |phase: &str, done, rate| in_words(&report(phase, done), rate).headline;
        assert_eq!(words("write", GIB, rate(32 << 20, 0)), "Flashing 25 %, 2 min left, 32.0 MiB/s");
        assert_eq!(words("verify", 3 * GIB, rate(0, GIB)), "Verifying 75 %, 1 s left, 1.0 GiB/s");
        assert_eq!(words("write", GIB, Rate::default()), "Flashing 25 %", "no rate yet");
        assert_eq!(words("write", 4 * GIB, rate(9, 0)), "Flashing 100 %");
        assert_eq!(words("wipe", 0, rate(9, 0)), "Erasing");
        assert_eq!(words("juggle", 0, rate(9, 0)), "Working");
    }

    #[test]
    fn a_stalled_flash_claims_no_rate() {
        let mac = "52:54:00:00:00:01".parse().unwrap();
        let progress_now = serde_json::to_value(report("write", GIB)).unwrap();
        let cycle = json!({
            "token": "t", "opened_at": Time(1), "opened_by": null, "stage": "working",
            "is_tokenless": false, "fallback": null, "has_inventory": true, "order": null,
            "progress": progress_now, "heard_at": Time(60_000), "stalled_at": Time(90_000),
        });
        let cycle = Some(serde_json::from_value(cycle).unwrap());
        let machine = Machine { cycle, ..Machine::new(mac, "bty-flash-once", Time(1)) };
        let rates = Rates::default();
        for n in 0..3 {
            rates.progress(
                &machine.mac,
                &report("write", GIB * n / 4),
                Time(10_000 + i64::try_from(n).unwrap()),
            );
        }
        let shown = progress(&rates, &machine).unwrap();
        assert_eq!((&*shown.headline, &*shown.rates), ("No progress since 25 %", ""));
        let now = Time(60_000 + 17 * 60_000);
        assert_eq!(silence(&machine, now).as_deref(), Some("no report for 17 min"));
        assert_eq!(silence(&Machine { cycle: None, ..machine }, now), None);
    }

    #[test]
    fn rates_of_zero_are_not_shown() {
        assert_eq!(rates_in_words(rate(GIB, 0)), "read 512.0 MiB/s, written 1.0 GiB/s");
        assert_eq!(rates_in_words(rate(0, GIB)), "read back 1.0 GiB/s");
        assert_eq!(rates_in_words(Rate::default()), "rate not yet known");
    }

    #[test]
    fn phases_are_steps() {
        let states = |phase: &str| {
            let steps = in_words(&report(phase, 0), Rate::default()).steps;
            steps.iter().map(|step| step.state).collect::<Vec<_>>()
        };
        assert_eq!(states("write"), ["done", "now", "next", "next"]);
        assert_eq!(states("finish"), ["done", "done", "done", "now"]);
        assert_eq!(states("juggle"), [""; 0]);
    }

    #[test]
    fn durations_are_rounded_up() {
        let texts = [0, 59, 60, 61, 5399, 5400].map(duration);
        assert_eq!(texts, ["1 s", "59 s", "1 min", "2 min", "90 min", "2 h"]);
    }
}
