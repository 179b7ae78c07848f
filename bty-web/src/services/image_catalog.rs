//! The catalog for pages and clients: lists, checks of images, the cache host, imports. [`catalog`]
//! changes its entries.

use std::sync::Arc;

use bty::Client;
use bty::catalog::{Catalog, Entry, EntryCheck};
use serde::Serialize;

use crate::blocking::blocking;
use crate::cache::address::{Address, blob_url};
use crate::domain::error::{Error, Result};
use crate::domain::event::Actor;
use crate::domain::image_route::{CacheStatus, PackedImage};
use crate::domain::machine::ClientContext;
use crate::services::access::Principal;
use crate::services::auth::Scope;
use crate::services::catalog::{self, CatalogEdits, Imported, concurrently};
use crate::services::image_route::{ImageRouter, file_name, source};
use crate::services::snapshot::Snapshots;
use crate::store::{self, Database};

pub use crate::store::catalog::Stored;

/// The catalog for pages and clients.
#[derive(Clone)]
pub struct ImageCatalog {
    db: Database,
    snapshots: Arc<Snapshots>,
    image_router: Arc<ImageRouter>,
    edits: CatalogEdits,
    client: Client,
}

impl ImageCatalog {
    pub(crate) fn new(
        db: Database,
        snapshots: Arc<Snapshots>,
        image_router: Arc<ImageRouter>,
        edits: CatalogEdits,
        client: Client,
    ) -> Self {
        Self { db, snapshots, image_router, edits, client }
    }

    /// Returns all entries, sorted by name.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when the database fails.
    pub async fn entries(&self) -> Result<Vec<Stored>> {
        self.db.read(store::catalog::all).await
    }

    /// Returns all entries, or the one with the URL `src`.
    async fn entries_at(&self, src: Option<String>) -> Result<Vec<Stored>> {
        let mut entries = self.entries().await?;
        if let Some(src) = src {
            entries.retain(|entry| entry.src == src);
            if entries.is_empty() {
                let shown: String = src.chars().take(SRC_CHARS_SHOWN).collect();
                return Err(Error::not_found(format!("the image {shown}")));
            }
        }
        Ok(entries)
    }

    /// Returns the catalog as TOML for clients that reached the server at `base`. URLs point to the
    /// cache host if there is one and it responds.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when the database fails.
    pub async fn client_toml(&self, base: &str) -> Result<String> {
        let Some(host) = self.image_router.host(base) else {
            return Ok(self.snapshots.current().catalog.to_string());
        };
        if !self.image_router.is_reachable().await {
            return Ok(self.snapshots.current().catalog.to_string());
        }
        let mut catalog = Catalog::new();
        for stored in self.entries().await? {
            let packed = self.image_router.packed(&host, &stored);
            catalog.add(through_cache(&host, &stored, packed)?)?;
        }
        Ok(catalog.to_toml())
    }

    /// Returns the status of all images on the cache host, or of the one at `src`. Fetches nothing.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::domain::error::ErrorKind::NotFound) when no entry has the
    /// address `src`.
    pub async fn cache_status(
        &self,
        who: &ClientContext,
        src: Option<String>,
    ) -> Result<Vec<CachedImage>> {
        self.ask_cache_host(who, src, false).await
    }

    /// Makes the cache host fetch all images, or the one at `src`, before machines request them.
    /// Returns without waiting for the fetches.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`](crate::domain::error::ErrorKind::NotFound) when no entry has the
    ///   address `src`.
    /// - The errors of [`CacheHost::fetch`](crate::cache::CacheHost::fetch).
    pub async fn warm(&self, who: &ClientContext, src: Option<String>) -> Result<Vec<CachedImage>> {
        self.ask_cache_host(who, src, true).await
    }

    async fn ask_cache_host(
        &self,
        who: &ClientContext,
        src: Option<String>,
        is_warming: bool,
    ) -> Result<Vec<CachedImage>> {
        let entries = self.entries_at(src).await?;
        let mut images = Vec::with_capacity(entries.len());
        for entry in entries {
            let status = self.image_router.look(&who.base, &entry, is_warming).await?;
            images.push(CachedImage { name: entry.name, src: entry.src, status });
        }
        Ok(images)
    }

    /// Checks whether all images, or the one at `src`, exist at their URLs with the size and digest
    /// in the catalog, and whether their checksum files still list that digest. Downloads no image.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::domain::error::ErrorKind::NotFound) when no entry has the
    /// address `src`.
    pub async fn check(&self, src: Option<String>) -> Result<Vec<EntryCheck>> {
        let entries = self.entries_at(src).await?;
        let client = self.client.clone();
        let checked = blocking(move || {
            let mut catalog = Catalog::new();
            for entry in &entries {
                catalog.add(entry.entry()?)?;
            }
            let mut checks = bty::catalog::check(&client, &catalog, &bty::CancelToken::new())?;
            let listed = concurrently(&entries, |entry| list_problem(&client, entry));
            for (check, problem) in checks.iter_mut().zip(listed) {
                check.problems.extend(problem.flatten());
            }
            Ok::<_, Error>(checks)
        });
        checked.await?
    }

