//! Startup of the cache host: compares the database with the files in the directory.

use std::path::Path;
use std::sync::Arc;

use super::address::Key;
use super::index::Index;
use super::object::CacheObject;
use crate::domain::error::Result;
use crate::domain::event::NewEvent;
use crate::store::cache as rows;
use crate::store::database::Database;

/// Loads the index. Deletes records without a file of the right length, and files without a record.
pub(super) fn reconcile(dir: &Path, db: &Database) -> Result<Index> {
    let (objects, parts, tags) =
        db.read_blocking(|conn| Ok((rows::objects(conn)?, rows::parts(conn)?, rows::tags(conn)?)))?;
    let mut index = Index::default();
    let mut lost_objects: Vec<(Key, String)> = Vec::new();
    for record in objects {
        let meta = dir.join(record.key.to_string()).metadata();
        match meta.is_ok_and(|meta| meta.len() == record.size_bytes) {
            true => {
                index.objects.insert(record.key, Arc::new(CacheObject::new(record)));
            }
            false => lost_objects.push((record.key, record.address)),
        }
    }
    let mut lost_parts = Vec::new();
    for part in parts {
        let len = dir.join(format!("{}.part", part.key)).metadata().map_or(0, |meta| meta.len());
        match len >= part.kept_bytes && part.kept_bytes > 0 {
            true => {
                index.parts.insert(part.key, part);
            }
            false => lost_parts.push(part.key),
        }
    }
    index.tags = tags.into_iter().map(|(address, digest, at)| (address, (digest, at))).collect();
    remove_orphans(dir, &index)?;
    db.write_blocking(move |t| {
        for (key, address) in &lost_objects {
            rows::delete_object(t, key)?;
            let summary = format!("the file of {address} is missing or has the wrong length");
            t.record(&NewEvent::new("cache.object.lost", address.clone(), summary))?;
        }
        lost_parts.iter().try_for_each(|key| rows::delete_part(t, key))
    })?;
    Ok(index)
}

/// Removes files that are named like an object or a fill but have no record.
fn remove_orphans(dir: &Path, index: &Index) -> Result<()> {
    for entry in std::fs::read_dir(dir)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_known = match name.strip_suffix(".part") {
            Some(key) => key.parse().map(|key: Key| index.parts.contains_key(&key)),
            None => name.parse().map(|key: Key| index.objects.contains_key(&key)),
        };
        // keep other files, which do not belong to the cache
        if is_known.is_ok_and(|is_known| !is_known) {
            super::storage::remove_file(&entry.path());
        }
    }
    Ok(())
}
