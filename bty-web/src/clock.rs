//! The system clock. It is outside the domain, whose functions take the time as an argument.

use crate::domain::time::Time;

impl Time {
    /// Returns the current time of the system clock.
    #[must_use]
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond())
    }
}
