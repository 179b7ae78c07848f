//! The table of events. [`Transaction::record`](super::Transaction::record) adds to it.

use bty::redact;
use rusqlite::types::Value as Sql;
use rusqlite::{Row, params, params_from_iter};

use super::connection::Connection;
use crate::domain::error::Result;
use crate::domain::event::{Event, NewEvent, REPEATABLE, without_passwords};
use crate::domain::time::Time;

/// Selects events. A field that is `None` matches all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// This kind.
    pub kind: Option<String>,
    /// This kind of subject.
    pub subject_kind: Option<String>,
    /// This subject.
    pub subject_id: Option<String>,
    /// This actor.
    pub actor: Option<String>,
    /// The actor with this name; ignores case.
    pub actor_name: Option<String>,
    /// This client address.
    pub source_ip: Option<String>,
    /// Only failures if true, only other events if false.
    pub failed: Option<bool>,
    /// Only acknowledged events if true, only others if false.
    pub acknowledged: Option<bool>,
    /// Only events older than the one with this number.
    pub before_id: Option<i64>,
    /// Only events newer than the one with this number.
    pub after_id: Option<i64>,
    /// Text anywhere in kind, subject, actor with its name, address or summary; ignores case.
    pub text: Option<String>,
}

/// Maximum number of events in a list.
pub const LIMIT_MAX: u32 = 500;

const COLUMNS: &str = "id, ts, kind, subject_kind, subject_id, actor, source_ip, summary, \
                       details_json, acknowledged, count, ifnull(last_ts, ts), actor_name";

/// Returns the newest `limit` events that match `filter`, newest first.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn list(conn: &Connection, filter: &Filter, limit: u32) -> Result<Vec<Event>> {
    select(conn, filter, "DESC", limit.clamp(1, LIMIT_MAX))
}

/// Maximum number of events in a part of an export.
pub const EXPORT_MAX: u32 = 5_000;

/// Returns the oldest `limit` events that match `filter`, oldest first.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn export(conn: &Connection, filter: &Filter, limit: u32) -> Result<Vec<Event>> {
    select(conn, filter, "ASC", limit.clamp(1, EXPORT_MAX))
}

fn select(conn: &Connection, filter: &Filter, order: &str, limit: u32) -> Result<Vec<Event>> {
    let (condition, mut values) = condition(filter);
    values.push(Sql::Integer(limit.into()));
    let sql = format!("SELECT {COLUMNS} FROM events {condition} ORDER BY id {order} LIMIT ?");
    let mut select = conn.sql.prepare_cached(&sql)?;
    let rows = select.query_map(params_from_iter(values), |row| Ok(from_row(row)))?;
    rows.map(|row| row?).collect()
}

/// Returns the number of the last event before `time`; zero if there is none. It is found by
/// bisection, because numbers and times grow together, except where the clock was set back.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn last_before(conn: &Connection, time: Time) -> Result<i64> {
    let oldest = "SELECT min(id) FROM events";
    let oldest: Option<i64> = conn.sql.query_row(oldest, [], |row| row.get(0))?;
    let Some(oldest) = oldest else { return Ok(0) };
    let (mut before, mut after) = (oldest - 1, newest(conn)? + 1);
    let mut select =
        conn.sql.prepare_cached("SELECT ts FROM events WHERE id >= ?1 ORDER BY id LIMIT 1")?;
    // the event `before` is earlier than `time`, the event `after` is not
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        let at: Time = select.query_row([middle], |row| row.get(0))?;
        if at < time {
            before = middle;
        } else {
            after = middle;
        }
    }
    Ok(before)
}

/// Maximum number of events that [`following`] reads.
pub const FOLLOWING_MAX: i64 = 256;

/// Reads up to [`FOLLOWING_MAX`] events after the one with the number `last_id`. Returns those
/// whose kind `is_wanted`, oldest first, and the number of the last one that it has read.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn following(
    conn: &Connection,
    last_id: i64,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<(Vec<Event>, i64)> {
    let sql = format!("SELECT {COLUMNS} FROM events WHERE id > ?1 ORDER BY id LIMIT ?2");
    let mut select = conn.sql.prepare_cached(&sql)?;
    let mut rows = select.query([last_id, FOLLOWING_MAX])?;
    let (mut events, mut read_to) = (Vec::new(), last_id);
    while let Some(row) = rows.next()? {
        read_to = row.get(0)?;
        if is_wanted(EventRow(row).text(2)) {
            events.push(from_row(row)?);
        }
    }
    Ok((events, read_to))
}

