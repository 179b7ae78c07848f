//! The table of named users. The admin is not in it.

use rusqlite::{OptionalExtension, Row, params};

use super::connection::Connection;
use crate::domain::error::{Error, Result};
use crate::domain::time::Time;
use crate::domain::user::User;

/// A user with the hash of the password.
#[derive(Clone, Debug)]
pub struct StoredUser {
    /// Name and role.
    pub user: User,
    /// Argon2 hash; `None` for a user whom only a proxy can log in.
    pub password_hash: Option<String>,
    /// When it was added.
    pub created_at: Time,
}

const COLUMNS: &str = "name, role, password_hash, created_at";

/// Inserts a user. Returns false if there is one with this name.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn put_new(conn: &Connection, new: &StoredUser) -> Result<bool> {
    let sql = "INSERT INTO users (name, role, password_hash, created_at) \
               VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
    let values = params![new.user.name, new.user.role.as_str(), new.password_hash, new.created_at];
    Ok(conn.sql.execute(sql, values)? > 0)
}

/// Returns the user with this name, ignoring case.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn get(conn: &Connection, name: &str) -> Result<Option<StoredUser>> {
    let sql = format!("SELECT {COLUMNS} FROM users WHERE name = ?1");
    let mut select = conn.sql.prepare_cached(&sql)?;
    select.query_row([name], |row| Ok(from_row(row))).optional()?.transpose()
}

/// Returns all users, sorted by name.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn all(conn: &Connection) -> Result<Vec<StoredUser>> {
    let mut select =
        conn.sql.prepare_cached(&format!("SELECT {COLUMNS} FROM users ORDER BY name"))?;
    let rows = select.query_map([], |row| Ok(from_row(row)))?;
    rows.map(|row| row?).collect()
}

/// Deletes a user with all sessions. Returns false if there is none.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn delete(conn: &Connection, name: &str) -> Result<bool> {
    Ok(conn.sql.execute("DELETE FROM users WHERE name = ?1", [name])? > 0)
}

/// Sets the role of a user, also for open sessions. Returns false if there is no such user.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn set_role(conn: &Connection, user: &User) -> Result<bool> {
    let sql = "UPDATE users SET role = ?2 WHERE name = ?1";
    Ok(conn.sql.execute(sql, params![user.name, user.role.as_str()])? > 0)
}

/// Sets the hash of a password and ends all sessions of the user. Returns false if there is no such
/// user.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn set_password(conn: &Connection, name: &str, password_hash: &str) -> Result<bool> {
    conn.sql.execute("DELETE FROM sessions WHERE user = ?1 COLLATE NOCASE", [name])?;
    let sql = "UPDATE users SET password_hash = ?2 WHERE name = ?1";
    Ok(conn.sql.execute(sql, [name, password_hash])? > 0)
}

fn from_row(row: &Row<'_>) -> Result<StoredUser> {
    Ok(StoredUser {
        user: user(row.get(0)?, &row.get::<_, String>(1)?)?,
        password_hash: row.get(2)?,
        created_at: row.get(3)?,
    })
}

/// Reads a user from its columns.
pub(super) fn user(name: String, role: &str) -> Result<User> {
    Ok(User { name, role: role.parse().map_err(Error::internal)? })
}
