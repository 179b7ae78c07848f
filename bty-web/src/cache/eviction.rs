//! Eviction: removes objects and packed forms when space runs short.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bty::Digest;
use serde_json::json;

use super::address::Key;
use super::index::Index;
use super::object::CacheObject;
use super::storage::{Storage, remove_file};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::NewEvent;
use crate::domain::time::Time;
use crate::state_dir::free_bytes;
use crate::store::cache::{self as rows, ObjectRecord};

/// Disk space that the cache leaves free.
const SPARE_BYTES: u64 = 64 << 20;

/// Time after which an object that nobody requested makes room for packed forms.
const UNUSED_MS: i64 = 7 * 24 * 3600 * 1000;

/// What needs room, and may displace other things.
#[derive(Clone, Copy)]
pub(super) enum Claim<'a> {
    /// The fill with this key. It displaces, in this order: interrupted fills, objects that were not
    /// requested for a week, the packed form that is being written, other packed forms, and other
    /// objects.
    Fill(&'a Key),
    /// A packed form. It displaces only interrupted fills and objects that were not requested for a
    /// week, so that packing never makes the cache fetch an object again.
    Packing,
}

/// Something that was evicted.
enum Evicted {
    Part(Key),
    Packed(Digest),
    Object(ObjectRecord),
}

impl Storage {
    /// Makes space for a file that will have `total` bytes, `here` of which are already on disk.
    /// Keeps pinned objects, and what is being read.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] if nothing else can be evicted.
    pub(super) fn make_room(&self, claim: Claim<'_>, total: u64, here: u64) -> Result<()> {
        let mut evicted = Vec::new();
        let made = self.evict_until_fits(claim, total, here, &mut evicted);
        self.counters.evictions.fetch_add(evicted.len() as u64, Ordering::Relaxed);
        self.db.write_blocking(move |t| {
            for evicted in &evicted {
                let record = match evicted {
                    Evicted::Part(key) => {
                        rows::delete_part(t, key)?;
                        continue;
                    }
                    Evicted::Packed(sha256) => {
                        rows::delete_packed(t, sha256)?;
                        continue;
                    }
                    Evicted::Object(record) => record,
                };
                rows::delete_object(t, &record.key)?;
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

    /// Removes files and index entries until the file fits, and adds them to `evicted`. For packing,
    /// removes nothing unless that makes enough room.
    fn evict_until_fits(
        &self,
        claim: Claim<'_>,
        total: u64,
        here: u64,
        evicted: &mut Vec<Evicted>,
    ) -> Result<()> {
        let mut index = self.index();
        reserve(&mut index, claim, total);
        let unused_since = Time::now().plus_ms(-UNUSED_MS);
        if matches!(claim, Claim::Packing)
            && self.missing(&index, total, here) > unused_bytes(&index, unused_since)
        {
            reserve(&mut index, claim, here);
            return Err(self.full(total));
        }
        while self.missing(&index, total, here) > 0 {
            let Some(victim) = victim(&index, claim, unused_since) else {
                reserve(&mut index, claim, here);
                return Err(self.full(total));
            };
            evicted.extend(self.remove(&mut index, victim));
        }
        Ok(())
    }

    /// Returns how many bytes must be freed for a file that will have `total` bytes.
    fn missing(&self, index: &Index, total: u64, here: u64) -> u64 {
        let over = self.max_bytes.map_or(0, |max| index.used_bytes().saturating_sub(max));
        let free = free_bytes(&self.dir).unwrap_or(u64::MAX);
        over.max((total - here.min(total) + SPARE_BYTES).saturating_sub(free))
    }

    fn remove(&self, index: &mut Index, victim: Victim) -> Option<Evicted> {
        match victim {
            Victim::Part(key) => {
                index.parts.remove(&key);
                remove_file(&self.part_path(&key));
                Some(Evicted::Part(key))
            }
            Victim::Packing => {
                index.packing.take()?.cancel.cancel();
                None
            }
            Victim::Packed(sha256) => {
                index.packed.remove(&sha256);
                remove_file(&self.packed_path(&sha256));
                Some(Evicted::Packed(sha256))
            }
            Victim::Object(key) => {
                let object = self.remove_entry(index, &key)?;
                Some(Evicted::Object(object.current()))
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

fn reserve(index: &mut Index, claim: Claim<'_>, bytes: u64) {
    match claim {
        Claim::Packing => {
            if let Some(packing) = &mut index.packing {
                packing.reserved_bytes = bytes;
            }
        }
        Claim::Fill(key) => {
            if let Some(fill) = index.fills.get(key) {
                fill.reserved_bytes.store(bytes, Ordering::Relaxed);
            }
        }
    }
}

/// Something that eviction can delete.
#[derive(Clone, Copy)]
enum Victim {
    Part(Key),
    Packing,
    Packed(Digest),
    Object(Key),
}

fn victim(index: &Index, claim: Claim<'_>, unused_since: Time) -> Option<Victim> {
    let oldest = idle(index).min_by_key(|object| object.used_at());
    let unused = unused(index, unused_since).min_by_key(|object| object.used_at());
    let object = |object: &Arc<CacheObject>| Victim::Object(object.record.key);
    let cheap = interrupted(index).map(Victim::Part).or_else(|| unused.map(object));
    match claim {
        Claim::Packing => cheap,
        Claim::Fill(_) => cheap
            .or_else(|| index.packing.as_ref().map(|_| Victim::Packing))
            .or_else(|| unread_packed(index).map(Victim::Packed))
            .or_else(|| oldest.map(object)),
    }
}

/// Returns a fill that was interrupted and is not running.
fn interrupted(index: &Index) -> Option<Key> {
    index.parts.keys().find(|part| !index.fills.contains_key(part)).copied()
}

/// Returns the objects that are neither pinned nor being read, in any form.
fn idle(index: &Index) -> impl Iterator<Item = &Arc<CacheObject>> {
    let is_read = |object: &CacheObject| {
        index.packed.get(&object.record.sha256).is_some_and(|packed| Arc::strong_count(packed) > 1)
    };
    // the index holds one reference, and each reader another one
    let is_idle = move |object: &&Arc<CacheObject>| {
        !object.is_pinned() && Arc::strong_count(object) == 1 && !is_read(object)
    };
    index.objects.values().filter(is_idle)
}

/// Returns the idle objects that nobody used since then, except the one that is being packed.
fn unused(index: &Index, since: Time) -> impl Iterator<Item = &Arc<CacheObject>> {
    let packing = index.packing.as_ref().map(|packing| packing.sha256);
    idle(index)
        .filter(move |object| object.used_at() < since && Some(object.record.sha256) != packing)
}

/// Returns the packed form whose object was used longest ago, unless it is being read.
fn unread_packed(index: &Index) -> Option<Digest> {
    let unread = index
        .packed
        .values()
        .filter(|record| record.file_bytes() > 0 && Arc::strong_count(record) == 1);
    let used_at = |sha256: &Digest| index.with_content(sha256).map(|object| object.used_at());
    unread.min_by_key(|record| used_at(&record.sha256)).map(|record| record.sha256)
}

/// Returns the bytes that packing may displace.
fn unused_bytes(index: &Index, unused_since: Time) -> u64 {
    let parts: u64 = index
        .parts
        .values()
        .filter(|part| !index.fills.contains_key(&part.key))
        .map(|part| part.kept_bytes)
        .sum();
    let objects = unused(index, unused_since).map(|object| object.record.size_bytes);
    parts + objects.sum::<u64>()
}
