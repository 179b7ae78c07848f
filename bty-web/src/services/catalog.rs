//! Changes to the server's catalog: adding, importing and restoring entries. `refresh` reads their
//! origins again, `removal` deletes them.

use std::path::Path;
use std::sync::Arc;

use bty::catalog::{self, Catalog, Entry, file_name};
use bty::{CancelToken, Client, Digest, Location, redact};
use serde::Serialize;
use serde_json::json;

use crate::blocking::blocking;
use crate::domain::error::{Error, ErrorKind, Problem, Result};
use crate::domain::event::{Actor, Author, NewEvent};
use crate::domain::machine::ClientContext;
use crate::domain::time::Time;
use crate::services::event_log::EventLog;
use crate::services::machines::Machines;
use crate::services::snapshot::Snapshots;
use crate::store::Database;
use crate::store::{self, catalog::Stored};

pub mod refresh;
mod removal;

/// Result of an import.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct Imported {
    /// URL, path or file name of the catalog.
    pub source: String,
    /// Number of new entries.
    pub imported: usize,
    /// Number of changed entries.
    pub updated: usize,
    /// Number of skipped entries: unchanged ones, and ones that an operator has deleted.
    pub skipped: usize,
    /// Entries that could not be imported.
    pub errors: Vec<ImportError>,
}

/// An entry that failed.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ImportError {
    /// Name of the entry.
    pub name: String,
    /// What is wrong with it, as one sentence.
    pub error: String,
}

/// The content that the URL of an image currently points to.
struct Resolved {
    src: String,
    sha256: Option<Digest>,
    size_bytes: Option<u64>,
    name: String,
}

/// True for the URL of a registry tag. A tag can be moved to different content.
pub(crate) fn is_tag(src: &str) -> bool {
    src.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("oras://")) && !src.contains('@')
}

/// Asks the origin of an image for its digest and size. Blocks.
fn resolve(client: &Client, src: &str) -> Result<Resolved> {
    let cancel = CancelToken::new();
    let source = client.open(src, &cancel)?;
    let sha256 = source.expected_digest();
    let src = match (source.location(), sha256) {
        // the URL of the blob itself, so that machines get the same bytes even if the tag moves
        (Location::Oci(reference), Some(digest)) if is_tag(src) => {
            reference.with_digest(digest).to_string()
        }
        _ => src.to_owned(),
    };
    Ok(Resolved { src, sha256, size_bytes: source.len_bytes(), name: source.name().to_owned() })
}

/// Reads the checksum file at `url`, and returns the SHA-256 that it lists for the image at `src`.
/// Blocks.
///
/// # Errors
/// - [`ErrorKind::Invalid`] when `url` names a file on the server, or the file has no SHA-256.
/// - [`ErrorKind::Malformed`] when the file cannot be read, or does not list the image.
pub(super) fn listed_digest(client: &Client, url: &str, src: &str) -> Result<Digest> {
    check_foreign("sha_url", url)?;
    let is_oras = src.to_ascii_lowercase().starts_with("oras://");
    let image = file_name(src).filter(|_| is_oras).unwrap_or_else(|| src.to_owned());
    let found = catalog::fetch_checksum(client, url, &image, &CancelToken::new());
    let found = found.map_err(|e| Error { kind: ErrorKind::Malformed, ..Error::from(e) })?;
    found.sha256.ok_or_else(|| {
        Error::invalid(
            "sha_url: the file has no SHA-256 digest, only SHA-512; use one with SHA-256",
        )
    })
}

/// An image to add by its URL.
#[derive(Debug, Default)]
pub struct NewImage {
    /// URL of the image.
    pub image_url: String,
    /// URL of a checksum file that lists the image.
    pub sha_url: Option<String>,
    /// The reference that the image must have.
    pub reference: Option<String>,
    /// Name of the entry; default: the file name in the URL, or the title in the registry.
    pub name: Option<String>,
    /// Description for people.
    pub description: Option<String>,
}

