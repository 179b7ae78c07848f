//! What a cache host keeps of its objects across restarts.

use bty::Digest;

use crate::domain::time::Time;

/// A complete object.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredObject {
    /// Its key, which is also the name of its file.
    pub key: Digest,
    /// Its address at the origin.
    pub address: String,
    /// The entity tag that clients get.
    pub etag: String,
    /// The entity tag or modification time of the origin.
    pub version: Option<String>,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Its address contains its digest, so it cannot change at the origin.
    pub is_fixed: bool,
    /// It is never evicted.
    pub is_pinned: bool,
    /// Number of requests for it.
    pub hits: u64,
    /// When its download completed.
    pub fetched_at: Time,
    /// When the origin was last asked whether it has changed.
    pub checked_at: Time,
    /// When a client last asked for it.
    pub used_at: Time,
}

/// An object whose download was interrupted, as far as its bytes are durable.
#[derive(Clone, Debug, PartialEq)]
pub struct PartialObject {
    /// Its key.
    pub key: Digest,
    /// Its address at the origin.
    pub address: String,
    /// The entity tag that clients get.
    pub etag: String,
    /// The entity tag or modification time of the origin.
    pub version: String,
    /// Number of bytes on the disk.
    pub kept_bytes: u64,
}
