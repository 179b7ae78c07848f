//! What strangers may take of a server: connections, memory, rows and time. Every limit is a key of
//! the section `limits`, and `docs/reference/configuration.md` lists them.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Loader;

/// The limits of a server. A stranger is anybody without a password or token, machines included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; when all are taken, one that waits for a request is closed for the next
    /// client.
    pub connections: usize,
    /// Open connections of one address, or of a /64 of IPv6; trusted proxies have no such limit.
    pub connections_per_address: usize,
    /// How long a client may take to send the head of a request, and how long its connection is
    /// kept without one.
    pub head_time: Duration,
    /// Bytes of memory for the bodies that strangers are sending, together.
    pub body_bytes: usize,
    /// Bytes a second that a client must send of a body, after [`BODY_GRACE`].
    pub body_rate: u64,
    /// Passwords that wait to be checked.
    pub waiting_logins: usize,
    /// Simulations that run at the same time.
    pub simulations: usize,
    /// Unknown machines that may become known in a minute; 0 for any number.
    pub new_machines_per_minute: u32,
    /// Machines that are known and that no operator has assigned; the one that was seen longest ago
    /// is forgotten first. 0 for any number.
    pub unassigned_machines: u32,
    /// Bytes of hardware facts that are kept of each of them.
    pub unassigned_bytes: usize,
    /// Days after which an event is deleted; 0 keeps all of them.
    pub event_days: u32,
    /// Events that are kept, the newest; 0 keeps all of them.
    pub events: u32,
}

/// How long the beginning of a body may take, however slow it is.
pub const BODY_GRACE: Duration = Duration::from_secs(10);

impl Limits {
    /// Reads the section; every value that is wrong is noted as a problem.
    pub(super) fn read(loader: &mut Loader) -> Option<Self> {
        let connections = number(loader, "limits.connections");
        let connections_per_address = number(loader, "limits.connections_per_address");
        let head_s: Option<NonZero<u32>> =
            loader.parse("limits.head_s", "a number of seconds from 1");
        let body_bytes = bytes(loader, "limits.body_bytes");
        let body_rate = bytes(loader, "limits.body_rate");
        let waiting_logins = number(loader, "limits.waiting_logins");
        let simulations = number(loader, "limits.simulations");
        let new_machines_per_minute = loader.parse("limits.new_machines_per_minute", ANY_NUMBER);
        let unassigned_machines = loader.parse("limits.unassigned_machines", ANY_NUMBER);
        let unassigned_bytes = bytes(loader, "limits.unassigned_bytes");
        let event_days = loader.parse("limits.event_days", ANY_NUMBER);
        let events = loader.parse("limits.events", ANY_NUMBER);
        Some(Self {
            connections: connections?,
            connections_per_address: connections_per_address?,
            head_time: Duration::from_secs(head_s?.get().into()),
            body_bytes: usize::try_from(body_bytes?).ok()?,
            body_rate: body_rate?,
            waiting_logins: waiting_logins?,
            simulations: simulations?,
            new_machines_per_minute: new_machines_per_minute?,
            unassigned_machines: unassigned_machines?,
            unassigned_bytes: usize::try_from(unassigned_bytes?).ok()?,
            event_days: event_days?,
            events: events?,
        })
    }
}

/// Lets so many through in a minute.
pub struct PerMinute {
    max: u32,
    minute: Mutex<(Instant, u32)>,
}

impl PerMinute {
    /// At most `max` in a minute; 0 for any number.
    #[must_use]
    pub fn new(max: u32) -> Self {
        Self { max, minute: Mutex::new((Instant::now(), 0)) }
    }

    /// True when one more may go through; it is counted.
    pub fn admit(&self) -> bool {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> bool {
        if self.max == 0 {
            return true;
        }
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(minute.0) >= Duration::from_secs(60) {
            *minute = (now, 0);
        }
        minute.1 += u32::from(minute.1 < self.max.saturating_add(1));
        minute.1 <= self.max
    }
}

const ANY_NUMBER: &str = "a number; 0 for no limit";

fn number(loader: &mut Loader, key: &'static str) -> Option<usize> {
    loader
        .parse::<NonZero<u32>>(key, "a number from 1")
        .and_then(|number| usize::try_from(number.get()).ok())
}

fn bytes(loader: &mut Loader, key: &'static str) -> Option<u64> {
    let parsed = bty::size::parse(loader.values[key].0.trim()).ok().filter(|&bytes| bytes > 0);
    if parsed.is_none() {
        loader.wrong(key, "a size such as 16M");
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_lets_so_many_through_and_the_next_as_many_again() {
        let (limit, begun) = (PerMinute::new(2), Instant::now());
        let later = begun + Duration::from_secs(61);
        let admitted =
            [begun, begun, begun, begun, later, later, later].map(|at| limit.admit_at(at));
        assert_eq!(admitted, [true, true, false, false, true, true, false]);
        assert!((0..100).all(|_| PerMinute::new(0).admit()));
    }
}