/// Changes the catalog.
#[derive(Clone)]
pub struct CatalogEdits {
    db: Database,
    snapshots: Arc<Snapshots>,
    machines: Arc<Machines>,
    events: EventLog,
    /// For servers that an operator has configured.
    client: Client,
    /// For servers named by catalogs and API clients.
    guarded: Client,
}

impl CatalogEdits {
    pub(crate) fn new(
        db: Database,
        snapshots: Arc<Snapshots>,
        machines: Arc<Machines>,
        events: EventLog,
        client: Client,
        guarded: Client,
    ) -> Self {
        Self { db, snapshots, machines, events, client, guarded }
    }

    /// Adds an image by its URL. Failures are also recorded as events.
    ///
    /// # Errors
    /// - [`ErrorKind::Invalid`] for an invalid URL, or when the image has a different reference.
    /// - [`ErrorKind::Malformed`] when the image or the checksum file cannot be read.
    /// - [`ErrorKind::Conflict`] when the catalog already has the image or the name.
    pub async fn add(&self, caller: &ClientContext, new: NewImage) -> Result<Stored> {
        let (service, now, url) = (self.clone(), caller.now, new.image_url.clone());
        let made = blocking(move || service.make(&new, now)).await?;
        let result = match made {
            Ok(stored) => self.insert(caller, stored).await,
            Err(error) => Err(error),
        };
        match &result {
            Ok(_) => self.snapshots.refresh().await?,
            Err(error) => {
                let shown: String = redact::address(&url).chars().take(512).collect();
                let event = NewEvent::new(
                    "catalog.entry.add.failed",
                    shown.clone(),
                    format!("adding {shown} failed: {}", error.detail),
                );
                self.events.record(event.caused_by(&caller.author()).with(error.details())).await?;
            }
        }
        result
    }

    fn make(&self, new: &NewImage, now: Time) -> Result<Stored> {
        let src = new.image_url.trim();
        let image_ref =
            catalog::image_ref(src).map_err(|e| Error::invalid(format!("image_url: {e:#}")))?;
        if new.reference.as_ref().is_some_and(|reference| *reference != image_ref.to_string()) {
            return Err(Error::invalid(format!(
                "ref: expected {image_ref}, the reference of this address"
            )));
        }
        if let Some(url) = &new.sha_url {
            check_foreign("sha_url", url)?;
        }
        // refuse an invalid URL before any request
        Entry::new("unnamed", src).map_err(|e| Error::invalid(format!("image_url: {e:#}")))?;
        let is_oras = src.to_ascii_lowercase().starts_with("oras://");
        let file = file_name(src);
        if !is_oras && file.is_none() {
            return Err(Error::invalid("image_url: the path of the address has no file name"));
        }
        let unreachable = |error: Error| Error { kind: ErrorKind::Malformed, ..error };
        let resolved = resolve(&self.client, src).map_err(unreachable)?;
        let name = new
            .name
            .clone()
            .or_else(|| file.filter(|_| !is_oras))
            .unwrap_or_else(|| resolved.name.clone());
        let mut entry = Entry::new(name, src).map_err(|e| Error::invalid(format!("{e:#}")))?;
        let mut sha256 = resolved.sha256;
        if let Some(url) = &new.sha_url {
            sha256 = Some(listed_digest(&self.client, url, src)?);
        }
        entry.sha256 = sha256;
        entry.size_bytes = resolved.size_bytes;
        entry.description.clone_from(&new.description);
        if is_oras && entry.format.is_none() {
            entry.format = Some("img.gz".into());
        }
        Ok(stored(&entry, Some(&resolved), new.sha_url.clone(), now))
    }

