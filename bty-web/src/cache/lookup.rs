//! The result of looking for an object.

use std::fs::File;
use std::sync::Arc;

use super::fill::Fill;
use super::object::CacheObject;

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
