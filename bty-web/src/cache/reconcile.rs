//! Startup of the cache host: compares the database with the files in the directory.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bty::Digest;

use super::address::Key;
use super::index::Index;
use super::object::CacheObject;
use super::storage::{PACKED_DIR, remove_file};
use crate::domain::error::Result;
use crate::domain::event::NewEvent;
use crate::store::cache::{self as rows, PackOutcome, PackedRecord};
use crate::store::database::Database;

/// Loads the index. Deletes records without a file of the right length, and files without a record.
pub(super) fn reconcile(dir: &Path, db: &Database) -> Result<Index> {
    let (objects, parts, tags, packed) = db.read_blocking(|conn| {
        Ok((rows::objects(conn)?, rows::parts(conn)?, rows::tags(conn)?, rows::packed(conn)?))
    })?;
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
    let lost_packed = reconcile_packed(&dir.join(PACKED_DIR), &mut index, packed)?;
    db.write_blocking(move |t| {
        for (key, address) in &lost_objects {
            rows::delete_object(t, key)?;
            let summary = format!("the file of {address} is missing or has the wrong length");
            t.record(&NewEvent::new("cache.object.lost", address.clone(), summary))?;
        }
        lost_packed.iter().try_for_each(|sha256| rows::delete_packed(t, sha256))?;
        lost_parts.iter().try_for_each(|key| rows::delete_part(t, key))
    })?;
    Ok(index)
}

/// Adds the packed forms to the index whose object and file are there, and returns the digests of
/// the others. Removes all other files, which an interrupted packing has left: it starts over.
fn reconcile_packed(
    dir: &Path,
    index: &mut Index,
    packed: Vec<PackedRecord>,
) -> Result<Vec<Digest>> {
    std::fs::create_dir_all(dir)?;
    let mut files = HashMap::new();
    for entry in std::fs::read_dir(dir)?.flatten() {
        files.insert(entry.file_name().to_string_lossy().into_owned(), entry.path());
    }
    let mut lost = Vec::new();
    for record in packed {
        let name = format!("{}.img.zst", record.sha256);
        let len = files.get(&name).and_then(|path| path.metadata().ok()).map(|meta| meta.len());
        let is_whole = match &record.outcome {
            PackOutcome::Packed { size_bytes, .. } => len == Some(*size_bytes),
            _ => true,
        };
        if is_whole && index.with_content(&record.sha256).is_some() {
            if record.file_bytes() > 0 {
                files.remove(&name);
            }
            index.packed.insert(record.sha256, Arc::new(record));
        } else {
            lost.push(record.sha256);
        }
    }
    files.values().for_each(|path| remove_file(path));
    Ok(lost)
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
            remove_file(&entry.path());
        }
    }
    Ok(())
}
