//! What is kept: whole objects, and fills that are under way.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bty::{CancelToken, Digest};
use tokio::sync::watch;

use super::address::Key;
pub use crate::domain::cache_object::{PartialObject, StoredObject};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::time::Time;

/// A whole object. Who holds it, reads it: it is not evicted meanwhile.
#[derive(Debug)]
pub struct Object {
    /// What does not change.
    pub facts: StoredObject,
    hits: AtomicU64,
    used_at: AtomicI64,
    checked_at: AtomicI64,
    is_pinned: AtomicBool,
    is_unsaved: AtomicBool,
}

impl Object {
    pub(super) fn new(facts: StoredObject) -> Self {
        Self {
            hits: facts.hits.into(),
            used_at: facts.used_at.0.into(),
            checked_at: facts.checked_at.0.into(),
            is_pinned: facts.is_pinned.into(),
            is_unsaved: false.into(),
            facts,
        }
    }

    /// All that is known of it now.
    #[must_use]
    pub fn now(&self) -> StoredObject {
        let mut facts = self.facts.clone();
        facts.hits = self.hits.load(Ordering::Relaxed);
        facts.used_at = self.used_at();
        facts.checked_at = self.checked_at();
        facts.is_pinned = self.is_pinned();
        facts
    }

    pub(super) fn hit(&self, now: Time) {
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

    pub(super) fn checked(&self, now: Time) {
        self.checked_at.store(now.0, Ordering::Relaxed);
        self.is_unsaved.store(true, Ordering::Relaxed);
    }

    /// True when it is never evicted.
    pub(super) fn is_pinned(&self) -> bool {
        self.is_pinned.load(Ordering::Relaxed)
    }

    pub(super) fn pin(&self, is_pinned: bool) {
        self.is_pinned.store(is_pinned, Ordering::Relaxed);
    }

    /// True once after something about it has changed.
    pub(super) fn take_unsaved(&self) -> bool {
        self.is_unsaved.swap(false, Ordering::Relaxed)
    }
}

/// What is known about an object once its origin has answered.
#[derive(Clone, Debug)]
pub struct Opened {
    /// What clients know this version by.
    pub etag: String,
    /// Its length, where the origin tells it.
    pub len_bytes: Option<u64>,
    /// The file that is being filled.
    pub file: Arc<File>,
}

/// How far a fill is.
#[derive(Clone, Debug)]
pub enum Progress {
    /// The origin has not answered yet.
    Waiting,
    /// So many bytes can be read. The last byte of an object is only there once all of it is
    /// proven.
    Filling(u64),
    /// All of it is there.
    Whole(Arc<Object>),
    /// It has ended without.
    Failed(Error),
}

/// An object that is on its way from its origin.
pub struct Fill {
    /// What it will be kept by.
    pub key: Key,
    /// Where it comes from.
    pub address: String,
    /// When it began.
    pub started_at: Time,
    /// Ends it.
    pub cancel: CancelToken,
    /// Room that it has, or will need.
    pub(super) reserved_bytes: AtomicU64,
    pub(super) opened: Mutex<Option<Opened>>,
    pub(super) progress: watch::Sender<Progress>,
    /// Digests that clients want: when it has none of them, it is not kept.
    pub(super) wanted: Mutex<Vec<Digest>>,
}

impl Fill {
    pub(super) fn new(key: Key, address: String) -> Self {
        Self {
            key,
            address,
            started_at: Time::now(),
            cancel: CancelToken::new(),
            reserved_bytes: 0.into(),
            opened: Mutex::default(),
            progress: watch::Sender::new(Progress::Waiting),
            wanted: Mutex::default(),
        }
    }

    /// What is known of it by now.
    #[must_use]
    pub fn opened(&self) -> Option<Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes that are here.
    #[must_use]
    pub fn done_bytes(&self) -> u64 {
        match &*self.progress.borrow() {
            Progress::Filling(bytes) => *bytes,
            Progress::Whole(object) => object.facts.size_bytes,
            Progress::Waiting | Progress::Failed(_) => 0,
        }
    }

    /// Waits until the origin has answered.
    ///
    /// # Errors
    /// When it has answered badly.
    pub async fn wait_opened(&self) -> Result<Opened> {
        let mut progress = self.progress.subscribe();
        let answered = progress.wait_for(|progress| !matches!(progress, Progress::Waiting)).await;
        match &*answered.map_err(Error::internal)? {
            Progress::Failed(error) => Err(error.clone()),
            _ => self.opened().ok_or_else(|| Error::internal("a fill without facts")),
        }
    }

    /// Waits until the byte at `offset` can be read; gives where what can be read ends. `offset`
    /// itself means that the object ends there.
    ///
    /// # Errors
    /// When the fill fails, or the object has not the digest that is expected.
    pub async fn wait_for(&self, offset: u64, expected: Option<Digest>) -> Result<u64> {
        let mut progress = self.progress.subscribe();
        let is_over = |progress: &Progress| match progress {
            Progress::Waiting => false,
            Progress::Filling(bytes) => *bytes > offset,
            Progress::Whole(_) | Progress::Failed(_) => true,
        };
        let reached = progress.wait_for(is_over).await.map_err(Error::internal)?;
        match &*reached {
            Progress::Failed(error) => Err(error.clone()),
            Progress::Filling(bytes) => Ok(*bytes),
            Progress::Whole(object) => {
                check(object, expected)?;
                Ok(object.facts.size_bytes)
            }
            Progress::Waiting => Err(Error::internal("a fill that waits and is over")),
        }
    }
}

/// Refuses an object that has other bytes than who asks wants.
pub(super) fn check(object: &Object, expected: Option<Digest>) -> Result<()> {
    match expected {
        Some(digest) if digest != object.facts.sha256 => {
            let (address, found) = (&object.facts.address, object.facts.sha256);
            Err(Error::new(
                ErrorKind::Upstream,
                format!("{address} has the SHA-256 {found}, not {digest}"),
            ))
        }
        _ => Ok(()),
    }
}