    /// Imports the catalog at `source`: a URL, or a path on the server.
    ///
    /// # Errors
    /// - [`ErrorKind::Forbidden`](crate::domain::error::ErrorKind::Forbidden) when `source` is a
    ///   path, and the principal lacks the scope `admin`.
    /// - [`ErrorKind::Malformed`](crate::domain::error::ErrorKind::Malformed) when the catalog
    ///   cannot be read.
    pub async fn import(
        &self,
        who: &ClientContext,
        principal: &Principal,
        source: String,
    ) -> Result<Imported> {
        catalog::check_source(&source, principal.require(Scope::Admin).is_ok())?;
        self.edits.import(who, Actor::Operator, source).await
    }

    /// Imports a catalog from the uploaded file `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) when it is not a catalog.
    pub async fn import_upload(
        &self,
        who: &ClientContext,
        name: &str,
        bytes: &[u8],
    ) -> Result<Imported> {
        let parsed = catalog::parse(bytes)?;
        let source = format!("upload:{name}");
        self.edits.import_upload(who, source, &parsed).await
    }

    /// Deletes the entry at `src` permanently: no import and no restart restores it. With
    /// `is_forced`, deletes it even if it is used, and puts the machines that use it on hold.
    /// Returns the entry, so that an undo can restore it.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`](crate::domain::error::ErrorKind::NotFound) when there is no such
    ///   entry.
    /// - [`ErrorKind::Conflict`](crate::domain::error::ErrorKind::Conflict) with all users, when
    ///   machines or plans use it.
    pub async fn delete(
        &self,
        who: &ClientContext,
        src: String,
        is_forced: bool,
    ) -> Result<Option<Stored>> {
        let wanted = src.clone();
        let known = self.db.read(move |conn| store::catalog::by_src(conn, &wanted)).await?;
        self.edits.delete(who, src, is_forced).await?;
        Ok(known.map(|(entry, _)| entry))
    }
}

/// Compares the digest of an image with the one that its checksum file lists now. Blocks.
fn list_problem(client: &Client, entry: &Stored) -> Option<String> {
    let (url, known) = (entry.sha_url.as_deref()?, entry.disk_image_sha.as_deref()?);
    match catalog::listed_digest(client, url, &entry.src) {
        Ok(digest) if digest.to_string() == known => None,
        Ok(digest) => {
            let seen = entry.resolved_at.map(|at| format!(" since {at}")).unwrap_or_default();
            Some(format!(
                "sha256 is {known}{seen}, but {url} lists {digest} now: the image was published \
                 anew; refresh it to take the new digest"
            ))
        }
        Err(error) => Some(error.detail),
    }
}

const SRC_CHARS_SHOWN: usize = 512;

/// An image, and its status on the cache host.
#[derive(Serialize, utoipa::ToSchema)]
pub struct CachedImage {
    /// Name of the image.
    pub name: String,
    /// Its URL.
    pub src: String,
    /// Its status on the cache host.
    pub status: CacheStatus,
}

/// Returns the entry with a URL on the cache host `host`, if the cache host can fetch it, and with
/// its packed form.
fn through_cache(host: &str, stored: &Stored, packed: Option<PackedImage>) -> Result<Entry> {
    let direct = stored.entry()?;
    let source = source(stored);
    if source.parse::<Address>().is_err() {
        return Ok(direct);
    }
    let url = blob_url(host, source, &file_name(stored), stored.disk_image_sha.as_deref());
    let mut entry = Entry::new(direct.name.clone(), url)?;
    (entry.sha256, entry.format, entry.size_bytes) =
        (direct.sha256, direct.format, direct.size_bytes);
    (entry.description, entry.arch) = (direct.description, direct.arch);
    entry.index_sha256 = direct.index_sha256;
    if let Some(packed) = packed {
        entry.index_sha256 = packed.index_sha256.parse().ok();
        entry.packed = Some(packed.url);
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use bty::Digest;

    use super::*;
    use crate::domain::time::Time;

    fn stored() -> Stored {
        let src = "https://images.example/debian.img.xz";
        Stored {
            bty_image_ref: bty::catalog::image_ref(src).unwrap().to_string(),
            src: src.into(),
            resolved_src: None,
            resolved_at: None,
            disk_image_sha: Some("ab".repeat(32)),
            index_sha256: None,
            name: "debian".into(),
            sha_url: None,
            format: Some("img.xz".into()),
            size_bytes: Some(5),
            description: None,
            arch: None,
            is_tag: false,
            moved_at: None,
            added_at: Time::default(),
        }
    }

    #[test]
    fn an_entry_through_the_cache_host_names_its_packed_form() {
        let index_sha256 = Digest::of(b"index");
        let url = "http://c:3000/packed/ab/debian.img.zst".to_owned();
        let packed = PackedImage { url, index_sha256: index_sha256.to_string() };
        let plain = through_cache("http://c:3000", &stored(), None).unwrap();
        let entry = through_cache("http://c:3000", &stored(), Some(packed)).unwrap();
        assert_eq!((plain.packed.as_ref(), plain.index_sha256), (None, None));
        assert_eq!((entry.src(), entry.sha256), (plain.src(), plain.sha256), "for earlier readers");
        assert_eq!(entry.index_sha256, Some(index_sha256));
        let mut catalog = Catalog::new();
        catalog.add(entry).unwrap();
        let toml = catalog.to_toml();
        assert!(toml.contains("packed = \"http://c:3000/packed/ab/debian.img.zst\""), "{toml}");
        assert_eq!(Catalog::parse(toml.as_bytes()).unwrap(), catalog);
    }
}