/// Maximum number of [repeatable](REPEATABLE) events of one subject within [`REPEATED_WITHIN_MS`];
/// further ones are only counted.
const REPEATED_MAX: u32 = 16;
const REPEATED_WITHIN_MS: i64 = 60 * 60 * 1000;

/// Counts `event` in an earlier one if its subject already has `REPEATED_MAX` of them. Returns the
/// number of that earlier event; `None` if `event` must be written.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn repeat(conn: &Connection, event: &NewEvent, now: Time) -> Result<Option<i64>> {
    if !REPEATABLE.contains(&event.kind) {
        return Ok(None);
    }
    let mut select = conn.sql.prepare_cached(
        "SELECT id, kind, ifnull(last_ts, ts) FROM events \
         WHERE subject_kind = ?1 AND subject_id = ?2 ORDER BY id DESC LIMIT ?3",
    )?;
    let rows = select
        .query_map(params![event.subject_kind, event.subject_id, REPEATED_MAX], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, Time>(2)?))
        })?;
    let (mut recent, mut same) = (0, None);
    for row in rows {
        let (id, kind, at) = row?;
        if !REPEATABLE.contains(&kind.as_str()) || now.ms_since(at) > REPEATED_WITHIN_MS {
            return Ok(None);
        }
        recent += 1;
        same = same.or((kind == event.kind).then_some(id));
    }
    let Some(id) = same.filter(|_| recent == REPEATED_MAX) else { return Ok(None) };
    // a repeated failure must be acknowledged again
    let mut update = conn.sql.prepare_cached(
        "UPDATE events SET count = count + 1, last_ts = ?2, source_ip = ?3, summary = ?4,
                details_json = ?5, actor_name = ?6, acknowledged = acknowledged AND kind NOT LIKE '%failed'
         WHERE id = ?1",
    )?;
    let details = event.details.to_string();
    let values = params![id, now, event.source_ip, event.summary, details, event.actor_name];
    update.execute(values)?;
    Ok(Some(id))
}

/// Maximum number of events deleted per transaction, so that other changes do not wait long.
const PRUNED_MAX: u32 = 5_000;

/// Deletes events whose last occurrence was before `before`, and all but the newest `keep`. Returns
/// how many it deleted, at most `PRUNED_MAX` for each of the two conditions.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn prune(conn: &Connection, before: Option<Time>, keep: Option<u32>) -> Result<usize> {
    let mut deleted = 0;
    if let Some(before) = before {
        let sql = "DELETE FROM events WHERE id IN
                       (SELECT id FROM events WHERE ifnull(last_ts, ts) < ?1 ORDER BY id LIMIT ?2)";
        deleted += conn.sql.execute(sql, params![before, PRUNED_MAX])?;
    }
    if let Some(keep) = keep {
        let sql = "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE id <=
                       (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?1)
                   ORDER BY id LIMIT ?2)";
        deleted += conn.sql.execute(sql, params![keep, PRUNED_MAX])?;
    }
    Ok(deleted)
}