    async fn insert(&self, caller: &ClientContext, stored: Stored) -> Result<Stored> {
        let author = caller.author();
        self.db
            .write(move |transaction| {
                if let Some((other, false)) = store::catalog::by_src(transaction, &stored.src)? {
                    let detail = format!("{} is already in the catalog, as {}", other.src, other.name);
                    return Err(Error::new(ErrorKind::Conflict, detail));
                }
                if store::catalog::is_name_taken(transaction, &stored.name, &stored.src)? {
                    let detail = format!("an entry named {} already exists; \
                                          choose another name", stored.name);
                    return Err(Error::new(ErrorKind::Conflict, detail));
                }
                store::catalog::put_new(transaction, &stored)?;
                let event = NewEvent::new("catalog.entry.added", stored.src.clone(), format!("added {}", stored.name));
                let details = json!({ "name": stored.name, "bty_image_ref": stored.bty_image_ref, "disk_image_sha": stored.disk_image_sha });
                transaction.record(&event.caused_by(&author).with(details))?;
                Ok(stored)
            })
            .await
    }

    /// Imports the catalog at `source`, a URL or a path on the server. Sources that no operator has
    /// configured must not be on this host, its local link or a cloud metadata service, unless
    /// `cache.reach` allows them.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] when the catalog cannot be read or parsed.
    pub async fn import(
        &self,
        caller: &ClientContext,
        actor: Actor,
        source: String,
    ) -> Result<Imported> {
        let is_configured = source == self.snapshots.current().settings.get("upstream.catalog_url")
            || matches!(source.parse(), Ok(Location::File(_)));
        let client = if is_configured { &self.client } else { &self.guarded };
        let (loader, from) = (client.clone(), source.clone());
        let loaded = blocking(move || Catalog::load(&loader, &from, &CancelToken::new()));
        match loaded.await? {
            Ok(catalog) => self.import_catalog(client, caller, actor, source, &catalog).await,
            Err(error) => {
                // whatever the cause: the caller named the source
                let error = Error::new(ErrorKind::Malformed, Error::from(error).detail);
                let author = Author { actor, ..caller.author() };
                let event = NewEvent::new(
                    "catalog.entries.import.failed",
                    source.clone(),
                    format!("importing {source} failed: {}", error.detail),
                );
                self.events.record(event.caused_by(&author).with(error.details())).await?;
                Err(error)
            }
        }
    }

    /// Imports a catalog that a client has uploaded.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] when the disk has no space.
    pub async fn import_upload(
        &self,
        caller: &ClientContext,
        source: String,
        catalog: &Catalog,
    ) -> Result<Imported> {
        self.import_catalog(&self.guarded, caller, Actor::Operator, source, catalog).await
    }

    /// Imports the configured catalog file `path`, if it exists. Does not restore entries that an
    /// operator has deleted. Logs a failure.
    pub async fn import_file(&self, path: &Path) {
        if !path.is_file() {
            return;
        }
        let client = ClientContext { now: Time::now(), ..ClientContext::default() };
        let source = path.display().to_string();
        if let Err(error) = self.import(&client, Actor::System, source).await {
            tracing::warn!(%error, "cannot import the catalog file");
        }
    }

    /// Imports the entries of `catalog`, resolving tags with `client`. Updates entries that differ
    /// from those in the database; deleted entries stay deleted.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] when the disk has no space.
    async fn import_catalog(
        &self,
        client: &Client,
        caller: &ClientContext,
        actor: Actor,
        source: String,
        catalog: &Catalog,
    ) -> Result<Imported> {
        let (client, entries, now) = (client.clone(), catalog.entries().to_vec(), caller.now);
        let resolved = blocking(move || resolve_all(&client, &entries, now)).await?;
        let author = Author { actor, ..caller.author() };
        let from = source.clone();
        let imported = self
            .db
            .write(move |transaction| {
                let mut outcome = Imported { source: from.clone(), ..Imported::default() };
                for (entry, error) in resolved {
                    outcome
                        .errors
                        .extend(error.map(|error| ImportError { name: entry.name.clone(), error }));
                    import_one(transaction, entry, now, &mut outcome)?;
                }
                let summary = format!(
                    "images from {from}: {} imported, {} updated",
                    outcome.imported, outcome.updated
                );
                let event = NewEvent::new("catalog.entries.imported", from, summary);
                transaction
                    .record(&event.caused_by(&author).with(serde_json::to_value(&outcome)?))?;
                Ok(outcome)
            })
            .await?;
        self.snapshots.refresh().await?;
        Ok(imported)
    }

