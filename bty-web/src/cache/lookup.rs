//! The results of looking for an object, and for its packed form.

use std::fs::File;
use std::sync::Arc;

use bty::Digest;

use super::fill::Fill;
use super::object::CacheObject;
use crate::store::cache::PackedRecord;

/// A cached object, or one that is being filled.
#[derive(Clone)]
pub enum Lookup {
    /// The object is complete.
    Whole {
        /// The object. It cannot be evicted while this reference exists.
        object: Arc<CacheObject>,
        /// Its file. It stays readable even if an operator deletes the object.
        file: Arc<File>,
        /// True if the origin did not respond when asked whether the object has changed.
        is_stale: bool,
    },
    /// The object is being transferred from its origin.
    Filling(Arc<Fill>),
}

/// A packed form whose file is open. It cannot be evicted while this reference exists.
pub(super) struct PackedFile {
    pub(super) file: Arc<File>,
    /// `ETag` for clients, with its quotes.
    pub(super) etag: String,
    pub(super) size_bytes: u64,
    pub(super) index_sha256: Digest,
    /// Keeps the form and its object from being evicted.
    pub(super) kept: (Arc<PackedRecord>, Arc<CacheObject>),
}
