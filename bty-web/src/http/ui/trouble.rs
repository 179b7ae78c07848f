//! Why a machine needs attention, for its page and for the list.

use super::progress::silence;
use crate::domain::machine::{Machine, Phase, Stage};
use crate::domain::time::Time;

/// Why a machine needs attention. Its state says what has happened; this says why.
pub(super) struct Trouble {
    /// The reason; empty if the state says it already.
    pub(super) reason: String,
    /// True if nobody has acknowledged some of its failures.
    pub(super) has_failures: bool,
}

/// Returns why `machine` needs attention; `None` if it does not.
pub(super) fn trouble(machine: &Machine, has_failures: bool, now: Time) -> Option<Trouble> {
    let status = machine.status();
    let is_troubled = status.phase() == Phase::Trouble;
    let cycle = machine.cycle.as_ref();
    let reason = match (status.hold, status.stage) {
        _ if !is_troubled => return None,
        (Some(_), _) => String::new(),
        (None, Some(Stage::Failed)) => failure(machine),
        (None, Some(Stage::Lost)) => "it booted again before it reported a result".into(),
        (None, Some(Stage::Stalled)) => {
            let boots = cycle.map_or(1, |cycle| cycle.silent_before.saturating_add(1));
            format!("{boots} boots in a row without a sign of it; look at its console")
        }
        _ => silence(machine, now).map_or_else(String::new, |silence| {
            format!("{silence}; its disk may be half written: look at its console")
        }),
    };
    Some(Trouble { reason, has_failures })
}

fn failure(machine: &Machine) -> String {
    let is_unreadable = machine.cycle.as_ref().is_some_and(|cycle| cycle.is_inventory_unreadable);
    match machine.failure() {
        Some(reason) => reason.to_owned(),
        None if is_unreadable => "the server could not read its inventory".into(),
        None => "its log has the reason".into(),
    }
}
