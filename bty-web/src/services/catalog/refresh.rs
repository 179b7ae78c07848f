//! Reading the origins of images again, to learn of versions published anew at the same address.

use serde::Serialize;
use serde_json::json;

use super::{CatalogEdits, ImportError, concurrently, listed_digest, resolve};
use crate::blocking::blocking;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Actor, Author, NewEvent};
use crate::domain::machine::ClientContext;
use crate::domain::time::Time;
use crate::store::{self, Connection, catalog::Stored};

/// Result of a refresh.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct Refreshed {
    /// Number of images that were checked, including those that failed.
    pub checked: usize,
    /// Names of images with another digest than before.
    pub moved: Vec<String>,
    /// The same images with their digests.
    pub moves: Vec<ImageMove>,
    /// Images whose origin could not be read.
    pub errors: Vec<ImportError>,
}

/// An image with another digest than before.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ImageMove {
    /// Name of the image in the catalog.
    pub name: String,
    /// Address of the image in the catalog.
    pub src: String,
    /// Its SHA-256 before.
    pub old: Option<String>,
    /// Its SHA-256 now.
    pub new: Option<String>,
    /// When the server learned of it.
    #[schema(value_type = String, format = DateTime)]
    pub at: Time,
}

/// What an origin says about an entry: the entry as it should be, or why it is unknown.
type Update = Result<Stored, ImportError>;

impl CatalogEdits {
    /// Resolves all tags of the catalog and reads all checksum files again, or only that of the
    /// image with the URL `src`. Takes the digests that they have now.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when `src` is not in the catalog.
    pub async fn refresh(
        &self,
        caller: &ClientContext,
        actor: Actor,
        src: Option<String>,
    ) -> Result<Refreshed> {
        let mut entries = self.db.read(store::catalog::all).await?;
        match src {
            None => entries.retain(Stored::is_rolling),
            Some(src) => {
                entries.retain(|entry| entry.src == src);
                if entries.is_empty() {
                    return Err(Error::not_found(format!("the image {src}")));
                }
            }
        }
        let updates = self.ask_origins(entries, caller.now).await?;
        let (author, now) = (Author { actor, ..caller.author() }, caller.now);
        let refreshed = self
            .db
            .write(move |transaction| {
                let mut outcome = Refreshed { checked: updates.len(), ..Refreshed::default() };
                for update in updates {
                    match update {
                        Err(error) => outcome.errors.push(error),
                        Ok(entry) => outcome.moves.extend(take(transaction, &entry, now)?),
                    }
                }
                for moved in &outcome.moves {
                    transaction.record(&moved.event().caused_by(&author))?;
                }
                outcome.moved = outcome.moves.iter().map(|moved| moved.name.clone()).collect();
                let summary = format!(
                    "images checked: {}, with another digest: {}",
                    outcome.checked,
                    outcome.moved.len()
                );
                let event = NewEvent::new("catalog.entries.refreshed", "", summary)
                    .with(serde_json::to_value(&outcome)?);
                transaction.record(&event.caused_by(&author))?;
                Ok(outcome)
            })
            .await?;
        self.snapshots.refresh().await?;
        Ok(refreshed)
    }

    /// Reads the checksum file of the image with this reference again, before a machine writes the
    /// image, and takes the digest that it has now. Records nothing if that is the known one.
    ///
    /// # Errors
    /// [`ErrorKind::Upstream`] when the origin cannot be read.
    pub async fn refresh_before_flash(&self, image_ref: &str) -> Result<()> {
        let mut entries = self.db.read(store::catalog::all).await?;
        entries.retain(|entry| entry.bty_image_ref == image_ref && entry.sha_url.is_some());
        let now = Time::now();
        let updates = self.ask_origins(entries, now).await?;
        let failed = |error: ImportError| Error::new(ErrorKind::Upstream, error.error);
        let updates = updates.into_iter().collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let write = move |transaction: &store::Transaction<'_>| {
            let mut has_moved = false;
            for entry in &updates {
                if let Some(moved) = take(transaction, entry, now)? {
                    transaction.record(&moved.event().by(Actor::System, None))?;
                    has_moved = true;
                }
            }
            Ok(has_moved)
        };
        match self.db.write(write).await? {
            true => self.snapshots.refresh().await,
            false => Ok(()),
        }
    }

    /// Asks the origins of `entries` for digests and sizes.
    async fn ask_origins(&self, entries: Vec<Stored>, now: Time) -> Result<Vec<Update>> {
        let service = self.clone();
        let ask = move || {
            let updates = concurrently(&entries, |entry| service.ask_origin(entry.clone(), now));
            let lost = |entry: &Stored| {
                let error = "it could not be resolved".into();
                Err(ImportError { name: entry.name.clone(), error })
            };
            updates
                .into_iter()
                .zip(&entries)
                .map(|(update, entry)| update.unwrap_or_else(|| lost(entry)))
                .collect()
        };
        blocking(ask).await
    }

    fn ask_origin(&self, mut entry: Stored, now: Time) -> Update {
        let failed = |error: Error| ImportError { name: entry.name.clone(), error: error.detail };
        let resolved = resolve(&self.client, &entry.src).map_err(failed)?;
        let listed = entry.sha_url.as_deref();
        let listed = listed.map(|url| listed_digest(&self.client, url, &entry.src));
        let sha256 = listed.transpose().map_err(failed)?.or(resolved.sha256);
        entry.resolved_src = Some(resolved.src);
        entry.resolved_at = Some(now);
        entry.size_bytes = resolved.size_bytes.or(entry.size_bytes);
        if let Some(sha256) = sha256 {
            entry.set_digest(Some(sha256.to_string()), now);
        }
        Ok(entry)
    }
}

/// Stores an entry as its origin has it now. Returns how its digest has moved, if it has.
fn take(conn: &Connection, entry: &Stored, now: Time) -> Result<Option<ImageMove>> {
    // an operator may have deleted it in the meantime
    let Some((known, false)) = store::catalog::by_src(conn, &entry.src)? else { return Ok(None) };
    store::catalog::put(conn, entry)?;
    let moved = (known.disk_image_sha != entry.disk_image_sha).then(|| ImageMove {
        name: entry.name.clone(),
        src: entry.src.clone(),
        old: known.disk_image_sha,
        new: entry.disk_image_sha.clone(),
        at: now,
    });
    Ok(moved)
}

impl ImageMove {
    fn event(&self) -> NewEvent {
        let shown = |digest: &Option<String>| digest.clone().unwrap_or_else(|| "unknown".into());
        let (old, new) = (shown(&self.old), shown(&self.new));
        let summary = format!("{} has moved: SHA-256 {old} -> {new}", self.name);
        NewEvent::new("catalog.entry.moved", self.src.clone(), summary)
            .with(json!({ "old": self.old, "new": self.new, "name": self.name }))
    }
}