fn condition(filter: &Filter) -> (String, Vec<Sql>) {
    let mut terms: Vec<String> = Vec::new();
    let mut values = Vec::new();
    let exact = [
        ("kind", &filter.kind),
        ("subject_kind", &filter.subject_kind),
        ("subject_id", &filter.subject_id),
        ("actor", &filter.actor),
        ("source_ip", &filter.source_ip),
    ];
    for (column, value) in exact {
        if let Some(value) = value {
            terms.push(format!("{column} = ?"));
            values.push(Sql::Text(value.clone()));
        }
    }
    if let Some(name) = &filter.actor_name {
        terms.push("actor_name = ? COLLATE NOCASE".into());
        values.push(Sql::Text(name.clone()));
    }
    match filter.failed {
        Some(true) => terms.push("kind LIKE '%failed'".into()),
        Some(false) => terms.push("kind NOT LIKE '%failed'".into()),
        None => {}
    }
    if let Some(is) = filter.acknowledged {
        terms.push(format!("acknowledged = {}", i32::from(is)));
    }
    if let Some(before) = filter.before_id {
        terms.push("id < ?".into());
        values.push(Sql::Integer(before));
    }
    if let Some(after) = filter.after_id {
        terms.push("id > ?".into());
        values.push(Sql::Integer(after));
    }
    if let Some(text) = filter.text.as_deref().filter(|text| !text.is_empty()) {
        let columns = [
            "kind",
            "subject_kind",
            "subject_id",
            "actor",
            "ifnull(actor_name, '')",
            "ifnull(source_ip, '')",
            "summary",
        ];
        let terms_of_text: Vec<String> =
            columns.iter().map(|c| format!("{c} LIKE ? ESCAPE '\\'")).collect();
        terms.push(format!("({})", terms_of_text.join(" OR ")));
        values.extend(columns.map(|_| Sql::Text(anywhere(text))));
    }
    let condition =
        if terms.is_empty() { String::new() } else { format!("WHERE {}", terms.join(" AND ")) };
    (condition, values)
}

/// Writes an event of another server unchanged, but with a new number. Notifies no subscribers.
///
/// # Errors
/// [`ErrorKind::Full`](crate::domain::error::ErrorKind::Full) when the disk has no space.
pub fn put_imported(conn: &Connection, event: &Event) -> Result<()> {
    conn.sql.execute(
        "INSERT INTO events (ts, kind, subject_kind, subject_id, actor, source_ip, summary,
         details_json, acknowledged)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            event.ts,
            event.kind,
            event.subject_kind,
            event.subject_id,
            event.actor,
            event.source_ip,
            event.summary,
            event.details.to_string(),
            event.acknowledged,
        ],
    )?;
    Ok(())
}

/// Sets whether an event is acknowledged. Returns false if there is no such event.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn acknowledge(conn: &Connection, id: i64, acknowledged: bool) -> Result<bool> {
    Ok(conn.sql.execute("UPDATE events SET acknowledged = ?2 WHERE id = ?1", (id, acknowledged))?
        > 0)
}

/// Sets whether events are acknowledged. Returns how many changed.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn acknowledge_all(conn: &Connection, ids: &[i64], acknowledged: bool) -> Result<usize> {
    let mut update = conn.sql.prepare_cached(
        "UPDATE events SET acknowledged = ?2 WHERE id = ?1 AND acknowledged <> ?2",
    )?;
    ids.iter().try_fold(0, |n, id| Ok(n + update.execute((id, acknowledged))?))
}

/// Returns the numbers of the unacknowledged failures of a machine.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn failures_of(conn: &Connection, mac: &str) -> Result<Vec<i64>> {
    let sql = "SELECT id FROM events WHERE subject_kind = 'machine' AND subject_id = ?1 \
               AND acknowledged = 0 AND kind LIKE '%failed'";
    let mut select = conn.sql.prepare_cached(sql)?;
    let ids = select.query_map([mac], |row| row.get(0))?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}

/// Acknowledges all failures. Returns the numbers of those that were not yet acknowledged.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn acknowledge_failures(conn: &Connection) -> Result<Vec<i64>> {
    let sql = "SELECT id FROM events WHERE acknowledged = 0 AND kind LIKE '%failed'";
    let ids = conn
        .sql
        .prepare_cached(sql)?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    acknowledge_all(conn, &ids, true)?;
    Ok(ids)
}

/// True if the log contains an event of this kind.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn has_kind(conn: &Connection, kind: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM events WHERE kind = ?1)";
    Ok(conn.sql.prepare_cached(sql)?.query_row([kind], |row| row.get(0))?)
}

/// The result of a search.
pub struct Found {
    /// Events, newest first.
    pub events: Vec<Event>,
    /// Where the next search continues; `None` if the whole log was searched.
    pub next: Option<i64>,
    /// Time of the oldest event that was searched.
    pub searched_to: Option<Time>,
}

/// Maximum number of events that one search reads.
pub const SEARCH_MAX: usize = 40_000;

