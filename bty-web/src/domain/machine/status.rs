//! Where a machine is, in a sentence and in a word.

use super::Stage;

/// The few facts that tell where a machine is: lists of thousands read no more of it.
#[derive(Clone, Copy, Debug)]
pub struct MachineStatus<'a> {
    /// Name of its plan.
    pub plan: &'a str,
    /// Why it boots its disk and nothing else.
    pub hold: Option<&'a str>,
    /// Where its last boot cycle is.
    pub stage: Option<Stage>,
    /// What was ordered in that.
    pub mode: Option<&'a str>,
}

/// What an operator has to think of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Somebody has to look at it: it is on hold, has failed, was interrupted, or is stalled.
    Trouble,
    /// Its live environment is at work.
    Working,
    /// It waits for its next boot, where something is to be done.
    Pending,
    /// What was to be done is done.
    Done,
    /// Nothing is to be done.
    Idle,
}

impl Phase {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 5] =
        [Self::Trouble, Self::Working, Self::Pending, Self::Done, Self::Idle];

    /// Its name, as in addresses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trouble => "trouble",
            Self::Working => "working",
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Idle => "idle",
        }
    }
}

impl MachineStatus<'_> {
    /// In a word.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match (self.hold, self.stage) {
            (Some(_), _) | (None, Some(Stage::Failed | Stage::Lost | Stage::Stalled)) => {
                Phase::Trouble
            }
            (None, Some(stage)) if stage.is_open() => Phase::Working,
            (None, Some(Stage::Done)) => Phase::Done,
            _ if matches!(self.plan, "bty-flash-once" | "bty-flash-always" | "bty-inventory") => {
                Phase::Pending
            }
            _ => Phase::Idle,
        }
    }

    /// In a sentence: `pending flash`, `live env running; awaiting flash`, `flashed; booting disk`
    /// and their like. Empty when there is nothing to say.
    #[must_use]
    pub fn text(&self) -> String {
        if let Some(why) = self.hold {
            return format!("on hold: {why}");
        }
        let awaited = match (self.mode, self.plan) {
            (Some("flash"), _) | (None, "bty-flash-once" | "bty-flash-always") => "flash",
            (Some("inventory"), _) | (None, "bty-inventory") => "inventory",
            _ => "completion",
        };
        match self.stage {
            Some(Stage::Offered) => format!("sent to the live env; awaiting {awaited}"),
            Some(Stage::Booting | Stage::Working) => {
                format!("live env running; awaiting {awaited}")
            }
            Some(Stage::Done) => match awaited {
                "flash" => "flashed; booting disk".into(),
                "inventory" => "inventoried; booting disk".into(),
                _ => "completed".into(),
            },
            Some(Stage::Failed) => format!("{awaited} failed"),
            Some(Stage::Lost) => format!("{awaited} was interrupted"),
            Some(Stage::Stalled) => "stalled: the live env did not start; booting disk".into(),
            Some(Stage::Superseded) | None => match self.plan {
                "bty-flash-once" => "pending flash".into(),
                "bty-flash-always" => "ready to flash".into(),
                "bty-inventory" => "pending inventory".into(),
                _ => String::new(),
            },
        }
    }
}