    /// Restores a deleted entry.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when the catalog has the image again, or another one with its name.
    pub async fn restore(&self, caller: &ClientContext, entry: Stored) -> Result<()> {
        let author = caller.author();
        self.db
            .write(move |transaction| {
                let conflict = |detail: String| Err(Error::new(ErrorKind::Conflict, detail));
                if let Some((_, false)) = store::catalog::by_src(transaction, &entry.src)? {
                    return conflict(format!(
                        "cannot undo: {} is already in the catalog again",
                        entry.src
                    ));
                }
                if store::catalog::is_name_taken(transaction, &entry.name, &entry.src)? {
                    return conflict(format!(
                        "cannot undo: another entry is now named {}",
                        entry.name
                    ));
                }
                store::catalog::put(transaction, &entry)?;
                let event = NewEvent::new(
                    "catalog.entry.added",
                    entry.src.clone(),
                    format!("restored {}", entry.name),
                );
                let event = event.caused_by(&author).with(json!({ "is_undo": true }));
                transaction.record(&event).map(drop)
            })
            .await?;
        self.snapshots.refresh().await
    }
}

/// Maximum number of requests to origins at a time.
const ASKED_AT_A_TIME: usize = 8;

/// Refuses what an API client must not name: files on the server, and URLs with a password, which
/// other operators would see.
fn check_foreign(what: &str, address: &str) -> Result<()> {
    if let Location::File(_) | Location::Stdin = address.parse::<Location>()? {
        return Err(Error::invalid(format!(
            "{what}: expected an http://, https:// or oras:// address, not a file on the server"
        )));
    }
    if redact::has_credentials(address) {
        let detail = format!(
            "{what}: the address must not contain a user name or a password; serve the file where \
             no login is needed"
        );
        return Err(Error::invalid(detail));
    }
    Ok(())
}

fn stored(
    entry: &Entry,
    resolved: Option<&Resolved>,
    sha_url: Option<String>,
    now: Time,
) -> Stored {
    Stored {
        bty_image_ref: entry.image_ref().to_string(),
        src: entry.src().to_owned(),
        resolved_src: resolved.map(|resolved| resolved.src.clone()),
        resolved_at: resolved.map(|_| now),
        disk_image_sha: entry.sha256.map(|digest| digest.to_string()),
        // with a packed form beside the image, it is the index of that
        index_sha256: entry
            .index_sha256
            .filter(|_| entry.packed.is_none())
            .map(|digest| digest.to_string()),
        name: entry.name.clone(),
        sha_url,
        format: entry.format.clone(),
        size_bytes: entry.size_bytes,
        description: entry.description.clone(),
        arch: entry.arch.clone(),
        is_tag: is_tag(entry.src()),
        moved_at: None,
        added_at: now,
    }
}

/// Refuses a catalog source that an API client must not import. `may_read_files` is true for
/// admins, who may name files on the server.
///
/// # Errors
/// - [`ErrorKind::Forbidden`] for a file, whether it exists or not.
/// - [`ErrorKind::Invalid`] for an invalid URL, or one with a password.
pub fn check_source(source: &str, may_read_files: bool) -> Result<()> {
    match source.parse::<Location>().map_err(|e| Error::invalid(format!("source: {e:#}")))? {
        Location::File(_) if may_read_files => Ok(()),
        Location::File(_) | Location::Stdin => {
            let detail = "source: a file on the server requires the scope admin; give an http://, \
                          https:// or oras:// address, or upload the catalog";
            Err(Error::new(ErrorKind::Forbidden, detail))
        }
        _ => check_foreign("source", source),
    }
}

