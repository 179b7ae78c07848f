//! The table of the positions of webhooks in the log of events.

use rusqlite::{OptionalExtension as _, params};

use super::connection::Connection;
use crate::domain::error::Result;
use crate::domain::time::Time;

/// The position of a webhook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WebhookPosition {
    /// Number of an event. That event and all earlier ones need not be sent.
    pub last_id: i64,
    /// When an event was last delivered.
    pub delivered_at: Option<Time>,
}

/// Returns the positions of the webhooks `names`. A new webhook begins after the newest event.
/// Forgets webhooks that the configuration has no longer.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn begin(conn: &Connection, names: &[String]) -> Result<Vec<WebhookPosition>> {
    let kept = serde_json::to_string(names)?;
    let forget = "DELETE FROM webhooks WHERE name NOT IN (SELECT value FROM json_each(?1))";
    conn.sql.execute(forget, [kept])?;
    let newest = super::events::newest(conn)?;
    let mut select =
        conn.sql.prepare_cached("SELECT last_id, delivered_at FROM webhooks WHERE name = ?1")?;
    let mut insert = conn.sql.prepare_cached("INSERT INTO webhooks VALUES (?1, ?2, NULL)")?;
    let mut positions = Vec::new();
    for name in names {
        let position = |row: &rusqlite::Row<'_>| {
            Ok(WebhookPosition { last_id: row.get(0)?, delivered_at: row.get(1)? })
        };
        positions.push(match select.query_row([name], position).optional()? {
            Some(position) => position,
            None => {
                insert.execute(params![name, newest])?;
                WebhookPosition { last_id: newest, delivered_at: None }
            }
        });
    }
    Ok(positions)
}

/// Stores the position of a webhook.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn put(conn: &Connection, name: &str, position: WebhookPosition) -> Result<()> {
    let sql = "UPDATE webhooks SET last_id = ?2, delivered_at = ?3 WHERE name = ?1";
    let mut update = conn.sql.prepare_cached(sql)?;
    update.execute(params![name, position.last_id, position.delivered_at])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::NewEvent;
    use crate::store::database::Database;

    #[test]
    fn a_new_webhook_begins_after_the_newest_event_and_a_removed_one_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("state.db"), ()).unwrap();
        let record = || {
            let event = NewEvent::new("machine.flashed", "02:00:00:00:00:01", "flashed");
            db.write_blocking(move |t| t.record(&event)).unwrap()
        };
        let begin = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            db.write_blocking(move |t| begin(t, &names)).unwrap()
        };
        let at = |last_id, delivered_at| WebhookPosition { last_id, delivered_at };
        let first = record();
        assert_eq!(begin(&["a"]), [at(first, None)]);
        let second = record();
        assert_eq!(begin(&["b", "a"]), [at(second, None), at(first, None)]);
        db.write_blocking(move |t| put(t, "a", at(second, Some(Time(5))))).unwrap();
        assert_eq!(begin(&["a"]), [at(second, Some(Time(5)))]);
        let third = record();
        assert_eq!(begin(&["b"]), [at(third, None)], "it was forgotten, and is new again");
    }
}
