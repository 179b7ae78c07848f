//! Limits for unauthenticated clients: connections, memory, rows and time. Machines are
//! unauthenticated too. Each limit is a key of the section `limits`; see
//! `docs/reference/configuration.md`.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::values::Values;

/// The limits of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of connections. At the limit, an idle one is closed for the next client.
    pub connections: usize,
    /// Maximum number of connections per IPv4 address or IPv6 /64. Trusted proxies have no such
    /// limit.
    pub connections_per_address: usize,
    /// Maximum time for a client to send the head of a request, and for a connection to stay idle.
    pub head_time: Duration,
    /// Memory in bytes for the request bodies of all unauthenticated clients together.
    pub body_bytes: usize,
    /// Minimum rate of a request body in bytes per second, after [`BODY_GRACE`].
    pub body_rate: u64,
    /// Maximum number of logins waiting for their password to be checked.
    pub waiting_logins: usize,
    /// Maximum number of concurrent simulations.
    pub simulations: usize,
    /// Maximum number of machines discovered per minute; 0 for no limit.
    pub new_machines_per_minute: u32,
    /// Maximum number of unassigned machines. The one not seen for the longest time is deleted
    /// first. 0 for no limit.
    pub unassigned_machines: u32,
    /// Maximum size of an unassigned machine's hardware description in bytes.
    pub unassigned_bytes: usize,
    /// Age in days at which events are deleted; 0 for never.
    pub event_days: u32,
    /// Maximum number of events; the oldest are deleted. 0 for no limit.
    pub events: u32,
}

/// Time after the start of a request body during which it may be slower than [`Limits::body_rate`].
pub const BODY_GRACE: Duration = Duration::from_secs(10);

impl Limits {
    /// Reads the section. Adds invalid values to the problems.
    pub(super) fn read(values: &mut Values) -> Option<Self> {
        let connections = number(values, "limits.connections");
        let connections_per_address = number(values, "limits.connections_per_address");
        let head_s: Option<NonZero<u32>> =
            values.parse("limits.head_s", "a number of seconds, at least 1");
        let body_bytes = bytes(values, "limits.body_bytes");
        let body_rate = bytes(values, "limits.body_rate");
        let waiting_logins = number(values, "limits.waiting_logins");
        let simulations = number(values, "limits.simulations");
        let new_machines_per_minute = values.parse("limits.new_machines_per_minute", ANY_NUMBER);
        let unassigned_machines = values.parse("limits.unassigned_machines", ANY_NUMBER);
        let unassigned_bytes = bytes(values, "limits.unassigned_bytes");
        let event_days = values.parse("limits.event_days", ANY_NUMBER);
        let events = values.parse("limits.events", ANY_NUMBER);
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

/// Limits how often something may happen per minute.
pub struct PerMinute {
    max: u32,
    minute: Mutex<(Instant, u32)>,
}

impl PerMinute {
    /// Allows at most `max` per minute; 0 for no limit.
    #[must_use]
    pub fn new(max: u32) -> Self {
        Self { max, minute: Mutex::new((Instant::now(), 0)) }
    }

    /// Counts one occurrence, and returns whether it is within the limit.
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

fn number(values: &mut Values, key: &'static str) -> Option<usize> {
    values
        .parse::<NonZero<u32>>(key, "a number of at least 1")
        .and_then(|number| usize::try_from(number.get()).ok())
}

fn bytes(values: &mut Values, key: &'static str) -> Option<u64> {
    let bytes = values.parse_size(key, "a size such as 16M")?;
    if bytes == 0 {
        values.invalid(key, "a size such as 16M");
    }
    (bytes > 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_minute_admits_the_maximum() {
        let (limit, begun) = (PerMinute::new(2), Instant::now());
        let later = begun + Duration::from_secs(61);
        let admitted =
            [begun, begun, begun, begun, later, later, later].map(|at| limit.admit_at(at));
        assert_eq!(admitted, [true, true, false, false, true, true, false]);
        assert!((0..100).all(|_| PerMinute::new(0).admit()));
    }
}
