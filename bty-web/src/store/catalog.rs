//! The entries of the catalog.

use bty::catalog::{Catalog, Entry};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::time::Time;

/// An entry of the server's catalog.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Stored {
    /// What machines are bound by: SHA-256 of the canonical `src`.
    pub bty_image_ref: String,
    /// Where the image is.
    pub src: String,
    /// Where its bytes were when it was last looked at: for tags, the address of what the tag meant.
    pub resolved_src: Option<String>,
    /// When that was.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub resolved_at: Option<Time>,
    /// SHA-256 of the bytes as they come over the wire.
    pub disk_image_sha: Option<String>,
    /// Name, unique among the entries.
    pub name: String,
    /// Where its digest is published.
    pub sha_url: Option<String>,
    /// Format id such as `img.zst`.
    pub format: Option<String>,
    /// Size over the wire in bytes.
    pub size_bytes: Option<u64>,
    /// For people.
    pub description: Option<String>,
    /// Architecture such as `x86_64`.
    pub arch: Option<String>,
    /// True when `src` is a tag of a registry, which can move.
    pub is_tag: bool,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub added_at: Time,
}

const COLUMNS: &str = "image_ref, src, resolved_src, resolved_at, sha256, name, sha_url, format, size_bytes, \
                       description, arch, is_tag, added_at";

/// All entries that are not deleted, sorted by name.
///
/// # Errors
/// Those of the database.
pub fn all(conn: &Connection) -> Result<Vec<Stored>> {
    let sql = format!("SELECT {COLUMNS} FROM catalog_entries WHERE deleted_at IS NULL ORDER BY name, src");
    let mut select = conn.prepare_cached(&sql)?;
    let rows = select.query_map([], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The entry with this `src`, and whether it is deleted.
///
/// # Errors
/// Those of the database.
pub fn by_src(conn: &Connection, src: &str) -> Result<Option<(Stored, bool)>> {
    let sql = format!("SELECT {COLUMNS}, deleted_at IS NOT NULL FROM catalog_entries WHERE src = ?1 OR image_ref = ?2");
    let image_ref = bty::catalog::image_ref(src).map(|r| r.to_string()).unwrap_or_default();
    Ok(conn.query_row(&sql, [src, &image_ref], |row| Ok((from_row(row)?, row.get(13)?))).optional()?)
}

/// True when another entry than that of `src` has this name.
///
/// # Errors
/// Those of the database.
pub fn is_name_taken(conn: &Connection, name: &str, src: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM catalog_entries WHERE name = ?1 AND src <> ?2 AND deleted_at IS NULL)";
    Ok(conn.query_row(sql, [name, src], |row| row.get(0))?)
}

/// Writes an entry, whether it is there, deleted or new.
///
/// # Errors
/// Those of the database.
pub fn put(conn: &Connection, entry: &Stored) -> Result<()> {
    conn.prepare_cached(&format!(
        "INSERT INTO catalog_entries ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT (src) DO UPDATE SET resolved_src = ?3, resolved_at = ?4, sha256 = ?5, name = ?6, sha_url = ?7,
             format = ?8, size_bytes = ?9, description = ?10, arch = ?11, is_tag = ?12, added_at = ?13, deleted_at = NULL"
    ))?
    .execute(params![
        entry.bty_image_ref,
        entry.src,
        entry.resolved_src,
        entry.resolved_at,
        entry.disk_image_sha,
        entry.name,
        entry.sha_url,
        entry.format,
        entry.size_bytes.and_then(|n| i64::try_from(n).ok()),
        entry.description,
        entry.arch,
        entry.is_tag,
        entry.added_at,
    ])?;
    Ok(())
}

/// Deletes an entry for good: an import does not bring it back. False when there was none.
///
/// # Errors
/// Those of the database.
pub fn delete(conn: &Connection, src: &str, now: Time) -> Result<bool> {
    let sql = "UPDATE catalog_entries SET deleted_at = ?2 WHERE src = ?1 AND deleted_at IS NULL";
    Ok(conn.execute(sql, (src, now))? > 0)
}

impl Stored {
    /// As it stands in a catalog.
    ///
    /// # Errors
    /// When what is stored is no entry.
    pub fn entry(&self) -> Result<Entry> {
        let mut entry = Entry::new(self.name.clone(), self.src.clone()).map_err(Error::from)?;
        entry.sha256 = self.disk_image_sha.as_deref().and_then(|sha| sha.parse().ok());
        entry.format = self.format.clone().or(entry.format);
        entry.size_bytes = self.size_bytes;
        entry.description.clone_from(&self.description);
        entry.arch = self.arch.clone().or(entry.arch);
        Ok(entry)
    }
}

/// The catalog that clients and plans get, as TOML.
///
/// # Errors
/// Those of the database.
pub fn toml(conn: &Connection) -> Result<String> {
    let mut catalog = Catalog::new();
    for stored in all(conn)? {
        catalog.add(stored.entry()?)?;
    }
    Ok(catalog.to_toml())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        bty_image_ref: row.get(0)?,
        src: row.get(1)?,
        resolved_src: row.get(2)?,
        resolved_at: row.get(3)?,
        disk_image_sha: row.get(4)?,
        name: row.get(5)?,
        sha_url: row.get(6)?,
        format: row.get(7)?,
        size_bytes: row.get::<_, Option<i64>>(8)?.and_then(|n| u64::try_from(n).ok()),
        description: row.get(9)?,
        arch: row.get(10)?,
        is_tag: row.get(11)?,
        added_at: row.get(12)?,
    })
}
