//! Machines whose live environment has fallen silent.
//!
//! Nothing tells the server that a machine has lost power. If an open boot cycle has been silent
//! for too long, the machine counts as stalled. The cycle stays open: a report that arrives after
//! all still counts.

use serde_json::json;

use super::{Cycle, Machine, Outcome};
use crate::domain::event::NewEvent;
use crate::domain::time::Time;

/// How long the live environment of a machine may be silent.
#[derive(Clone, Copy, Debug)]
pub struct SilenceLimit {
    /// The current time.
    pub now: Time,
    /// The longest silence in milliseconds; 0 for no limit.
    pub after_ms: i64,
}

/// A factor for orders that send no progress: a person may think for a day, and a script may test
/// memory all night. With the default of 15 minutes, this is a day.
const WITHOUT_PROGRESS: i64 = 96;

/// A factor for phases in which a device works alone, and may take an hour.
const IN_DEVICE: i64 = 4;

impl SilenceLimit {
    /// True if a machine that was last heard at `heard_at` is stalled. `mode` is that of its order,
    /// and `phase` that of its last progress.
    #[must_use]
    pub fn is_exceeded(&self, heard_at: Time, mode: Option<&str>, phase: Option<&str>) -> bool {
        let factor = match (mode, phase) {
            (Some("script"), _) | (Some("interactive"), None) => WITHOUT_PROGRESS,
            (_, Some("wipe" | "finish")) => IN_DEVICE,
            _ => 1,
        };
        self.after_ms > 0 && self.now.ms_since(heard_at) >= self.after_ms.saturating_mul(factor)
    }

    fn is_exceeded_by(&self, cycle: &Cycle) -> bool {
        let mode = cycle.order.as_ref().map(|order| order.mode.as_str());
        let phase = cycle.progress.as_ref().and_then(|progress| progress["phase"].as_str());
        cycle.stage.is_open() && self.is_exceeded(cycle.heard_at, mode, phase)
    }
}

impl Machine {
    /// Marks the open cycle as stalled if it exceeds `limit`. Returns true if it was not marked
    /// before.
    pub fn mark_stalled(&mut self, limit: &SilenceLimit) -> bool {
        let cycle = self.cycle.as_mut().filter(|cycle| cycle.stalled_at.is_none());
        let Some(cycle) = cycle.filter(|cycle| limit.is_exceeded_by(cycle)) else { return false };
        cycle.stalled_at = Some(limit.now);
        true
    }
}

/// Records that a machine has stalled, once. Changes nothing if it has not.
#[must_use]
pub fn apply_silence(machine: &Machine, limit: &SilenceLimit) -> Outcome<()> {
    const KIND: &str = "machine.stalled";
    let mut after = machine.clone();
    let mut events = Vec::new();
    if after.mark_stalled(limit)
        && let Some(cycle) = &after.cycle
    {
        let minutes = limit.now.ms_since(cycle.heard_at) / 60_000;
        let summary = format!(
            "{}: stalled: its live environment has been silent for {minutes} min",
            after.mac
        );
        let event = NewEvent::new(KIND, after.mac.as_str(), summary);
        events.push(event.with(json!({
            "boot_mode": after.plan, "stage": cycle.stage, "heard_at": cycle.heard_at,
            "mode": cycle.order.as_ref().map(|order| &order.mode),
            "phase": cycle.progress.as_ref().map(|progress| &progress["phase"]),
        })));
        after.remember_event(limit.now, KIND);
    }
    Outcome { machine: after, events, answer: () }
}
