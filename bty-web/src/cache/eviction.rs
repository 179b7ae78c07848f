//! Room on the disk: what there is at the start, and who goes when there is not enough.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::address::Key;
use super::object::{Object, PartialObject};
use super::{Cache, Index, remove};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::NewEvent;
use crate::store::cache as rows;
use crate::store::database::Database;

/// So much of the disk is left to others.
const SPARE_BYTES: u64 = 64 << 20;

/// Compares what the database knows with what is there: what is not in both, is in neither
/// afterwards.
pub(super) fn take_stock(dir: &Path, db: &Database) -> Result<Index> {
    let (objects, parts, tags) =
        db.read_blocking(|conn| Ok((rows::objects(conn)?, rows::parts(conn)?, rows::tags(conn)?)))?;
    let mut held = Index::default();
    let mut lost: Vec<(Key, String)> = Vec::new();
    for facts in objects {
        let meta = dir.join(facts.key.to_string()).metadata();
        match meta.is_ok_and(|meta| meta.len() == facts.size_bytes) {
            true => drop(held.objects.insert(facts.key, Arc::new(Object::new(facts)))),
            false => lost.push((facts.key, facts.address)),
        }
    }
    let mut gone = Vec::new();
    for part in parts {
        let len = dir.join(format!("{}.part", part.key)).metadata().map_or(0, |meta| meta.len());
        match len >= part.kept_bytes && part.kept_bytes > 0 {
            true => drop(held.parts.insert(part.key, part)),
            false => gone.push(part.key),
        }
    }
    held.tags = tags.into_iter().map(|(address, digest, at)| (address, (digest, at))).collect();
    remove_strangers(dir, &held.objects, &held.parts)?;
    db.write_blocking(move |t| {
        for (key, address) in &lost {
            rows::delete_object(t, key)?;
            let event = NewEvent::new(
                "cache.object.lost",
                address.clone(),
                format!("{address}: its file is gone, or not as long as it was"),
            );
            t.record(&event)?;
        }
        gone.iter().try_for_each(|key| rows::delete_part(t, key))
    })?;
    Ok(held)
}

/// Removes files of ours that nobody knows of.
fn remove_strangers(
    dir: &Path,
    objects: &HashMap<Key, Arc<Object>>,
    parts: &HashMap<Key, PartialObject>,
) -> Result<()> {
    for entry in std::fs::read_dir(dir)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_known = match name.strip_suffix(".part") {
            Some(key) => key.parse().map(|key: Key| parts.contains_key(&key)),
            None => name.parse().map(|key: Key| objects.contains_key(&key)),
        };
        // what has no name of ours is not ours
        if is_known.is_ok_and(|is| !is) {
            remove(&entry.path());
        }
    }
    Ok(())
}

/// Bytes that are taken: of objects, of what is kept of fills, and of what fills will need.
pub(super) fn used(held: &Index) -> u64 {
    let objects: u64 = held.objects.values().map(|object| object.facts.size_bytes).sum();
    let parts: u64 = held
        .parts
        .values()
        .filter(|p| !held.fills.contains_key(&p.key))
        .map(|p| p.kept_bytes)
        .sum();
    let fills: u64 =
        held.fills.values().map(|fill| fill.reserved_bytes.load(Ordering::Relaxed)).sum();
    objects + parts + fills
}

impl Cache {
    /// Makes room, so that the fill of `key` can have `total` bytes, of which `here` are on the
    /// disk already. What was used longest ago goes first; what is pinned or being read stays.
    ///
    /// # Errors
    /// [`ErrorKind::Full`].
    pub(super) fn make_room(&self, key: &Key, total: u64, here: u64) -> Result<()> {
        let mut evicted = Vec::new();
        let made = {
            let mut held = self.held();
            if let Some(fill) = held.fills.get(key) {
                fill.reserved_bytes.store(total, Ordering::Relaxed);
            }
            loop {
                let over = self.options.max_bytes.map_or(0, |max| used(&held).saturating_sub(max));
                let missing = (total - here.min(total) + SPARE_BYTES)
                    .saturating_sub(free_bytes(&self.options.dir));
                if over.max(missing) == 0 {
                    break Ok(());
                }
                if let Some(part) =
                    held.parts.keys().find(|part| !held.fills.contains_key(part)).copied()
                {
                    held.parts.remove(&part);
                    remove(&self.part_path(&part));
                    evicted.push((part, None));
                    continue;
                }
                let idle = held
                    .objects
                    .values()
                    .filter(|object| !object.is_pinned() && Arc::strong_count(object) == 1);
                let Some(oldest) =
                    idle.min_by_key(|object| object.used_at()).map(|object| object.facts.key)
                else {
                    if let Some(fill) = held.fills.get(key) {
                        fill.reserved_bytes.store(here, Ordering::Relaxed);
                    }
                    break Err(self.is_full(total));
                };
                let object = held.objects.remove(&oldest);
                remove(&self.path(&oldest));
                evicted.push((oldest, object.map(|object| object.now())));
            }
        };
        self.counts.evictions.fetch_add(evicted.len() as u64, Ordering::Relaxed);
        self.db.write_blocking(move |t| {
            for (key, facts) in &evicted {
                rows::delete_part(t, key)?;
                let Some(facts) = facts else { continue };
                rows::delete_object(t, key)?;
                let event = NewEvent::new(
                    "cache.object.evicted",
                    facts.address.clone(),
                    format!("{} made room", facts.address),
                );
                t.record(
                    &event
                        .with(json!({ "size_bytes": facts.size_bytes, "used_at": facts.used_at, "hits": facts.hits })),
                )?;
            }
            Ok(())
        })?;
        made
    }

    fn is_full(&self, total: u64) -> Error {
        let limit = self.options.max_bytes.map_or_else(
            || "the disk has".to_owned(),
            |max| format!("the cache may have {}", bty::size::human(max)),
        );
        let detail = format!(
            "there is no room for {}: {limit}, and everything else is pinned or being read; unpin or delete something, or give it more room",
            bty::size::human(total)
        );
        Error::new(ErrorKind::Full, detail)
    }
}

fn free_bytes(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}
