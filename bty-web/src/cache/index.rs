//! The in-memory index of cached objects.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bty::{CancelToken, Digest};

use super::address::{Address, Key, blob_key};
use super::fill::Fill;
use super::object::CacheObject;
use crate::domain::time::Time;
use crate::store::cache::{PackedRecord, PartRecord};

/// Everything that is cached or being filled, by key. While the lock on the index is held, the file
/// of each object in `objects` exists: a file and its entry are removed under the same lock.
#[derive(Default)]
pub(super) struct Index {
    pub(super) objects: HashMap<Key, Arc<CacheObject>>,
    pub(super) fills: HashMap<Key, Arc<Fill>>,
    /// Durable parts of interrupted and running fills.
    pub(super) parts: HashMap<Key, PartRecord>,
    /// Outcomes of packing, by the SHA-256 of the objects. While something else holds a reference
    /// to one, its file is being read.
    pub(super) packed: HashMap<Digest, Arc<PackedRecord>>,
    /// The object that is being packed.
    pub(super) packing: Option<Packing>,
    /// Digests of tags by URL, and when the registry was asked.
    pub(super) tags: HashMap<String, (Digest, Time)>,
}

/// The packing of an object. It keeps neither the object nor its own room: when one of them is
/// evicted, it is cancelled.
pub(super) struct Packing {
    /// SHA-256 of the object.
    pub(super) sha256: Digest,
    /// Disk space that counts as used for the packed form.
    pub(super) reserved_bytes: u64,
    pub(super) cancel: CancelToken,
}

impl Index {
    /// Returns the key of `address`; for a tag, only once it has been resolved.
    pub(super) fn key_of(&self, address: &Address, keep_query: bool) -> Key {
        self.digest_of(address).map_or_else(|| address.key(keep_query), blob_key)
    }

    /// Returns the digest that a registry URL refers to, if it is known.
    fn digest_of(&self, address: &Address) -> Option<Digest> {
        let Address::Registry(reference) = address else { return None };
        let named =
            reference.digest().filter(|digest| self.objects.contains_key(&blob_key(*digest)));
        named.or_else(|| self.tags.get(&address.to_string()).map(|(digest, _)| *digest))
    }

    /// True if the object is cached or being filled.
    pub(super) fn holds(&self, key: &Key) -> bool {
        self.objects.contains_key(key) || self.fills.contains_key(key)
    }

    /// Returns the most recently used object with this content.
    pub(super) fn with_content(&self, sha256: &Digest) -> Option<&Arc<CacheObject>> {
        let same = self.objects.values().filter(|object| object.record.sha256 == *sha256);
        same.max_by_key(|object| object.used_at())
    }

    /// Returns the bytes of complete objects, of their packed forms and of interrupted fills, and
    /// those reserved by running fills and by packing.
    pub(super) fn used_bytes(&self) -> u64 {
        let objects: u64 = self.objects.values().map(|object| object.record.size_bytes).sum();
        let parts: u64 = self
            .parts
            .values()
            .filter(|part| !self.fills.contains_key(&part.key))
            .map(|part| part.kept_bytes)
            .sum();
        let fills: u64 =
            self.fills.values().map(|fill| fill.reserved_bytes.load(Ordering::Relaxed)).sum();
        let packed: u64 = self.packed.values().map(|record| record.file_bytes()).sum();
        let packing = self.packing.as_ref().map_or(0, |packing| packing.reserved_bytes);
        objects + packed + packing + parts + fills
    }
}
