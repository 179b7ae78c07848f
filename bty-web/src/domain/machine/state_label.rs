//! The state of a machine in words for operators. The API uses the words of the reference instead.

use super::{MachineStatus, Phase, Stage};

/// Returns the label of a phase.
#[must_use]
pub fn phase_label(phase: Phase) -> &'static str {
    match phase {
        Phase::Trouble => "Needs attention",
        Phase::Working => "Working",
        Phase::Pending => "Waiting for boot",
        Phase::Done => "Done",
        Phase::Idle => "Idle",
    }
}

/// Returns the state of a machine, such as `Flashing` or `On hold: …`.
#[must_use]
pub fn state_label(status: &MachineStatus<'_>) -> String {
    if let Some(why) = status.hold {
        return format!("On hold: {why}");
    }
    let is_flash = status.mode == Some("flash");
    let is_inventory = status.mode == Some("inventory");
    let label = match status.stage {
        Some(stage) if stage.is_open() && status.is_silent => {
            "Stalled: the live environment is silent"
        }
        Some(Stage::Offered | Stage::Booting) => "Booting the live environment",
        Some(Stage::Working) if is_flash => "Flashing",
        Some(Stage::Working) if is_inventory => "Taking inventory",
        Some(Stage::Working) => "Working",
        Some(Stage::Done) if is_flash => "Flashed",
        Some(Stage::Done) if is_inventory => "Inventory taken",
        Some(Stage::Done) => "Done",
        Some(Stage::Failed) if is_flash => "Flash failed",
        Some(Stage::Failed) => "Failed",
        Some(Stage::Lost) => "Interrupted",
        Some(Stage::Stalled) => "Stalled: the live environment did not start",
        Some(Stage::Superseded) | None => match status.plan {
            "bty-flash-once" | "bty-flash-always" => "Waiting for boot: flash",
            "bty-inventory" => "Waiting for boot: inventory",
            _ => phase_label(status.phase()),
        },
    };
    label.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown() -> MachineStatus<'static> {
        MachineStatus { plan: "own", hold: None, stage: None, mode: None, is_silent: false }
    }

    #[test]
    fn states_have_words_that_operators_use() {
        let label =
            |plan, stage, mode| state_label(&MachineStatus { plan, stage, mode, ..unknown() });
        for (plan, stage, mode, expected) in [
            ("bty-flash-once", None, None, "Waiting for boot: flash"),
            ("bty-flash-once", Some(Stage::Working), Some("flash"), "Flashing"),
            ("bty-flash-once", Some(Stage::Done), Some("flash"), "Flashed"),
            ("own", Some(Stage::Failed), None, "Failed"),
            (
                "bty-inventory",
                Some(Stage::Superseded),
                Some("flash"),
                "Waiting for boot: inventory",
            ),
            ("ipxe-exit", None, None, "Idle"),
        ] {
            assert_eq!(label(plan, stage, mode), expected, "{plan} {stage:?}");
        }
        let held = MachineStatus { hold: Some("it failed"), ..unknown() };
        assert_eq!(state_label(&held), "On hold: it failed");
        let silent = MachineStatus { stage: Some(Stage::Working), is_silent: true, ..unknown() };
        assert_eq!(state_label(&silent), "Stalled: the live environment is silent");
    }
}
