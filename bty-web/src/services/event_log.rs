//! The audit log: lists, searches, acknowledgements.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::limits::Limits;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Event, KINDS, NewEvent};
use crate::domain::mac::Mac;
use crate::domain::time::Time;
use crate::services::metrics::Metrics;
use crate::services::shutdown::Shutdown;
use crate::store::Database;
use crate::store::events::{self, EventRow};

pub use crate::store::events::{EXPORT_MAX, Filter, Found, LIMIT_MAX};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Reads, writes and acknowledges events.
#[derive(Clone)]
pub struct EventLog {
    db: Database,
    metrics: Arc<Metrics>,
}

impl EventLog {
    pub(crate) fn new(db: Database, metrics: Arc<Metrics>) -> Self {
        Self { db, metrics }
    }

    /// Writes an event that belongs to no other change, and returns once it is durable.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] when there is no space on the disk.
    pub async fn record(&self, event: NewEvent) -> Result<()> {
        self.metrics.event(event.kind);
        self.db.write(move |transaction| transaction.record(&event).map(drop)).await
    }

    /// Returns the events that match `filter`, newest first, and the number of unacknowledged
    /// failures in the whole log.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails.
    pub async fn list(&self, filter: Filter, limit: u32) -> Result<(Vec<Event>, i64)> {
        let read =
            move |conn: &_| Ok((events::list(conn, &filter, limit)?, events::tripwire(conn)?));
        self.db.read(read).await
    }

    /// Returns the oldest `limit` events that match `filter`, oldest first; at most [`EXPORT_MAX`].
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails.
    pub async fn export(&self, filter: Filter, limit: u32) -> Result<Vec<Event>> {
        self.db.read(move |conn| events::export(conn, &filter, limit)).await
    }

    /// Returns the number of the last event before `since`, which is the number of an event or a
    /// time.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when `since` is neither.
    pub async fn position(&self, since: &str) -> Result<i64> {
        if let Ok(id) = since.parse() {
            return Ok(id);
        }
        let time = Time::parse(since).ok_or_else(|| {
            Error::invalid(
                "invalid query: since must be the number of an event, or a time such as \
                 2026-11-24T08:30:00Z",
            )
        })?;
        self.db.read(move |conn| events::last_before(conn, time)).await
    }

    /// Returns the number of unacknowledged failures, and the number of the newest event.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails.
    pub async fn failures_and_newest(&self) -> Result<(i64, i64)> {
        self.db.read(|conn| Ok((events::tripwire(conn)?, events::newest(conn)?))).await
    }

    /// Acknowledges an event.
    ///
    /// # Errors
    /// - [`ErrorKind::Malformed`] when `id` is not a number.
    /// - [`ErrorKind::NotFound`] when there is no such event.
    pub async fn acknowledge(&self, id: &str) -> Result<i64> {
        let id: i64 = id
            .parse()
            .map_err(|_| Error::new(ErrorKind::Malformed, "the id of an event must be a number"))?;
        self.db
            .write(move |transaction| match events::acknowledge(transaction, id, true)? {
                true => Ok(id),
                false => Err(Error::not_found(format!("the event {id}"))),
            })
            .await
    }

    /// Acknowledges the events with these numbers, or revokes their acknowledgement.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] or [`ErrorKind::Internal`] when the change cannot be written.
    pub async fn set_acknowledged(&self, ids: Vec<i64>, acknowledged: bool) -> Result<()> {
        self.db.write(move |t| events::acknowledge_all(t, &ids, acknowledged).map(drop)).await
    }

    /// Acknowledges all failures. Returns the numbers of those that were not yet acknowledged.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] or [`ErrorKind::Internal`] when the change cannot be written.
    pub async fn acknowledge_failures(&self) -> Result<Vec<i64>> {
        self.db.write(|t| events::acknowledge_failures(t)).await
    }

    /// Deletes events beyond `limits.event_days` and `limits.events`, every hour, until the server
    /// stops.
    pub async fn prune_hourly(self, limits: Limits, shutdown: Shutdown) {
        let days = Some(i64::from(limits.event_days)).filter(|&days| days > 0);
        let keep = Some(limits.events).filter(|&events| events > 0);
        if days.is_none() && keep.is_none() {
            return;
        }
        loop {
            let before = days.map(|days| Time::now().plus_ms(-days * DAY_MS));
            self.prune(before, keep).await;
            tokio::select! {
                () = shutdown.stopped() => return,
                () = tokio::time::sleep(Duration::from_secs(60 * 60)) => {}
            }
        }
    }

