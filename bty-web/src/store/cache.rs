//! The tables of the cache host: objects, their packed forms, interrupted fills, registry tags, and
//! misses.
//!
//! The files of objects and fills are outside the database. After a crash, a row and its file can
//! disagree, so the cache host compares them when it starts.

use bty::Digest;
use rusqlite::params;

use super::connection::Connection;
use crate::domain::error::Result;
use crate::domain::time::Time;

/// An object whose file is complete.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectRecord {
    /// Name of its file: SHA-256 of its URL, or the digest that its URL contains.
    pub key: Digest,
    /// URL at its origin.
    pub address: String,
    /// `ETag` for clients, with its quotes; unique to each version.
    pub etag: String,
    /// Version as the origin reports it (`ETag` or `Last-Modified`).
    pub version: Option<String>,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Length in bytes.
    pub size_bytes: u64,
    /// True if the URL contains the digest, so that the content can never change.
    pub is_fixed: bool,
    /// True if it is never evicted.
    pub is_pinned: bool,
    /// Number of requests for it.
    pub hits: u64,
    /// When the transfer from the origin ended.
    pub fetched_at: Time,
    /// When the origin was last asked whether it has a newer version.
    pub checked_at: Time,
    /// When it was last requested.
    pub used_at: Time,
}

/// The durable part of an interrupted fill.
#[derive(Clone, Debug, PartialEq)]
pub struct PartRecord {
    /// Key that the object will have.
    pub key: Digest,
    /// URL at its origin.
    pub address: String,
    /// `ETag` for clients, with its quotes.
    pub etag: String,
    /// Version as the origin reports it. The fill resumes only if it is still the same.
    pub version: String,
    /// Number of bytes from the start that are durable on disk.
    pub kept_bytes: u64,
}

/// What became of packing the content with a digest.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedRecord {
    /// SHA-256 of the objects with this content.
    pub sha256: Digest,
    /// The packed form, or why there is none.
    pub outcome: PackOutcome,
    /// When packing ended.
    pub packed_at: Time,
}

/// The outcome of packing an object.
#[derive(Clone, Debug, PartialEq)]
pub enum PackOutcome {
    /// There is a packed form in a file of its own.
    Packed {
        /// SHA-256 of the file.
        file_sha256: Digest,
        /// SHA-256 of its index.
        index_sha256: Digest,
        /// Length of the file in bytes.
        size_bytes: u64,
    },
    /// The object is a packed image itself.
    Itself {
        /// SHA-256 of its index.
        index_sha256: Digest,
    },
    /// The object cannot be packed, for this reason.
    Failed(String),
}

impl PackedRecord {
    /// Returns the digest of the index of the packed form; `None` if packing failed.
    #[must_use]
    pub fn index_sha256(&self) -> Option<Digest> {
        match &self.outcome {
            PackOutcome::Packed { index_sha256, .. } | PackOutcome::Itself { index_sha256 } => {
                Some(*index_sha256)
            }
            PackOutcome::Failed(_) => None,
        }
    }

    /// Returns the bytes of the file of the packed form; 0 if it has none.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        match &self.outcome {
            PackOutcome::Packed { size_bytes, .. } => *size_bytes,
            _ => 0,
        }
    }
}