/// Returns up to `limit` of the newest events that match both `filter` and `is_match`. A search
/// reads at most [`SEARCH_MAX`] events, and returns where the next one continues.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn search(
    conn: &Connection,
    filter: &Filter,
    limit: usize,
    is_match: impl Fn(&EventRow<'_>) -> bool,
) -> Result<Found> {
    let (condition, mut values) = condition(filter);
    values.push(Sql::Integer(i64::try_from(SEARCH_MAX).unwrap_or(i64::MAX)));
    let sql = format!("SELECT {COLUMNS} FROM events {condition} ORDER BY id DESC LIMIT ?");
    let mut select = conn.sql.prepare_cached(&sql)?;
    let mut rows = select.query(params_from_iter(values))?;
    let mut found = Found { events: Vec::new(), next: None, searched_to: None };
    let mut looked = 0;
    while let Some(row) = rows.next()? {
        looked += 1;
        if is_match(&EventRow(row)) {
            found.events.push(from_row(row)?);
        }
        if found.events.len() == limit || looked == SEARCH_MAX {
            found.next = Some(row.get(0)?);
            found.searched_to = Some(row.get(1)?);
            break;
        }
    }
    Ok(found)
}

/// A row of the table, of which columns can be checked before the whole event is read.
pub struct EventRow<'a>(&'a Row<'a>);

impl EventRow<'_> {
    /// True for a failure.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.text(2).ends_with("failed")
    }

    /// True if an operator has acknowledged the event.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        self.0.get(9).unwrap_or_default()
    }

    /// True if `actor` or a user or token with that name caused the event.
    #[must_use]
    pub fn is_by(&self, actor: &str) -> bool {
        self.text(5) == actor || self.text(12).eq_ignore_ascii_case(actor)
    }

    /// True if a client with this address caused the event.
    #[must_use]
    pub fn is_from(&self, ip: &str) -> bool {
        self.text(6) == ip
    }

    fn text(&self, column: usize) -> &str {
        self.0.get_ref(column).ok().and_then(|value| value.as_str().ok()).unwrap_or_default()
    }

    /// True if `needle`, in lower case, occurs in kind, subject, actor, its name, address or summary.
    #[must_use]
    pub fn contains(&self, needle: &str) -> bool {
        (2..=7).chain([12]).any(|column| has(self.text(column), needle))
    }
}

fn has(text: &str, needle: &str) -> bool {
    match text.is_ascii() {
        true => text
            .as_bytes()
            .windows(needle.len().max(1))
            .any(|part| part.eq_ignore_ascii_case(needle.as_bytes())),
        false => text.to_lowercase().contains(needle),
    }
}

