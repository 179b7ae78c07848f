//! The state of a fill, which clients wait for while they read its file.

use std::fs::File;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use bty::{CancelToken, Digest};
use tokio::sync::watch;

use super::address::Key;
use super::object::CacheObject;
use crate::domain::error::{Error, Result};
use crate::domain::time::Time;

/// The origin's response headers for an object.
#[derive(Clone, Debug)]
pub struct FillHead {
    /// `ETag` for clients, with its quotes.
    pub etag: String,
    /// Length in bytes; `None` if the origin does not send it.
    pub len_bytes: Option<u64>,
    /// The file being filled.
    pub file: Arc<File>,
}

/// The progress of a fill.
#[derive(Clone, Debug)]
pub(super) enum FillProgress {
    /// The origin has not responded yet.
    Waiting,
    /// This many bytes can be read. The last byte is withheld until the digest is verified, so that
    /// no client mistakes a corrupt object for a complete one.
    Filling(u64),
    Whole(Arc<CacheObject>),
    Failed(Error),
}

/// A running transfer of an object from its origin. There is at most one per key.
pub struct Fill {
    /// Key that the object will have.
    pub key: Key,
    /// URL at its origin.
    pub address: String,
    /// When the fill was requested.
    pub started_at: Time,
    pub(super) cancel: CancelToken,
    /// Disk space that counts as used, in bytes: the expected length of the object, or the bytes
    /// received so far.
    pub(super) reserved_bytes: AtomicU64,
    /// Set before `progress` leaves [`FillProgress::Waiting`].
    pub(super) head: Mutex<Option<FillHead>>,
    pub(super) progress: watch::Sender<FillProgress>,
    /// Digests that clients expect. If there are any and the object has none of them, it is
    /// discarded.
    pub(super) expected: Mutex<Vec<Digest>>,
}

impl Fill {
    pub(super) fn new(key: Key, address: String) -> Self {
        Self {
            key,
            address,
            started_at: Time::now(),
            cancel: CancelToken::new(),
            reserved_bytes: 0.into(),
            head: Mutex::default(),
            progress: watch::Sender::new(FillProgress::Waiting),
            expected: Mutex::default(),
        }
    }

    /// Returns the origin's response headers for the object; `None` until the origin responds.
    #[must_use]
    pub fn head(&self) -> Option<FillHead> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the number of bytes that clients can read.
    #[must_use]
    pub fn done_bytes(&self) -> u64 {
        match &*self.progress.borrow() {
            FillProgress::Filling(bytes) => *bytes,
            FillProgress::Whole(object) => object.record.size_bytes,
            FillProgress::Waiting | FillProgress::Failed(_) => 0,
        }
    }

    /// Waits until the origin has responded.
    ///
    /// # Errors
    /// The error of the fill if it fails first.
    pub async fn wait_for_head(&self) -> Result<FillHead> {
        let mut progress = self.progress.subscribe();
        let answered =
            progress.wait_for(|progress| !matches!(progress, FillProgress::Waiting)).await;
        match &*answered.map_err(Error::internal)? {
            FillProgress::Failed(error) => Err(error.clone()),
            _ => self.head().ok_or_else(|| Error::internal("a fill has progress but no head")),
        }
    }

    /// Waits until the byte at `offset` can be read. Returns the end of the readable bytes;
    /// `offset` itself if the object ends there.
    ///
    /// # Errors
    /// The error of the fill if it fails, or
    /// [`ErrorKind::Upstream`](crate::domain::error::ErrorKind::Upstream) if the complete object
    /// does not have the `expected` digest.
    pub async fn wait_for(&self, offset: u64, expected: Option<Digest>) -> Result<u64> {
        let mut progress = self.progress.subscribe();
        let is_reached = |progress: &FillProgress| match progress {
            FillProgress::Waiting => false,
            FillProgress::Filling(bytes) => *bytes > offset,
            FillProgress::Whole(_) | FillProgress::Failed(_) => true,
        };
        let reached = progress.wait_for(is_reached).await.map_err(Error::internal)?;
        match &*reached {
            FillProgress::Failed(error) => Err(error.clone()),
            FillProgress::Filling(bytes) => Ok(*bytes),
            FillProgress::Whole(object) => {
                object.check_digest(expected)?;
                Ok(object.record.size_bytes)
            }
            FillProgress::Waiting => Err(Error::internal("a fill that waits has ended")),
        }
    }
}