/// Returns the outcomes of all packed objects, in no particular order.
///
/// # Errors
/// `ErrorKind::Internal` if the database fails.
pub fn packed(conn: &Connection) -> Result<Vec<PackedRecord>> {
    let mut select = conn.sql.prepare(
        "SELECT sha256, failure, file_sha256, index_sha256, size_bytes, packed_at \
         FROM cache_packed",
    )?;
    let rows = select.query_map([], |row| {
        let has_file = row.get::<_, Option<String>>(2)?.is_some();
        let outcome = match row.get::<_, Option<String>>(1)? {
            Some(failure) => PackOutcome::Failed(failure),
            None if has_file => PackOutcome::Packed {
                file_sha256: digest(row, 2)?,
                index_sha256: digest(row, 3)?,
                size_bytes: unsigned(row, 4)?,
            },
            None => PackOutcome::Itself { index_sha256: digest(row, 3)? },
        };
        Ok(PackedRecord { sha256: digest(row, 0)?, outcome, packed_at: row.get(5)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Inserts or replaces the outcome of packing. Does nothing if no object has this content any more.
///
/// # Errors
/// `ErrorKind::Full` if the disk is full, `ErrorKind::Internal` if the database fails otherwise.
pub fn put_packed(conn: &Connection, record: &PackedRecord) -> Result<()> {
    let (file, failure) = match &record.outcome {
        PackOutcome::Packed { file_sha256, .. } => (Some(file_sha256.to_string()), None),
        PackOutcome::Itself { .. } => (None, None),
        PackOutcome::Failed(why) => (None, Some(why)),
    };
    conn.sql
        .prepare_cached(
            "INSERT OR REPLACE INTO cache_packed SELECT ?1, ?2, ?3, ?4, ?5, ?6 \
             WHERE EXISTS (SELECT 1 FROM cache_objects WHERE sha256 = ?1)",
        )?
        .execute(params![
            record.sha256.to_string(),
            file,
            record.index_sha256().map(|digest| digest.to_string()),
            signed(record.file_bytes()),
            failure,
            record.packed_at,
        ])?;
    Ok(())
}

/// Deletes the outcome of packing. Does nothing if it does not exist.
///
/// # Errors
/// `ErrorKind::Full` if the disk is full, `ErrorKind::Internal` if the database fails otherwise.
pub fn delete_packed(conn: &Connection, sha256: &Digest) -> Result<()> {
    conn.sql.execute("DELETE FROM cache_packed WHERE sha256 = ?1", [sha256.to_string()])?;
    Ok(())
}

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

/// Returns all complete objects, in no particular order.
///
/// # Errors
/// `ErrorKind::Internal` if the database fails.
pub fn objects(conn: &Connection) -> Result<Vec<ObjectRecord>> {
    let mut select = conn.sql.prepare(
        "SELECT key, address, etag, version, sha256, size_bytes, is_fixed, is_pinned, hits, \
         fetched_at, checked_at, used_at FROM cache_objects",
    )?;
    let rows = select.query_map([], |row| {
        Ok(ObjectRecord {
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

/// Inserts or replaces a complete object, and deletes the record of its fill.
///
/// # Errors
/// `ErrorKind::Full` if the disk is full, `ErrorKind::Internal` if the database fails otherwise.
pub fn put_object(conn: &Connection, object: &ObjectRecord) -> Result<()> {
    conn.sql
        .prepare_cached(
            "INSERT OR REPLACE INTO cache_objects \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
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

/// Updates pin, hits and times of an object. Does nothing if the object was deleted or replaced by
/// another version in the meantime.
///
/// # Errors
/// `ErrorKind::Full` if the disk is full, `ErrorKind::Internal` if the database fails otherwise.
pub fn use_object(conn: &Connection, object: &ObjectRecord) -> Result<()> {
    conn.sql
        .prepare_cached(
            "UPDATE cache_objects SET is_pinned = ?3, hits = ?4, checked_at = ?5, used_at = ?6 \
             WHERE key = ?1 AND etag = ?2",
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

/// Deletes an object, and the outcome of packing it if no other object has the same content. Does
/// nothing if it does not exist.
///
/// # Errors
/// `ErrorKind::Full` if the disk is full, `ErrorKind::Internal` if the database fails otherwise.
pub fn delete_object(conn: &Connection, key: &Digest) -> Result<()> {
    conn.sql.execute("DELETE FROM cache_objects WHERE key = ?1", [key.to_string()])?;
    let sql = "DELETE FROM cache_packed WHERE sha256 NOT IN (SELECT sha256 FROM cache_objects)";
    conn.sql.prepare_cached(sql)?.execute([])?;
    Ok(())
}

/// Returns all interrupted fills.
///
/// # Errors
/// `ErrorKind::Internal` if the database fails.
pub fn parts(conn: &Connection) -> Result<Vec<PartRecord>> {
    let mut select =
        conn.sql.prepare("SELECT key, address, etag, version, kept_bytes FROM cache_parts")?;
    let rows = select.query_map([], |row| {
        Ok(PartRecord {
            key: digest(row, 0)?,
            address: row.get(1)?,
            etag: row.get(2)?,
            version: row.get(3)?,
            kept_bytes: unsigned(row, 4)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Inserts or updates the durable part of a fill.
///
/// # Errors
/// `ErrorKind::Full` if the disk is full, `ErrorKind::Internal` if the database fails otherwise.
pub fn put_part(conn: &Connection, part: &PartRecord) -> Result<()> {
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

/// Deletes the durable part of a fill. Does nothing if it does not exist.
///
/// # Errors
/// `ErrorKind::Full` if the disk is full, `ErrorKind::Internal` if the database fails otherwise.
pub fn delete_part(conn: &Connection, key: &Digest) -> Result<()> {
    conn.sql.execute("DELETE FROM cache_parts WHERE key = ?1", [key.to_string()])?;
    Ok(())
}

/// Returns the resolved registry tags: URL, digest, and when the registry was asked.
///
/// # Errors
/// `ErrorKind::Internal` if the database fails.
pub fn tags(conn: &Connection) -> Result<Vec<(String, Digest, Time)>> {
    let mut select = conn.sql.prepare("SELECT address, sha256, checked_at FROM cache_tags")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, digest(row, 1)?, row.get(2)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Records the digest that a tag points to.
///
/// # Errors
/// `ErrorKind::Full` if the disk is full, `ErrorKind::Internal` if the database fails otherwise.
pub fn put_tag(conn: &Connection, address: &str, sha256: &Digest, checked_at: Time) -> Result<()> {
    conn.sql
        .prepare_cached("INSERT OR REPLACE INTO cache_tags VALUES (?1, ?2, ?3)")?
        .execute(params![address, sha256.to_string(), checked_at])?;
    Ok(())
}

/// A URL that was requested but not cached.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct CacheMiss {
    /// Key that the object would have.
    #[schema(value_type = String)]
    pub key: Digest,
    /// URL at its origin.
    pub address: String,
    /// Number of requests.
    pub count: u64,
    /// First request.
    #[schema(value_type = String, format = DateTime)]
    pub first_at: Time,
    /// Last request.
    #[schema(value_type = String, format = DateTime)]
    pub last_at: Time,
}

/// Returns at most `limit` misses, the most recent first.
///
/// # Errors
/// `ErrorKind::Internal` if the database fails.
pub fn misses(conn: &Connection, limit: i64) -> Result<Vec<CacheMiss>> {
    let mut select = conn.sql.prepare_cached(
        "SELECT key, address, count, first_at, last_at FROM cache_misses \
         ORDER BY last_at DESC LIMIT ?1",
    )?;
    let rows = select.query_map([limit], |row| {
        Ok(CacheMiss {
            key: digest(row, 0)?,
            address: row.get(1)?,
            count: unsigned(row, 2)?,
            first_at: row.get(3)?,
            last_at: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Maximum number of recorded misses. Anybody can cause them, so the oldest ones are deleted.
pub const MISSES_MAX: i64 = 1000;

/// Counts a miss of `address` at `now`.
///
/// # Errors
/// `ErrorKind::Full` if the disk is full, `ErrorKind::Internal` if the database fails otherwise.
pub fn count_miss(conn: &Connection, key: &Digest, address: &str, now: Time) -> Result<()> {
    conn.sql
        .prepare_cached(
            "INSERT INTO cache_misses VALUES (?1, ?2, 1, ?3, ?3) \
             ON CONFLICT (key) DO UPDATE SET count = count + 1, last_at = ?3",
        )?
        .execute(params![key.to_string(), address, now])?;
    let sql = "DELETE FROM cache_misses WHERE key IN \
               (SELECT key FROM cache_misses ORDER BY last_at DESC LIMIT -1 OFFSET ?1)";
    conn.sql.prepare_cached(sql)?.execute([MISSES_MAX])?;
    Ok(())
}

/// Deletes the miss of `key`, or all of them. Returns how many were deleted.
///
/// # Errors
/// `ErrorKind::Full` if the disk is full, `ErrorKind::Internal` if the database fails otherwise.
pub fn forget_misses(conn: &Connection, key: Option<&Digest>) -> Result<usize> {
    Ok(match key {
        Some(key) => {
            conn.sql.execute("DELETE FROM cache_misses WHERE key = ?1", [key.to_string()])?
        }
        None => conn.sql.execute("DELETE FROM cache_misses", [])?,
    })
}