    /// Deletes the events older than `before`, and all but the newest `keep`. Logs a failure.
    async fn prune(&self, before: Option<Time>, keep: Option<u32>) {
        loop {
            match self.db.write(move |t| events::prune(t, before, keep)).await {
                Ok(0) => return,
                Ok(deleted) => {
                    tracing::info!(
                        deleted,
                        "deleted events beyond limits.event_days or limits.events"
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot delete old events");
                    return;
                }
            }
        }
    }

    /// Returns the events that match `query`, newest first: at most `limit`, and older than the
    /// event `before`. `failed`, `ack:no`, `ack:yes`, `actor:operator`, event kinds, MAC addresses
    /// and IP addresses are filters; all other words are searched for as text.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails.
    pub async fn search(&self, query: &str, before: Option<i64>, limit: usize) -> Result<Found> {
        let mut search = Search::parse(query);
        search.filter.before_id = before;
        let read = move |conn: &_| {
            events::search(conn, &search.filter, limit, |event| {
                search.conditions.iter().all(|condition| condition.holds(event))
            })
        };
        self.db.read(read).await
    }
}

/// A parsed query: a filter that the database evaluates with its indexes, and conditions that are
/// checked on each event that matches the filter.
#[derive(Debug, Default)]
struct Search {
    filter: Filter,
    conditions: Vec<Condition>,
}

#[derive(Debug, PartialEq, Eq)]
enum Condition {
    Failed,
    Acknowledged(bool),
    Actor(String),
    SourceIp(String),
    Text(String),
}

impl Condition {
    fn holds(&self, event: &EventRow<'_>) -> bool {
        match self {
            Self::Failed => event.has_failed(),
            Self::Acknowledged(is) => event.is_acknowledged() == *is,
            Self::Actor(actor) => event.is_by(actor),
            Self::SourceIp(ip) => event.is_from(ip),
            Self::Text(text) => event.contains(text),
        }
    }
}

const WORDS_MAX: usize = 16;

impl Search {
    fn parse(query: &str) -> Self {
        let mut search = Self::default();
        for word in query.split_whitespace().take(WORDS_MAX) {
            let lower = word.to_lowercase();
            let condition = match (lower.as_str(), lower.parse::<Mac>(), lower.parse::<IpAddr>()) {
                ("failed", ..) => Condition::Failed,
                ("ack:no", ..) => Condition::Acknowledged(false),
                ("ack:yes", ..) => Condition::Acknowledged(true),
                (kind, ..) if KINDS.contains(&kind) => {
                    search.filter.kind = Some(lower);
                    continue;
                }
                (_, Ok(mac), _) => {
                    search.filter.subject_kind = Some("machine".into());
                    search.filter.subject_id = Some(mac.to_string());
                    continue;
                }
                (_, _, Ok(ip)) => Condition::SourceIp(ip.to_string()),
                (text, ..) => match text.strip_prefix("actor:") {
                    Some(actor) => Condition::Actor(actor.to_owned()),
                    None => Condition::Text(lower),
                },
            };
            search.conditions.push(condition);
        }
        // the database has an index for unacknowledged failures
        if search.conditions.contains(&Condition::Failed)
            && search.conditions.contains(&Condition::Acknowledged(false))
        {
            (search.filter.failed, search.filter.acknowledged) = (Some(true), Some(false));
        }
        search
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_words_of_a_search_become_filters_and_conditions() {
        let search = Search::parse(
            "machine.flashed 52-54-00-AA-bb-01 10.0.0.7 failed ack:no actor:operator Debian x",
        );
        let filter = search.filter;
        assert_eq!(filter.kind.as_deref(), Some("machine.flashed"));
        assert_eq!(filter.subject_id.as_deref(), Some("52:54:00:aa:bb:01"));
        assert_eq!((filter.failed, filter.acknowledged), (Some(true), Some(false)));
        let conditions = [
            Condition::SourceIp("10.0.0.7".into()),
            Condition::Failed,
            Condition::Acknowledged(false),
            Condition::Actor("operator".into()),
            Condition::Text("debian".into()),
            Condition::Text("x".into()),
        ];
        assert_eq!(search.conditions, conditions);
    }
}