fn import_one(
    conn: &store::Connection,
    mut entry: Stored,
    now: Time,
    outcome: &mut Imported,
) -> Result<()> {
    let known = store::catalog::by_src(conn, &entry.src)?;
    match known {
        Some((_, true)) => outcome.skipped += 1,
        Some((known, false)) => {
            entry.added_at = known.added_at;
            entry.moved_at = known.moved_at;
            entry.src.clone_from(&known.src);
            entry.sha_url = entry.sha_url.or(known.sha_url.clone());
            let same = Stored { resolved_at: known.resolved_at, ..entry.clone() } == known;
            if same || (entry.disk_image_sha.is_none() && known.disk_image_sha.is_some()) {
                outcome.skipped += 1;
            } else if store::catalog::is_name_taken(conn, &entry.name, &entry.src)? {
                outcome.errors.push(ImportError {
                    name: entry.name,
                    error: "an entry with this name already exists".into(),
                });
            } else {
                if entry.disk_image_sha != known.disk_image_sha {
                    entry.moved_at = Some(now);
                }
                store::catalog::put(conn, &entry)?;
                outcome.updated += 1;
            }
        }
        None if store::catalog::is_name_taken(conn, &entry.name, &entry.src)? => {
            outcome.errors.push(ImportError {
                name: entry.name,
                error: "an entry with this name already exists".into(),
            });
        }
        None => {
            store::catalog::put_new(conn, &entry)?;
            outcome.imported += 1;
        }
    }
    Ok(())
}

/// Returns the entries for the database, each with the error of resolving its tag, if any.
fn resolve_all(client: &Client, entries: &[Entry], now: Time) -> Vec<(Stored, Option<String>)> {
    let one = |entry: &Entry| {
        if !is_tag(entry.src()) {
            return (stored(entry, None, None, now), None);
        }
        match resolve(client, entry.src()) {
            Ok(resolved) => {
                let mut entry = entry.clone();
                entry.sha256 = resolved.sha256.or(entry.sha256);
                entry.size_bytes = resolved.size_bytes.or(entry.size_bytes);
                (stored(&entry, Some(&resolved), None, now), None)
            }
            Err(error) => {
                (stored(entry, None, None, now), Some(format!("kept unchanged: {}", error.detail)))
            }
        }
    };
    let unresolved =
        |entry: &Entry| (stored(entry, None, None, now), Some("it could not be resolved".into()));
    let resolved = concurrently(entries, one);
    resolved.into_iter().zip(entries).map(|(one, e)| one.unwrap_or_else(|| unresolved(e))).collect()
}

/// Calls `ask`, which waits for a server, for several items at a time. Returns the results in the
/// order of the items; `None` for one that panicked.
pub(super) fn concurrently<T: Sync, R: Send>(
    items: &[T],
    ask: impl Fn(&T) -> R + Sync,
) -> Vec<Option<R>> {
    let mut done = Vec::with_capacity(items.len());
    for chunk in items.chunks(ASKED_AT_A_TIME) {
        std::thread::scope(|scope| {
            let threads: Vec<_> = chunk.iter().map(|item| scope.spawn(|| ask(item))).collect();
            done.extend(threads.into_iter().map(|thread| thread.join().ok()));
        });
    }
    done
}

/// Parses an uploaded catalog.
///
/// # Errors
/// [`ErrorKind::Invalid`] with the problem and its location.
pub fn parse(bytes: &[u8]) -> Result<Catalog> {
    Catalog::parse(bytes).map_err(|e| {
        let problem = Problem::new("catalog", format!("{e:#}"));
        Error::invalid("invalid catalog").with_problems(vec![problem])
    })
}
