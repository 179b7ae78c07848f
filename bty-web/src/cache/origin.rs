//! Short requests to origins: which digest a tag points to, and whether an object has changed.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use bty::client::MayReach;
use bty::oci::OciReference;
use bty::{CancelToken, Client, ClientOptions, Digest};
use tokio::sync::{Mutex, MutexGuard, Semaphore};

use super::address::Address;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::store::cache::ObjectRecord;

/// Maximum number of concurrent requests; each occupies a thread.
const QUESTIONS_MAX: usize = 32;

/// Maximum response time of an origin.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Number of locks, shared by all URLs.
const LOCKS: usize = 64;

/// Asks origins, with short timeouts and no retries, because the cache can respond without their
/// answer.
pub(super) struct OriginClient {
    client: Client,
    permits: Semaphore,
    locks: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl OriginClient {
    pub(super) fn new(mut options: ClientOptions, may_reach: MayReach) -> Self {
        options.may_reach = Some(may_reach);
        options.attempts = 1;
        options.connect_timeout = Duration::from_secs(3);
        options.stall_timeout = Duration::from_secs(5);
        Self {
            client: Client::new(options),
            permits: Semaphore::new(QUESTIONS_MAX),
            locks: (0..LOCKS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Waits until no other request asks about `address`. The caller must then check whether the
    /// answer has arrived in the meantime.
    pub(super) async fn lock(&self, address: &str) -> MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one(address) % LOCKS as u64;
        self.locks[usize::try_from(hash).unwrap_or_default()].lock().await
    }

    /// Returns the digest that the tag in `reference` points to.
    pub(super) async fn resolve(&self, reference: &OciReference) -> Result<Digest> {
        let (client, reference) = (self.client.clone(), reference.clone());
        let blob = self.ask(move |cancel| client.resolve_oci(&reference, cancel)).await?;
        Ok(blob.digest)
    }

    /// Returns whether the object at `address` is still the recorded version. If the origin sends
    /// neither a version nor a length, the object counts as unchanged.
    pub(super) async fn is_unchanged(
        &self,
        address: &Address,
        record: &ObjectRecord,
    ) -> Result<bool> {
        let (client, text) = (self.client.clone(), address.to_string());
        let (version, len_bytes) = self
            .ask(move |cancel| client.open(&text, cancel).map(|s| (s.version(), s.len_bytes())))
            .await?;
        let has_same_len = len_bytes.is_none_or(|len| len == record.size_bytes);
        Ok(has_same_len && (version.is_none() || version == record.version))
    }

    /// Runs `question`, which blocks, on its own thread for at most [`ANSWER_TIMEOUT`].
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&CancelToken) -> bty::Result<T> + Send + 'static,
    ) -> Result<T> {
        let _permit = self.permits.acquire().await.map_err(Error::internal)?;
        let (answer, answered) = tokio::sync::oneshot::channel();
        let cancel = CancelToken::new();
        let token = cancel.clone();
        std::thread::Builder::new().name("cache-ask".into()).spawn(move || {
            // the caller may have stopped waiting
            let _ = answer.send(question(&token));
        })?;
        match tokio::time::timeout(ANSWER_TIMEOUT, answered).await {
            Ok(Ok(result)) => result.map_err(Error::from),
            Ok(Err(_)) => Err(Error::internal("asking an origin ended without an answer")),
            Err(_) => {
                cancel.cancel();
                Err(Error::new(
                    ErrorKind::Upstream,
                    format!("the origin did not answer within {} s", ANSWER_TIMEOUT.as_secs()),
                ))
            }
        }
    }
}
