//! Counters of the cache host since the start of the process, and a snapshot of them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a cache host since the start of the process.
#[derive(Debug, Default)]
pub struct CacheCounters {
    /// Responses from complete objects.
    pub hits: AtomicU64,
    /// Requests that joined a running fill.
    pub joined: AtomicU64,
    /// Requests for objects that were not cached.
    pub misses: AtomicU64,
    /// Responses from complete objects whose origin did not respond to a check.
    pub stale: AtomicU64,
    /// Fills that succeeded.
    pub fills: AtomicU64,
    /// Fills that failed or were cancelled.
    pub failures: AtomicU64,
    /// Objects, packed forms and interrupted fills that were evicted.
    pub evictions: AtomicU64,
    /// Bytes of objects sent to clients.
    pub sent_bytes: AtomicU64,
    /// Bytes received from origins.
    pub fetched_bytes: AtomicU64,
}

/// A snapshot of the counters and the size of a cache host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheStats {
    /// Bytes of complete objects, their packed forms and interrupted fills, and those reserved by
    /// running fills and by packing.
    pub used_bytes: u64,
    /// Responses from complete objects.
    pub hits: u64,
    /// Requests that joined a running fill.
    pub joined: u64,
    /// Requests for objects that were not cached.
    pub misses: u64,
    /// Responses from complete objects whose origin did not respond to a check.
    pub stale: u64,
    /// Objects, packed forms and interrupted fills that were evicted.
    pub evictions: u64,
    /// Bytes of objects sent to clients.
    pub sent_bytes: u64,
    /// Bytes of objects received from origins.
    pub fetched_bytes: u64,
}

impl CacheCounters {
    pub(super) fn snapshot(&self, used_bytes: u64) -> CacheStats {
        CacheStats {
            used_bytes,
            hits: self.hits.load(Ordering::Relaxed),
            joined: self.joined.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            stale: self.stale.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            fetched_bytes: self.fetched_bytes.load(Ordering::Relaxed),
        }
    }
}
