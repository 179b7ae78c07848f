//! The table of catalog entries.

use bty::catalog::{Catalog, Entry};
use bty::redact;
use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

use super::connection::Connection;
use crate::domain::catalog_image::CatalogImage;
use crate::domain::error::{Error, Result};
use crate::domain::time::Time;

/// An entry of the server's catalog.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Stored {
    /// Reference by which machines refer to the image: SHA-256 of the canonical `src`.
    pub bty_image_ref: String,
    /// URL of the image.
    pub src: String,
    /// URL of its content at the last refresh; for a tag, of the blob that the tag pointed to.
    pub resolved_src: Option<String>,
    /// When it was last refreshed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub resolved_at: Option<Time>,
    /// SHA-256 of the image as downloaded, before decompression.
    pub disk_image_sha: Option<String>,
    /// SHA-256 of the index of the image, if it is published packed.
    pub index_sha256: Option<String>,
    /// Name, unique among the entries.
    pub name: String,
    /// URL where its digest is published.
    pub sha_url: Option<String>,
    /// Format, such as `img.zst`.
    pub format: Option<String>,
    /// Size of the download in bytes.
    pub size_bytes: Option<u64>,
    /// Description for people.
    pub description: Option<String>,
    /// Architecture such as `x86_64`.
    pub arch: Option<String>,
    /// True if `src` is a registry tag, which can move.
    pub is_tag: bool,
    /// When its digest last changed; null if it has only had this one.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub moved_at: Option<Time>,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub added_at: Time,
}

const COLUMNS: &str = "image_ref, src, resolved_src, resolved_at, sha256, name, sha_url, format, \
                       size_bytes, description, arch, is_tag, added_at, index_sha256, moved_at";

/// Returns all entries that are not deleted, sorted by name.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn all(conn: &Connection) -> Result<Vec<Stored>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM catalog_entries WHERE deleted_at IS NULL ORDER BY name, src"
    );
    let mut select = conn.sql.prepare_cached(&sql)?;
    let rows = select.query_map([], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns the entry with this `src`, and whether it is deleted.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn by_src(conn: &Connection, src: &str) -> Result<Option<(Stored, bool)>> {
    let sql = format!(
        "SELECT {COLUMNS}, deleted_at IS NOT NULL FROM catalog_entries \
         WHERE src = ?1 OR image_ref = ?2"
    );
    let image_ref = bty::catalog::image_ref(src).map(|r| r.to_string()).unwrap_or_default();
    Ok(conn
        .sql
        .query_row(&sql, [src, &image_ref], |row| Ok((from_row(row)?, row.get(15)?)))
        .optional()?)
}

/// True if another entry than that of `src` has this name.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn is_name_taken(conn: &Connection, name: &str, src: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM catalog_entries \
               WHERE name = ?1 AND src <> ?2 AND deleted_at IS NULL)";
    Ok(conn.sql.query_row(sql, [name, src], |row| row.get(0))?)
}

/// Inserts or replaces an entry. Restores a deleted one.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn put(conn: &Connection, entry: &Stored) -> Result<()> {
    conn.sql
        .prepare_cached(&format!(
            "INSERT INTO catalog_entries ({COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
             ON CONFLICT (src) DO UPDATE SET
                 resolved_src = ?3, resolved_at = ?4, sha256 = ?5, name = ?6, sha_url = ?7,
                 format = ?8, size_bytes = ?9, description = ?10, arch = ?11, is_tag = ?12,
                 added_at = ?13, index_sha256 = ?14, moved_at = ?15, deleted_at = NULL"
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
            entry.index_sha256,
            entry.moved_at,
        ])?;
    Ok(())
}

/// Inserts a new entry. Replaces a deleted entry with the same reference, whose URL is a different
/// spelling of the same one.
///
/// # Errors
/// [`ErrorKind::Full`](crate::domain::error::ErrorKind::Full) when the disk has no space.
pub fn put_new(conn: &Connection, entry: &Stored) -> Result<()> {
    conn.sql.execute(
        "DELETE FROM catalog_entries WHERE image_ref = ?1 AND src <> ?2 AND deleted_at IS NOT NULL",
        (&entry.bty_image_ref, &entry.src),
    )?;
    put(conn, entry)
}

/// Marks an entry as deleted, so that no import restores it. Returns false if there is no such
/// entry.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn delete(conn: &Connection, src: &str, now: Time) -> Result<bool> {
    let sql = "UPDATE catalog_entries SET deleted_at = ?2 WHERE src = ?1 AND deleted_at IS NULL";
    Ok(conn.sql.execute(sql, (src, now))? > 0)
}

impl Stored {
    /// True if its digest can change at its address: a tag can move, and a checksum file can list
    /// another digest.
    #[must_use]
    pub fn is_rolling(&self) -> bool {
        self.is_tag || self.sha_url.is_some()
    }

    /// Returns what the rules need to know of it.
    #[must_use]
    pub fn catalog_image(&self) -> CatalogImage {
        CatalogImage {
            name: self.name.clone(),
            src: self.src.clone(),
            sha256: self.disk_image_sha.clone(),
            moved_at: self.moved_at,
            has_checksum_file: self.sha_url.is_some(),
        }
    }

