//! The queue of fills: one per object, with a limited number running concurrently.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bty::Digest;
use tokio::sync::Semaphore;

use super::address::Key;
use super::fill::Fill;
use super::lookup::Lookup;
use super::revalidate::CacheRequest;
use super::transfer::Transfers;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Actor;

/// Maximum number of concurrent transfers. Further fills wait.
const TRANSFERS_MAX: usize = 8;

/// Maximum number of fills, waiting or running. Further ones are refused.
const FILLS_MAX: usize = 256;

/// How long to wait for all transfers to end when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct FillQueue {
    transfers: Arc<Transfers>,
    permits: Arc<Semaphore>,
}

impl FillQueue {
    pub(super) fn new(transfers: Transfers) -> Self {
        Self { transfers: Arc::new(transfers), permits: Arc::new(Semaphore::new(TRANSFERS_MAX)) }
    }

    /// Joins the fill of this object, or starts one.
    ///
    /// # Errors
    /// - [`ErrorKind::Throttled`] if there are too many fills.
    /// - [`ErrorKind::Upstream`] if the object has become complete in the meantime and does not
    ///   have the `expected` digest.
    pub(super) fn join_or_start(
        &self,
        request: &CacheRequest,
        expected: Option<Digest>,
        actor: Actor,
    ) -> Result<Lookup> {
        let storage = &self.transfers.storage;
        let mut index = storage.index();
        if let Some(object) = index.objects.get(&request.key) {
            object.check_digest(expected)?;
            if let Some(found) = storage.open(&index, &request.key, false) {
                return Ok(found);
            }
            // its file was removed by something other than the cache
            storage.remove_entry(&mut index, &request.key);
        }
        let running = index.fills.get(&request.key).map(Arc::clone);
        let is_new = running.is_none();
        let fill = match running {
            Some(fill) => fill,
            None if index.fills.len() >= FILLS_MAX => return Err(too_many()),
            None => {
                let fill = Arc::new(Fill::new(request.key, request.address.to_string()));
                index.fills.insert(request.key, Arc::clone(&fill));
                fill
            }
        };
        fill.expected.lock().unwrap_or_else(PoisonError::into_inner).extend(expected);
        drop(index);
        if is_new {
            storage.record_miss(request.key, &request.address);
            self.start(Arc::clone(&fill), request.declared, actor);
        } else {
            storage.counters.joined.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Lookup::Filling(fill))
    }

    /// Runs the transfer once a permit is available.
    fn start(&self, fill: Arc<Fill>, declared: Option<Digest>, actor: Actor) {
        let (transfers, permits) = (Arc::clone(&self.transfers), Arc::clone(&self.permits));
        tokio::spawn(async move {
            let permit = permits.acquire_owned().await;
            // on its own thread: a transfer can block for minutes
            let (shared, own) = (Arc::clone(&transfers), Arc::clone(&fill));
            let spawned = std::thread::Builder::new().name("cache-fill".into()).spawn(move || {
                let _permit = permit;
                shared.run(&own, declared, actor);
            });
            if let Err(e) = spawned {
                let error = Error::internal(format!("starting a thread: {e}"));
                tokio::task::block_in_place(|| transfers.finish(&fill, Err(error), actor, None));
            }
        });
    }

    /// Cancels a fill and discards the bytes already received.
    pub(super) fn cancel(&self, key: &Key) -> Result<()> {
        let found = self.transfers.storage.index().fills.get(key).cloned();
        found.ok_or_else(|| Error::not_found(format!("the fetch {key}")))?.cancel.cancel();
        Ok(())
    }

    /// Cancels all fills because the server is stopping, and keeps the bytes already received.
    pub(super) async fn stop(&self) {
        self.transfers.is_stopping.store(true, Ordering::SeqCst);
        let storage = &self.transfers.storage;
        storage.index().fills.values().for_each(|fill| fill.cancel.cancel());
        let is_idle = async {
            while !storage.index().fills.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = tokio::time::timeout(STOP_TIMEOUT, is_idle).await;
    }
}

fn too_many() -> Error {
    let mut error = Error::new(
        ErrorKind::Throttled,
        format!("too many fetches: {FILLS_MAX} are running; try again later"),
    );
    error.retry_after = Some(30);
    error
}
