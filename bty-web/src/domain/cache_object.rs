//! What a cache host keeps of its objects across restarts.

use bty::Digest;

use crate::domain::time::Time;

/// What is known of a whole object.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredObject {
    /// Name of its file.
    pub key: Digest,
    /// Where it came from.
    pub address: String,
    /// What clients know this version by.
    pub etag: String,
    /// What the origin knows it by.
    pub version: Option<String>,
    /// Digest of its bytes.
    pub sha256: Digest,
    /// Its length.
    pub size_bytes: u64,
    /// Its address names its bytes: it cannot change.
    pub is_fixed: bool,
    /// It is never evicted.
    pub is_pinned: bool,
    /// How often it was asked for.
    pub hits: u64,
    /// When it came.
    pub fetched_at: Time,
    /// When its origin was last asked whether it has changed.
    pub checked_at: Time,
    /// When it was last asked for.
    pub used_at: Time,
}

/// What is durable of a fill that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct PartialObject {
    /// What the object is kept by.
    pub key: Digest,
    /// Where it comes from.
    pub address: String,
    /// What clients know this version by.
    pub etag: String,
    /// What the origin knows it by.
    pub version: String,
    /// So much is durable.
    pub kept_bytes: u64,
}
