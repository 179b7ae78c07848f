//! The status of a machine, as a phase and in words.

use super::cycle::Stage;

/// The few columns that determine the status of a machine, so that lists of thousands of machines
/// read nothing else.
#[derive(Clone, Copy, Debug)]
pub struct MachineStatus<'a> {
    /// Name of its plan.
    pub plan: &'a str,
    /// Why it is on hold.
    pub hold: Option<&'a str>,
    /// Stage of its most recent boot cycle; `None` once an operator has given a new order since.
    pub stage: Option<Stage>,
    /// Mode of the order in that cycle.
    pub mode: Option<&'a str>,
    /// True if that cycle has been silent for too long, or was before it closed.
    pub is_silent: bool,
}

/// The status of a machine in one word, by what it requires of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// It needs attention: it is on hold, has failed, was interrupted, or is stalled.
    Trouble,
    /// Its boot cycle is open.
    Working,
    /// Its plan has work for the next boot.
    Pending,
    /// Its order is complete.
    Done,
    /// Its plan has no work for it.
    Idle,
}

impl Phase {
    /// All phases, the most urgent first.
    pub const ALL: [Self; 5] =
        [Self::Trouble, Self::Working, Self::Pending, Self::Done, Self::Idle];

    /// Returns the name in URLs.
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
    /// Returns the phase that follows from the columns.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match (self.hold, self.stage) {
            (Some(_), _) | (None, Some(Stage::Failed | Stage::Lost | Stage::Stalled)) => {
                Phase::Trouble
            }
            (None, Some(stage)) if stage.is_open() && self.is_silent => Phase::Trouble,
            (None, Some(stage)) if stage.is_open() => Phase::Working,
            (None, Some(Stage::Done)) => Phase::Done,
            _ if matches!(self.plan, "bty-flash-once" | "bty-flash-always" | "bty-inventory") => {
                Phase::Pending
            }
            _ => Phase::Idle,
        }
    }

    /// True if the machine is stalled: its live environment is silent, or has not started in
    /// several boots.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        let is_silent = |stage: Stage| stage.is_open() && self.is_silent;
        self.stage.is_some_and(|stage| stage == Stage::Stalled || is_silent(stage))
    }

    /// Returns the state in one word, as metrics count it.
    #[must_use]
    pub fn state(&self) -> &'static str {
        let is_flash = self.mode == Some("flash");
        match (self.hold, self.stage) {
            (Some(_), _) => "on_hold",
            (None, Some(Stage::Failed | Stage::Lost)) => "failed",
            (None, Some(_)) if self.is_stalled() => "stalled",
            (None, Some(Stage::Offered | Stage::Booting)) => "booting",
            (None, Some(Stage::Working)) if is_flash => "flashing",
            (None, Some(Stage::Working)) => "working",
            (None, Some(Stage::Done)) if is_flash => "flashed",
            (None, Some(Stage::Done)) => "done",
            (None, Some(Stage::Superseded) | None) if self.phase() == Phase::Pending => "waiting",
            (None, Some(Stage::Superseded | Stage::Stalled) | None) => "idle",
        }
    }

    /// Returns the status in the words of the reference, such as `pending flash` or
    /// `live env running; awaiting flash`. Empty for an idle machine.
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
            Some(stage) if stage.is_open() && self.is_silent => {
                format!("stalled: the live env is silent; awaiting {awaited}")
            }
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
