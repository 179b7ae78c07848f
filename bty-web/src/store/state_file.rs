//! A file with a state that no server uses, such as a backup.

use std::path::Path;

use rusqlite::Connection;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::time::Time;
use crate::store::schema;

/// What a state file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateFile {
    /// Number of machines.
    pub machines: u64,
    /// When its newest event was recorded; `None` if it has none.
    pub newest_event_at: Option<Time>,
}

impl StateFile {
    /// Checks the state at `path`, and moves what is in its write-ahead log into it, so that the
    /// file is complete on its own. The caller must be its only user.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when the file is not a state of bty, is damaged, or has the schema of
    /// a later version.
    pub fn settle(path: &Path) -> Result<Self> {
        let damaged = |why: &dyn std::fmt::Display| {
            let path = path.display();
            Error::new(
                ErrorKind::Conflict,
                format!("{path} is damaged ({why}); use another backup"),
            )
        };
        let conn = Connection::open(path).map_err(|e| damaged(&e))?;
        schema::check_known(&conn, path)?;
        let found: String = conn
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|e| damaged(&e))?;
        if found != "ok" {
            return Err(damaged(&found));
        }
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(|e| damaged(&e))?;
        let machines: i64 = conn
            .query_row("SELECT count(*) FROM machines", [], |row| row.get(0))
            .map_err(|e| damaged(&e))?;
        let newest_event_at = conn
            .query_row("SELECT max(ifnull(last_ts, ts)) FROM events", [], |row| row.get(0))
            .map_err(|e| damaged(&e))?;
        Ok(Self { machines: machines.unsigned_abs(), newest_event_at })
    }
}
