//! The table of operators' plans, with their revisions.

use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

use super::connection::Connection;
use crate::domain::error::Result;
use crate::domain::plan::Plan;
use crate::domain::time::Time;

/// A revision in a list.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Revision {
    /// Its number, from 1.
    pub revision: i64,
    /// The note of the person who saved it.
    pub note: String,
    /// Name of the user or token that saved the revision.
    pub saved_by: String,
    /// When it was saved.
    #[schema(value_type = String, format = DateTime)]
    pub saved_at: Time,
}

const NEWEST: &str = "SELECT r.name, r.revision, r.source, r.declared_json, r.note, r.saved_at
                      FROM plans p
                      JOIN plan_revisions r ON r.name = p.name AND r.revision = p.revision
                      WHERE p.deleted_at IS NULL";

/// Returns the newest revision of every plan that is not deleted.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn all(conn: &Connection) -> Result<Vec<Plan>> {
    let mut select = conn.sql.prepare_cached(&format!("{NEWEST} ORDER BY r.name"))?;
    let rows = select.query_map([], |row| Ok(from_row(row)))?;
    rows.map(|row| row?).collect()
}

/// Returns one revision of a plan, even if the plan is deleted.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn revision(conn: &Connection, name: &str, revision: i64) -> Result<Option<Plan>> {
    let sql = "SELECT name, revision, source, declared_json, note, saved_at FROM plan_revisions
               WHERE name = ?1 AND revision = ?2";
    conn.sql.query_row(sql, (name, revision), |row| Ok(from_row(row))).optional()?.transpose()
}

/// Returns the revisions of a plan, newest first.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn revisions(conn: &Connection, name: &str) -> Result<Vec<Revision>> {
    let mut select = conn.sql.prepare_cached(
        "SELECT revision, note, saved_by, saved_at FROM plan_revisions WHERE name = ?1 \
         ORDER BY revision DESC",
    )?;
    let rows = select.query_map([name], |row| {
        Ok(Revision {
            revision: row.get(0)?,
            note: row.get(1)?,
            saved_by: row.get(2)?,
            saved_at: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns the number of the newest revision of `name`, and whether the plan is deleted.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn newest(conn: &Connection, name: &str) -> Result<Option<(i64, bool)>> {
    let sql = "SELECT revision, deleted_at IS NOT NULL FROM plans WHERE name = ?1";
    Ok(conn.sql.query_row(sql, [name], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// Saves `plan` under its revision number, which becomes the newest.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn put(conn: &Connection, plan: &Plan, saved_by: &str, now: Time) -> Result<()> {
    conn.sql.execute(
        "INSERT INTO plans VALUES (?1, ?2, NULL) \
         ON CONFLICT (name) DO UPDATE SET revision = ?2, deleted_at = NULL",
        (&plan.name, plan.revision),
    )?;
    conn.sql.execute(
        "INSERT INTO plan_revisions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            plan.name,
            plan.revision,
            plan.source,
            serde_json::to_string(&plan.declared)?,
            plan.note,
            saved_by,
            now
        ],
    )?;
    Ok(())
}

/// Deletes a plan, but keeps its revisions. Returns false if there is no such plan.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn delete(conn: &Connection, name: &str, now: Time) -> Result<bool> {
    Ok(conn.sql.execute(
        "UPDATE plans SET deleted_at = ?2 WHERE name = ?1 AND deleted_at IS NULL",
        (name, now),
    )? > 0)
}

fn from_row(row: &Row<'_>) -> Result<Plan> {
    let declared: String = row.get(3)?;
    Ok(Plan {
        name: row.get(0)?,
        revision: row.get(1)?,
        source: row.get(2)?,
        declared: serde_json::from_str(&declared)?,
        is_bundled: false,
        note: row.get(4)?,
        saved_at: row.get(5)?,
    })
}
