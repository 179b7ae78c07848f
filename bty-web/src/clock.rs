//! The clock of the system. Outside the domain, which gets the time as an argument.

use crate::domain::time::Time;

impl Time {
    /// Now, by the clock of the system.
    #[must_use]
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond())
    }
}
