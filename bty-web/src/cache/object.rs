//! A complete object, and the data that changes while it is served.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use bty::Digest;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::time::Time;
use crate::store::cache::ObjectRecord;

/// A complete object. It cannot be evicted while anything but the index holds a reference to it.
#[derive(Debug)]
pub struct CacheObject {
    /// The record as loaded. Its hits, times and pin are outdated; see [`current`](Self::current).
    pub record: ObjectRecord,
    hits: AtomicU64,
    used_at: AtomicI64,
    checked_at: AtomicI64,
    is_pinned: AtomicBool,
    is_unsaved: AtomicBool,
}

impl CacheObject {
    pub(super) fn new(record: ObjectRecord) -> Self {
        Self {
            hits: record.hits.into(),
            used_at: record.used_at.0.into(),
            checked_at: record.checked_at.0.into(),
            is_pinned: record.is_pinned.into(),
            is_unsaved: false.into(),
            record,
        }
    }

    /// Returns the record with the current hits, times and pin.
    #[must_use]
    pub fn current(&self) -> ObjectRecord {
        ObjectRecord {
            hits: self.hits.load(Ordering::Relaxed),
            used_at: self.used_at(),
            checked_at: self.checked_at(),
            is_pinned: self.is_pinned(),
            ..self.record.clone()
        }
    }

    pub(super) fn count_hit(&self, now: Time) {
        self.hits.fetch_add(1, Ordering::Relaxed);
        self.used_at.store(now.0, Ordering::Relaxed);
        self.is_unsaved.store(true, Ordering::Relaxed);
    }

    pub(super) fn used_at(&self) -> Time {
        Time(self.used_at.load(Ordering::Relaxed))
    }

    pub(super) fn checked_at(&self) -> Time {
        Time(self.checked_at.load(Ordering::Relaxed))
    }

    pub(super) fn set_checked_at(&self, now: Time) {
        self.checked_at.store(now.0, Ordering::Relaxed);
        self.is_unsaved.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.is_pinned.load(Ordering::Relaxed)
    }

    pub(super) fn set_pinned(&self, is_pinned: bool) {
        self.is_pinned.store(is_pinned, Ordering::Relaxed);
    }

    /// Returns true if hits or times have changed since the last call.
    pub(super) fn take_unsaved(&self) -> bool {
        self.is_unsaved.swap(false, Ordering::Relaxed)
    }

    /// Fails with [`ErrorKind::Upstream`] if the client expects different content.
    pub(super) fn check_digest(&self, expected: Option<Digest>) -> Result<()> {
        match expected {
            Some(digest) if digest != self.record.sha256 => {
                let (address, found) = (&self.record.address, self.record.sha256);
                Err(Error::new(
                    ErrorKind::Upstream,
                    format!("{address} has the SHA-256 {found}, not {digest}"),
                ))
            }
            _ => Ok(()),
        }
    }
}
