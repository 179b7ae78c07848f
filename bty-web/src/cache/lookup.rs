//! The result of looking for an object.

use std::fs::File;
use std::sync::Arc;

use super::fill::Fill;
use super::object::CacheObject;

/// An object that is cached, or being filled.
#[derive(Clone)]
pub enum Lookup {
    /// The object is complete.
    Whole {
        /// The object. It is not evicted while this reference exists.
        object: Arc<CacheObject>,
        /// Its file. It stays readable after an operator has deleted the object.
        file: Arc<File>,
        /// The origin did not answer whether the object has changed.
        is_stale: bool,
    },
    /// The object is being transferred from its origin.
    Filling(Arc<Fill>),
}
