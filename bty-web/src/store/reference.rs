//! Reads a `state.db` of the reference.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Row};
use serde_json::Value;

use crate::domain::error::{Error, Result};

/// All rows of a reference database, read before anything is changed. Each row is a JSON object
/// keyed by column names; columns that a version of the reference lacks are missing.
pub struct ReferenceState {
    /// Rows of `machines`.
    pub machines: Vec<Value>,
    /// MAC addresses as spelled in the database, each with a label.
    pub labels: Vec<(String, String)>,
    /// Rows of `catalog_entries`.
    pub catalog: Vec<Value>,
    /// Keys and values.
    pub settings: Vec<(String, String)>,
    /// Rows of `events`.
    pub events: Vec<Value>,
}

/// Reads the database at `path`.
///
/// # Errors
/// - [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) for any other database, such
///   as a state of bty.
/// - [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) for a file that cannot be
///   read.
pub fn read(path: &Path) -> Result<ReferenceState> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let has = |table: &str| {
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1)";
        conn.query_row(sql, [table], |row| row.get::<_, bool>(0))
    };
    if !has("machines")? || !has("bty_version")? {
        let own = "; to restore a copy of bty's own state, stop the server and replace its \
                   state.db with the copy";
        return Err(Error::invalid(format!(
            "{} is not a state.db of the reference server{own}",
            path.display()
        )));
    }
    let pairs = |table: &str, a: &str, b: &str| -> Result<Vec<(String, String)>> {
        let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        Ok(rows(&conn, table)?.iter().map(|row| (text(row, a), text(row, b))).collect())
    };
    Ok(ReferenceState {
        machines: rows(&conn, "machines")?,
        labels: if has("machine_labels")? {
            pairs("machine_labels", "mac", "label")?
        } else {
            Vec::new()
        },
        catalog: if has("catalog_entries")? { rows(&conn, "catalog_entries")? } else { Vec::new() },
        settings: if has("settings")? { pairs("settings", "key", "value")? } else { Vec::new() },
        events: if has("events")? { rows(&conn, "events")? } else { Vec::new() },
    })
}

fn rows(conn: &Connection, table: &str) -> Result<Vec<Value>> {
    let mut select = conn.prepare(&format!("SELECT * FROM {table} ORDER BY rowid"))?;
    let names: Vec<String> = select.column_names().into_iter().map(str::to_owned).collect();
    let map = |row: &Row<'_>| {
        let mut map = serde_json::Map::new();
        for (i, name) in names.iter().enumerate() {
            let value = match row.get_ref(i)? {
                rusqlite::types::ValueRef::Null => Value::Null,
                rusqlite::types::ValueRef::Integer(number) => number.into(),
                rusqlite::types::ValueRef::Real(number) => number.into(),
                rusqlite::types::ValueRef::Text(text) | rusqlite::types::ValueRef::Blob(text) => {
                    String::from_utf8_lossy(text).into_owned().into()
                }
            };
            map.insert(name.clone(), value);
        }
        Ok(Value::Object(map))
    };
    let rows = select.query_map([], map)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