    /// Takes another digest, and notes when. Another file has another index.
    pub fn set_digest(&mut self, sha256: Option<String>, now: Time) {
        if self.disk_image_sha != sha256 {
            self.index_sha256 = None;
            self.moved_at = Some(now);
            self.disk_image_sha = sha256;
        }
    }

    /// Converts the entry to one of a catalog file.
    ///
    /// # Errors
    /// `ErrorKind::Invalid` when the stored name or URL is not allowed in a catalog.
    pub fn entry(&self) -> Result<Entry> {
        let mut entry = Entry::new(self.name.clone(), self.src.clone()).map_err(Error::from)?;
        entry.sha256 = self.disk_image_sha.as_deref().and_then(|sha| sha.parse().ok());
        entry.index_sha256 = self.index_sha256.as_deref().and_then(|sha| sha.parse().ok());
        entry.format = self.format.clone().or(entry.format);
        entry.size_bytes = self.size_bytes;
        entry.description.clone_from(&self.description);
        entry.arch = self.arch.clone().or(entry.arch);
        Ok(entry)
    }
}

/// Removes users and passwords, which earlier versions stored, from all URLs. Returns the names of
/// the affected images.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn forget_passwords(conn: &Connection) -> Result<Vec<String>> {
    let sql = "SELECT image_ref, name, src, resolved_src, sha_url FROM catalog_entries
               WHERE instr(src || ifnull(resolved_src, '') || ifnull(sha_url, ''), '@') > 0";
    let mut select = conn.sql.prepare(sql)?;
    let columns =
        |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, [row.get(2)?, row.get(3)?, row.get(4)?]));
    let found = select
        .query_map([], columns)?
        .collect::<rusqlite::Result<Vec<(String, String, [Option<String>; 3])>>>()?;
    let mut names = Vec::new();
    for (image_ref, name, addresses) in found {
        if addresses.iter().flatten().any(|address| redact::has_credentials(address)) {
            let [src, resolved_src, sha_url] =
                addresses.map(|a| a.map(|a| redact::address(&a).into_owned()));
            let sql = "UPDATE catalog_entries SET src = ?2, resolved_src = ?3, sha_url = ?4 \
                       WHERE image_ref = ?1";
            conn.sql.execute(sql, (image_ref, src, resolved_src, sha_url))?;
            names.push(name);
        }
    }
    Ok(names)
}

/// Returns the catalog for clients and plans, as TOML.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
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
        index_sha256: row.get(13)?,
        moved_at: row.get(14)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::NewEvent;
    use crate::store::database::Database;

    #[test]
    fn passwords_stored_by_earlier_versions_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("state.db"), ()).unwrap();
        let image_ref = bty::catalog::image_ref("http://h/a.img").unwrap().to_string();
        let old = Stored {
            bty_image_ref: image_ref,
            src: "http://user:s3cr3t@h/a.img".into(),
            resolved_src: Some("http://user:s3cr3t@h/a.img".into()),
            resolved_at: None,
            disk_image_sha: None,
            index_sha256: None,
            name: "a".into(),
            sha_url: Some("http://:s3cr3t@h/SHA256SUMS".into()),
            format: None,
            size_bytes: None,
            description: Some("me@example.org".into()),
            arch: None,
            is_tag: false,
            moved_at: None,
            added_at: Time::now(),
        };
        db.write_blocking(move |t| put(t, &old)).unwrap();
        assert_eq!(db.write_blocking(|t| forget_passwords(t)).unwrap(), ["a"]);
        assert!(db.write_blocking(|t| forget_passwords(t)).unwrap().is_empty());
        let [entry] = db.read_blocking(all).unwrap().try_into().unwrap();
        assert_eq!(entry.src, "http://h/a.img");
        assert_eq!(entry.resolved_src.as_deref(), Some("http://h/a.img"));
        assert_eq!(entry.sha_url.as_deref(), Some("http://h/SHA256SUMS"));
        assert!(db.read_blocking(toml).unwrap().contains("\"http://h/a.img\""));
    }

    #[test]
    fn events_show_no_passwords_neither_new_ones_nor_old_ones() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("state.db"), ()).unwrap();
        let src = "http://user:s3cr3t@h/a.img";
        let event = NewEvent::new("catalog.entry.deleted", src, format!("{src} was deleted"));
        let event = event.with(serde_json::json!({ "tried": [{ "src": src }] }));
        db.write_blocking(move |t| {
            let id = t.record(&event)?;
            t.sql.execute(
                "INSERT INTO events SELECT id + 1, ts, kind, subject_kind, ?2, actor, source_ip, \
                 ?2, json_array(?2), 0, 1, NULL, NULL FROM events WHERE id = ?1",
                (id, src),
            )?;
            Ok(())
        })
        .unwrap();
        let kept: String = db
            .read_blocking(|c| {
                Ok(c.sql.query_row(
                    "SELECT summary || subject_id || details_json FROM events WHERE id = 1",
                    [],
                    |r| r.get(0),
                )?)
            })
            .unwrap();
        assert!(!kept.contains("s3cr3t"), "{kept}");
        let events = db
            .read_blocking(|conn| crate::store::events::list(conn, &Default::default(), 10))
            .unwrap();
        assert_eq!(events.len(), 2);
        assert!(!format!("{events:?}").contains("s3cr3t"), "{events:?}");
        assert_eq!(events[1].details["tried"][0]["src"], "http://h/a.img");
    }
}
