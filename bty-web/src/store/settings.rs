//! The table of settings changed by operators.

use super::connection::Connection;
use crate::domain::error::Result;
use crate::domain::settings::Settings;
use crate::domain::time::Time;

/// Returns all settings.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn all(conn: &Connection) -> Result<Settings> {
    let mut select = conn.sql.prepare_cached("SELECT key, value FROM settings")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Sets a value, which the caller has [checked](crate::domain::settings::check).
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn put(conn: &Connection, key: &str, value: &str, now: Time) -> Result<()> {
    let sql = "INSERT INTO settings VALUES (?1, ?2, ?3) \
               ON CONFLICT (key) DO UPDATE SET value = ?2, updated_at = ?3";
    conn.sql.execute(sql, (key, value, now))?;
    Ok(())
}
