//! The tables of sessions and API tokens, which store only digests of the secrets.

use rusqlite::{OptionalExtension, params};
use serde::Serialize;

use super::connection::Connection;
use super::users;
use crate::domain::error::Result;
use crate::domain::time::Time;
use crate::domain::user::{ADMIN, User};

/// A browser session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Token that its forms must contain, against forged requests.
    pub csrf: String,
    /// When it expires.
    pub expires_at: Time,
    /// Who logged in.
    pub user: User,
}

/// Inserts a session and deletes expired ones.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn put_session(
    conn: &Connection,
    token_sha256: &str,
    session: &Session,
    now: Time,
    ip: Option<&str>,
) -> Result<()> {
    conn.sql.execute("DELETE FROM sessions WHERE expires_at < ?1", [now])?;
    let user = Some(&session.user.name).filter(|name| *name != ADMIN);
    let values = params![token_sha256, session.csrf, now, session.expires_at, ip, user];
    let sql = "INSERT INTO sessions (token_sha256, csrf, created_at, expires_at, source_ip, user) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    conn.sql.execute(sql, values)?;
    Ok(())
}

/// Returns the session with this token, if it has not expired.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn session(conn: &Connection, token_sha256: &str, now: Time) -> Result<Option<Session>> {
    let mut select = conn.sql.prepare_cached(
        "SELECT csrf, expires_at, user, role FROM sessions LEFT JOIN users ON name = user
         WHERE token_sha256 = ?1 AND expires_at > ?2",
    )?;
    let session = |row: &rusqlite::Row<'_>| {
        let user = match row.get::<_, Option<String>>(2)? {
            Some(name) => users::user(name, &row.get::<_, String>(3)?)?,
            None => User::admin(),
        };
        Ok(Session { csrf: row.get(0)?, expires_at: row.get(1)?, user })
    };
    select.query_row(params![token_sha256, now], |row| Ok(session(row))).optional()?.transpose()
}

/// A session in a list.
#[derive(Clone, Debug)]
pub struct OpenSession {
    /// Digest of its token.
    pub token_sha256: String,
    /// When it began.
    pub created_at: Time,
    /// When it expires, unless it is used before then.
    pub expires_at: Time,
    /// Address of the client that logged in.
    pub source_ip: Option<String>,
    /// Name of the user who logged in.
    pub user: String,
}

/// Returns the sessions that have not expired, newest first.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn sessions(conn: &Connection, now: Time) -> Result<Vec<OpenSession>> {
    let mut select = conn.sql.prepare_cached(
        "SELECT token_sha256, created_at, expires_at, source_ip, ifnull(user, ?2) FROM sessions \
         WHERE expires_at > ?1 ORDER BY created_at DESC",
    )?;
    let session = |row: &rusqlite::Row<'_>| {
        let (token_sha256, created_at) = (row.get(0)?, row.get(1)?);
        Ok(OpenSession {
            token_sha256,
            created_at,
            expires_at: row.get(2)?,
            source_ip: row.get(3)?,
            user: row.get(4)?,
        })
    };
    let rows = select.query_map(params![now, ADMIN], session)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Extends a session until `expires_at`.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn extend_session(conn: &Connection, token_sha256: &str, expires_at: Time) -> Result<()> {
    conn.sql.execute(
        "UPDATE sessions SET expires_at = ?2 WHERE token_sha256 = ?1",
        params![token_sha256, expires_at],
    )?;
    Ok(())
}

/// Ends a session, or all sessions if `token_sha256` is `None`. Returns how many ended.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn end_sessions(conn: &Connection, token_sha256: Option<&str>) -> Result<usize> {
    Ok(match token_sha256 {
        Some(token) => conn.sql.execute("DELETE FROM sessions WHERE token_sha256 = ?1", [token])?,
        None => conn.sql.execute("DELETE FROM sessions", [])?,
    })
}

/// An API token, without its secret.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ApiToken {
    /// Number that identifies the token in the API.
    pub id: i64,
    /// What it is for.
    pub name: String,
    /// Its permissions.
    pub scopes: Vec<String>,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When it expires; null for never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Time>,
    /// When it was last used, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Time>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Time>,
}

const COLUMNS: &str = "id, name, scopes, created_at, expires_at, last_used_at, revoked_at";

/// Inserts an API token. Returns its number.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn put_token(
    conn: &Connection,
    name: &str,
    token_sha256: &str,
    scopes: &[String],
    now: Time,
    expires_at: Option<Time>,
) -> Result<i64> {
    let sql = "INSERT INTO api_tokens (name, token_sha256, scopes, created_at, expires_at) \
               VALUES (?1, ?2, ?3, ?4, ?5)";
    conn.sql.execute(sql, params![name, token_sha256, scopes.join(" "), now, expires_at])?;
    Ok(conn.sql.last_insert_rowid())
}

/// Returns the API token with this digest, unless it is revoked or expired.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn token(conn: &Connection, token_sha256: &str, now: Time) -> Result<Option<ApiToken>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM api_tokens
         WHERE token_sha256 = ?1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?2)"
    );
    let mut select = conn.sql.prepare_cached(&sql)?;
    Ok(select.query_row(params![token_sha256, now], from_row).optional()?)
}

/// Returns all API tokens, newest first.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn tokens(conn: &Connection) -> Result<Vec<ApiToken>> {
    let mut select =
        conn.sql.prepare_cached(&format!("SELECT {COLUMNS} FROM api_tokens ORDER BY id DESC"))?;
    let rows = select.query_map([], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Records when a token was last used.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn use_token(conn: &Connection, id: i64, now: Time) -> Result<()> {
    conn.sql.execute("UPDATE api_tokens SET last_used_at = ?2 WHERE id = ?1", params![id, now])?;
    Ok(())
}

/// Revokes a token. Returns false if it does not exist or is already revoked.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn revoke_token(conn: &Connection, id: i64, now: Time) -> Result<bool> {
    let sql = "UPDATE api_tokens SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";
    Ok(conn.sql.execute(sql, params![id, now])? > 0)
}

fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<ApiToken> {
    let scopes: String = row.get(2)?;
    Ok(ApiToken {
        id: row.get(0)?,
        name: row.get(1)?,
        scopes: scopes.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
        created_at: row.get(3)?,
        expires_at: row.get(4)?,
        last_used_at: row.get(5)?,
        revoked_at: row.get(6)?,
    })
}
