//! The progress of a machine's flash.

use super::render::percent;
use crate::domain::machine::Machine;
use crate::services::rates::{Rate, Rates};

/// Progress of a flash, formatted for people.
pub(super) struct Progress {
    /// `wipe`, `write`, `verify` or `finish`.
    pub(super) phase: String,
    /// Completed part of the phase, in percent.
    pub(super) percent: u64,
    /// The rates of reading the image, writing, and reading back.
    pub(super) rates: String,
    /// Completed and total bytes.
    pub(super) done: String,
}

/// Returns the progress of the open boot cycle of `machine`, if it has reported any.
pub(super) fn progress(rates: &Rates, machine: &Machine) -> Option<Progress> {
    let cycle = machine.open_cycle()?;
    let report: bty_script::plan::Progress =
        serde_json::from_value(cycle.progress.clone()?).ok()?;
    let total = report.decoded_total.or(report.source_total);
    let done = match report.phase.as_str() {
        "verify" => report.verified_bytes,
        _ if report.decoded_total.is_some() => report.written_bytes,
        _ => report.source_bytes,
    };
    let human = bty::size::human;
    let Rate { read, written, verified } = rates.of(&machine.mac).unwrap_or_default();
    let rates = format!(
        "read {}/s, written {}/s, read back {}/s",
        human(read),
        human(written),
        human(verified)
    );
    Some(Progress {
        rates,
        done: total
            .map_or_else(|| human(done), |total| format!("{} of {}", human(done), human(total))),
        percent: percent(done, total.unwrap_or_default()),
        phase: report.phase,
    })
}
