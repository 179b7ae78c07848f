//! Eviction: removes objects when space runs short.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::address::Key;
use super::index::Index;
use super::storage::{Storage, remove_file};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::NewEvent;
use crate::state_dir::free_bytes;
use crate::store::cache::{self as rows, ObjectRecord};

/// Disk space that the cache leaves free.
const SPARE_BYTES: u64 = 64 << 20;

/// An evicted object, or an evicted interrupted fill, which has no record.
type Evicted = Vec<(Key, Option<ObjectRecord>)>;

impl Storage {
    /// Makes space for the fill of `key`, which will have `total` bytes, `here` of which are
    /// already on disk. Evicts interrupted fills first, then the least recently used objects. Keeps
    /// pinned objects and those being read.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] if nothing else can be evicted.
    pub(super) fn make_room(&self, key: &Key, total: u64, here: u64) -> Result<()> {
        let mut evicted = Vec::new();
        let made = self.evict_until_fits(key, total, here, &mut evicted);
        self.counters.evictions.fetch_add(evicted.len() as u64, Ordering::Relaxed);
        self.db.write_blocking(move |t| {
            for (key, record) in &evicted {
                rows::delete_part(t, key)?;
                let Some(record) = record else { continue };
                rows::delete_object(t, key)?;
                let address = &record.address;
                let summary = format!("evicted {address} to make room");
                let details = json!({
                    "size_bytes": record.size_bytes, "used_at": record.used_at, "hits": record.hits,
                });
                t.record(
                    &NewEvent::new("cache.object.evicted", address.clone(), summary).with(details),
                )?;
            }
            Ok(())
        })?;
        made
    }

    /// Removes files and index entries until the fill fits, and adds them to `evicted`.
    fn evict_until_fits(
        &self,
        key: &Key,
        total: u64,
        here: u64,
        evicted: &mut Evicted,
    ) -> Result<()> {
        let mut index = self.index();
        let reserve = |index: &Index, bytes: u64| {
            if let Some(fill) = index.fills.get(key) {
                fill.reserved_bytes.store(bytes, Ordering::Relaxed);
            }
        };
        reserve(&index, total);
        loop {
            let over = self.max_bytes.map_or(0, |max| index.used_bytes().saturating_sub(max));
            let free = free_bytes(&self.dir).unwrap_or(u64::MAX);
            let missing = (total - here.min(total) + SPARE_BYTES).saturating_sub(free);
            if over.max(missing) == 0 {
                return Ok(());
            }
            if let Some(part) = interrupted(&index) {
                index.parts.remove(&part);
                remove_file(&self.part_path(&part));
                evicted.push((part, None));
            } else if let Some(oldest) = least_recently_used(&index) {
                let object = index.objects.remove(&oldest);
                remove_file(&self.path(&oldest));
                evicted.push((oldest, object.map(|object| object.current())));
            } else {
                reserve(&index, here);
                return Err(self.full(total));
            }
        }
    }

    fn full(&self, total: u64) -> Error {
        let limit = self.max_bytes.map_or_else(
            || "the disk is full".to_owned(),
            |max| format!("cache.max_bytes is {}", bty::size::human(max)),
        );
        let detail = format!(
            "cannot cache {}: {limit}, and all other objects are pinned or in use; unpin or delete \
             objects, or raise cache.max_bytes",
            bty::size::human(total)
        );
        Error::new(ErrorKind::Full, detail)
    }
}

/// Returns a fill that was interrupted and is not running.
fn interrupted(index: &Index) -> Option<Key> {
    index.parts.keys().find(|part| !index.fills.contains_key(part)).copied()
}

/// Returns the least recently used object that is neither pinned nor being read.
fn least_recently_used(index: &Index) -> Option<Key> {
    let idle = index
        .objects
        .values()
        // the index holds one reference, and each reader another one
        .filter(|object| !object.is_pinned() && Arc::strong_count(object) == 1);
    idle.min_by_key(|object| object.used_at()).map(|object| object.record.key)
}
