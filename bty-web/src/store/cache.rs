//! The tables of the cache host: objects, interrupted downloads, tags and misses.

use bty::Digest;
use rusqlite::params;

use super::Connection;
use crate::domain::cache_object::{PartialObject, StoredObject};
use crate::domain::error::Result;
use crate::domain::time::Time;

fn digest(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    let text: String = row.get(column)?;
    text.parse().map_err(|e: bty::Error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e))
    })
}

fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|n| u64::try_from(n).unwrap_or_default())
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// All complete objects.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn objects(conn: &Connection) -> Result<Vec<StoredObject>> {
    let mut select = conn.sql.prepare(
        "SELECT key, address, etag, version, sha256, size_bytes, is_fixed, is_pinned, hits, fetched_at, checked_at, used_at FROM cache_objects",
    )?;
    let rows = select.query_map([], |row| {
        Ok(StoredObject {
            key: digest(row, 0)?,
            address: row.get(1)?,
            etag: row.get(2)?,
            version: row.get(3)?,
            sha256: digest(row, 4)?,
            size_bytes: unsigned(row, 5)?,
            is_fixed: row.get(6)?,
            is_pinned: row.get(7)?,
            hits: unsigned(row, 8)?,
            fetched_at: row.get(9)?,
            checked_at: row.get(10)?,
            used_at: row.get(11)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Inserts or replaces a complete object, and deletes its interrupted download.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn put_object(conn: &Connection, object: &StoredObject) -> Result<()> {
    conn.sql.prepare_cached(
        "INSERT OR REPLACE INTO cache_objects VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?
    .execute(params![
        object.key.to_string(),
        object.address,
        object.etag,
        object.version,
        object.sha256.to_string(),
        signed(object.size_bytes),
        object.is_fixed,
        object.is_pinned,
        signed(object.hits),
        object.fetched_at,
        object.checked_at,
        object.used_at,
    ])?;
    delete_part(conn, &object.key)
}

/// Updates how an object is used, unless it was deleted or replaced by another version.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn use_object(conn: &Connection, object: &StoredObject) -> Result<()> {
    conn.sql.prepare_cached(
        "UPDATE cache_objects SET is_pinned = ?3, hits = ?4, checked_at = ?5, used_at = ?6 WHERE key = ?1 AND etag = ?2",
    )?
    .execute(params![
        object.key.to_string(),
        object.etag,
        object.is_pinned,
        signed(object.hits),
        object.checked_at,
        object.used_at,
    ])?;
    Ok(())
}

/// Deletes an object.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn delete_object(conn: &Connection, key: &Digest) -> Result<()> {
    conn.sql.execute("DELETE FROM cache_objects WHERE key = ?1", [key.to_string()])?;
    Ok(())
}

/// All interrupted downloads.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn parts(conn: &Connection) -> Result<Vec<PartialObject>> {
    let mut select =
        conn.sql.prepare("SELECT key, address, etag, version, kept_bytes FROM cache_parts")?;
    let rows = select.query_map([], |row| {
        Ok(PartialObject {
            key: digest(row, 0)?,
            address: row.get(1)?,
            etag: row.get(2)?,
            version: row.get(3)?,
            kept_bytes: unsigned(row, 4)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Sets how much of a download is durable.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn put_part(conn: &Connection, part: &PartialObject) -> Result<()> {
    conn.sql
        .prepare_cached("INSERT OR REPLACE INTO cache_parts VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            part.key.to_string(),
            part.address,
            part.etag,
            part.version,
            signed(part.kept_bytes),
        ])?;
    Ok(())
}

/// Deletes an interrupted download.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn delete_part(conn: &Connection, key: &Digest) -> Result<()> {
    conn.sql.execute("DELETE FROM cache_parts WHERE key = ?1", [key.to_string()])?;
    Ok(())
}

/// Tags of registries: address, digest of the blob that it pointed to, and when that was checked.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn tags(conn: &Connection) -> Result<Vec<(String, Digest, Time)>> {
    let mut select = conn.sql.prepare("SELECT address, sha256, checked_at FROM cache_tags")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, digest(row, 1)?, row.get(2)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Sets what a tag points to.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn put_tag(conn: &Connection, address: &str, sha256: &Digest, checked_at: Time) -> Result<()> {
    conn.sql
        .prepare_cached("INSERT OR REPLACE INTO cache_tags VALUES (?1, ?2, ?3)")?
        .execute(params![address, sha256.to_string(), checked_at])?;
    Ok(())
}

/// An address that a client has asked for while the cache host did not have it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = CacheMiss)]
pub struct Miss {
    /// SHA-256 of its address.
    #[schema(value_type = String)]
    pub key: Digest,
    /// The address.
    pub address: String,
    /// Number of requests.
    pub count: u64,
    /// When the first request was.
    #[schema(value_type = String, format = DateTime)]
    pub first_at: Time,
    /// When the last request was.
    #[schema(value_type = String, format = DateTime)]
    pub last_at: Time,
}

/// Misses, the latest first.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn misses(conn: &Connection, limit: i64) -> Result<Vec<Miss>> {
    let mut select = conn.sql.prepare_cached(
        "SELECT key, address, count, first_at, last_at FROM cache_misses ORDER BY last_at DESC LIMIT ?1",
    )?;
    let rows = select.query_map([limit], |row| {
        Ok(Miss {
            key: digest(row, 0)?,
            address: row.get(1)?,
            count: unsigned(row, 2)?,
            first_at: row.get(3)?,
            last_at: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Maximum number of misses that are kept: any client can cause them.
pub const MISSES_MAX: i64 = 1000;

/// Counts a miss.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn count_miss(conn: &Connection, key: &Digest, address: &str, now: Time) -> Result<()> {
    conn.sql.prepare_cached(
        "INSERT INTO cache_misses VALUES (?1, ?2, 1, ?3, ?3) ON CONFLICT (key) DO UPDATE SET count = count + 1, last_at = ?3",
    )?
    .execute(params![key.to_string(), address, now])?;
    let sql = "DELETE FROM cache_misses WHERE key IN (SELECT key FROM cache_misses ORDER BY last_at DESC LIMIT -1 OFFSET ?1)";
    conn.sql.prepare_cached(sql)?.execute([MISSES_MAX])?;
    Ok(())
}

/// Deletes one miss, or all. Returns how many there were.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn forget_misses(conn: &Connection, key: Option<&Digest>) -> Result<usize> {
    Ok(match key {
        Some(key) => {
            conn.sql.execute("DELETE FROM cache_misses WHERE key = ?1", [key.to_string()])?
        }
        None => conn.sql.execute("DELETE FROM cache_misses", [])?,
    })
}