/// Returns the number of the newest event; zero if there is none.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn newest(conn: &Connection) -> Result<i64> {
    let sql = "SELECT ifnull(max(id), 0) FROM events";
    Ok(conn.sql.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Returns the number of unacknowledged failures.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn tripwire(conn: &Connection) -> Result<i64> {
    let sql = "SELECT count(*) FROM events WHERE acknowledged = 0 AND kind LIKE '%failed'";
    Ok(conn.sql.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Reads a row. Redacts passwords in URLs, which earlier versions stored.
fn from_row(row: &Row<'_>) -> Result<Event> {
    let details: String = row.get(8)?;
    let (subject_id, summary): (String, String) = (row.get(4)?, row.get(7)?);
    Ok(Event {
        id: row.get(0)?,
        ts: row.get(1)?,
        kind: row.get(2)?,
        subject_kind: row.get(3)?,
        subject_id: redact::address(&subject_id).into_owned(),
        actor: row.get(5)?,
        source_ip: row.get(6)?,
        summary: redact::text(&summary).into_owned(),
        details: without_passwords(serde_json::from_str(&details)?),
        acknowledged: row.get(9)?,
        count: row.get(10)?,
        last_ts: row.get(11)?,
        actor_name: row.get(12)?,
    })
}

/// Returns a pattern for `LIKE … ESCAPE '\'` that matches `text` anywhere in a column.
fn anywhere(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::database::Database;

    fn open() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("state.db"), ()).unwrap();
        (dir, db)
    }

    fn record(db: &Database, kind: &'static str, summary: &str) {
        let event = NewEvent::new(kind, "02:00:00:00:00:01", summary);
        db.write_blocking(move |transaction| transaction.record(&event)).unwrap();
    }

    fn all(db: &Database) -> Vec<(String, i64, String)> {
        let events = db.read_blocking(|conn| list(conn, &Filter::default(), LIMIT_MAX)).unwrap();
        events.into_iter().map(|event| (event.kind, event.count, event.summary)).collect()
    }

    #[test]
    fn repeated_events_are_counted_and_hide_no_others() {
        let (_dir, db) = open();
        record(&db, "machine.flashed", "before");
        for n in 0..500 {
            record(
                &db,
                if n % 2 == 0 { "netboot.pxe.offered" } else { "machine.inventory" },
                &format!("no. {n}"),
            );
        }
        let events = all(&db);
        assert_eq!(events.len(), 17, "{events:?}");
        assert_eq!(events.iter().map(|event| event.1).sum::<i64>(), 501);
        assert!(
            events.iter().any(|event| event.2 == "no. 499"),
            "the event has the last summary: {events:?}"
        );
        // kinds that are not repeatable are always written as separate events, and so is the next
        // event
        record(&db, "machine.flashed", "after");
        record(&db, "netboot.pxe.offered", "again");
        assert_eq!(all(&db).len(), 19);
    }

    #[test]
    fn a_repeated_failure_must_be_acknowledged_again() {
        let (_dir, db) = open();
        for n in 0..20 {
            record(&db, "plan.failed", &format!("no. {n}"));
        }
        db.write_blocking(|conn| acknowledge_failures(conn)).unwrap();
        record(&db, "plan.failed", "once more");
        assert_eq!(db.read_blocking(tripwire).unwrap(), 1);
    }

    #[test]
    fn the_events_after_a_number_and_after_a_time_are_found() {
        let (_dir, db) = open();
        for n in 0..40 {
            let kind = if n % 2 == 0 { "machine.flashed" } else { "plan.saved" };
            record(&db, kind, &format!("no. {n}"));
        }
        let set_times = "UPDATE events SET ts = id * 10";
        db.write_blocking(move |t| Ok(t.sql.execute(set_times, [])?)).unwrap();
        db.write_blocking(|t| prune(t, None, Some(30))).unwrap();
        let following =
            |id| db.read_blocking(|conn| following(conn, id, |k| k == "plan.saved")).unwrap();
        let (events, read_to) = following(37);
        assert_eq!(events.iter().map(|event| event.id).collect::<Vec<_>>(), [38, 40]);
        assert_eq!((read_to, following(40)), (40, (Vec::new(), 40)));
        let last_before = |ms| db.read_blocking(|conn| last_before(conn, Time(ms))).unwrap();
        // the oldest event has the number 11
        let found = [0, 110, 111, 200, 205, 400, 401].map(last_before);
        assert_eq!(found, [10, 10, 11, 19, 20, 39, 40]);
        let filter =
            Filter { after_id: Some(20), kind: Some("plan.saved".into()), ..Filter::default() };
        let exported = db.read_blocking(|conn| export(conn, &filter, 2)).unwrap();
        assert_eq!(exported.iter().map(|event| event.id).collect::<Vec<_>>(), [22, 24]);
        db.write_blocking(|t| prune(t, Some(Time(i64::MAX)), None)).unwrap();
        assert_eq!(last_before(5), 0, "an empty log");
    }

    #[test]
    fn old_and_surplus_events_are_deleted_the_oldest_first() {
        let (_dir, db) = open();
        for n in 0..10 {
            record(&db, "machine.flashed", &format!("no. {n}"));
        }
        assert_eq!(db.write_blocking(|conn| prune(conn, None, Some(4))).unwrap(), 6);
        assert_eq!(db.write_blocking(|conn| prune(conn, None, Some(4))).unwrap(), 0);
        assert_eq!(all(&db).last().unwrap().2, "no. 6");
        assert_eq!(
            db.write_blocking(|conn| prune(conn, Some(Time(Time::now().0 + 1000)), None)).unwrap(),
            4
        );
        assert!(all(&db).is_empty());
    }
}
