//! The files of a cache host, their index, and their records in the database.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bty::Digest;
use serde_json::json;

use super::address::{Address, Key};
use super::index::Index;
use super::lookup::Lookup;
use super::object::CacheObject;
use super::stats::CacheCounters;
use crate::domain::error::{Error, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::store::cache as rows;
use crate::store::database::Database;

/// Directory of the packed forms, below that of the objects.
pub(super) const PACKED_DIR: &str = "packed";

/// The directory, its index and its records. The file of an object is named by its key; that of a
/// fill ends in `.part`; that of a packed form is in [`PACKED_DIR`].
pub(super) struct Storage {
    pub(super) dir: PathBuf,
    /// Limit of [`Index::used_bytes`]; `None` if only the disk limits it.
    pub(super) max_bytes: Option<u64>,
    pub(super) db: Database,
    pub(super) counters: CacheCounters,
    /// Never held across a database write, which can take as long as the disk needs.
    index: Mutex<Index>,
}

impl Storage {
    pub(super) fn new(dir: PathBuf, max_bytes: Option<u64>, db: Database, index: Index) -> Self {
        Self { dir, max_bytes, db, counters: CacheCounters::default(), index: Mutex::new(index) }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(key.to_string())
    }

    pub(super) fn part_path(&self, key: &Key) -> PathBuf {
        self.dir.join(format!("{key}.part"))
    }

    /// Path of the packed form of the objects with this content.
    pub(super) fn packed_path(&self, sha256: &Digest) -> PathBuf {
        self.dir.join(PACKED_DIR).join(format!("{sha256}.img.zst"))
    }

    /// Removes an object and its file from the index, and its packed form unless another object has
    /// the same content.
    pub(super) fn remove_entry(&self, index: &mut Index, key: &Key) -> Option<Arc<CacheObject>> {
        let object = index.objects.remove(key)?;
        remove_file(&self.path(key));
        let sha256 = object.record.sha256;
        if index.with_content(&sha256).is_none() {
            if index.packed.remove(&sha256).is_some() {
                remove_file(&self.packed_path(&sha256));
            }
            if let Some(packing) = index.packing.take_if(|packing| packing.sha256 == sha256) {
                packing.cancel.cancel();
            }
        }
        Some(object)
    }

    /// Opens a complete object. `index` must be locked, so that the file is not removed meanwhile.
    pub(super) fn open(&self, index: &Index, key: &Key, is_stale: bool) -> Option<Lookup> {
        let object = Arc::clone(index.objects.get(key)?);
        match File::open(self.path(key)) {
            Ok(file) => Some(Lookup::Whole { object, file: Arc::new(file), is_stale }),
            Err(error) => {
                let address = &object.record.address;
                tracing::warn!(%error, address, "cannot open the file of a cached object");
                None
            }
        }
    }

    /// Returns the complete object with this key.
    pub(super) fn find(&self, key: &Key) -> Result<Arc<CacheObject>> {
        let found = self.index().objects.get(key).cloned();
        found.ok_or_else(|| Error::not_found(format!("the object {key}")))
    }

    /// Removes an object and its file, and records an event of this `kind`. Clients that are
    /// reading the file can read all of it.
    pub(super) async fn remove_object(
        &self,
        object: &Arc<CacheObject>,
        kind: &'static str,
        summary: String,
        actor: Actor,
    ) -> Result<()> {
        let key = object.record.key;
        {
            let mut index = self.index();
            // another version may have replaced it
            if index.objects.get(&key).is_some_and(|current| Arc::ptr_eq(current, object)) {
                self.remove_entry(&mut index, &key);
            }
        }
        let record = &object.record;
        let details =
            json!({ "size_bytes": record.size_bytes, "sha256": record.sha256.to_string() });
        let event = NewEvent::new(kind, record.address.clone(), summary).by(actor, None);
        let event = event.with(details);
        self.db
            .write(move |t| rows::delete_object(t, &key).and_then(|()| t.record(&event).map(drop)))
            .await
    }

    /// Counts a miss, and records it in the background.
    pub(super) fn record_miss(&self, key: Key, address: &Address) {
        self.counters.misses.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (db, address) = (self.db.clone(), address.to_string());
        tokio::spawn(async move {
            let counted = db.write(move |t| rows::count_miss(t, &key, &address, t.now())).await;
            if let Err(error) = counted {
                tracing::warn!(%error, "cannot record a cache miss");
            }
        });
    }

    /// Writes the hits and times that have changed since the last call.
    pub(super) async fn save_uses(&self) {
        let used: Vec<_> = self
            .index()
            .objects
            .values()
            .filter(|object| object.take_unsaved())
            .map(|object| object.current())
            .collect();
        if used.is_empty() {
            return;
        }
        let saved = self
            .db
            .write(move |t| used.iter().try_for_each(|record| rows::use_object(t, record)))
            .await;
        if let Err(error) = saved {
            tracing::warn!(%error, "cannot record when cached objects were used");
        }
    }
}

/// Removes a file, which may already be gone.
pub(super) fn remove_file(path: &Path) {
    if let Err(e) = std::fs::remove_file(path)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), error = %e, "cannot remove a file of the cache");
    }
}
