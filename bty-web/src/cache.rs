//! The cache host: copies of objects on origins, found by their addresses and verified by their
//! digests. The door is [`CacheHost`].
//!
//! ```text
//!  GET /b/… ─► address ─► policy ─► revalidate ─► complete object ─────────► sendfile
//!                                             └─► fill: one per object ─► file ─► sendfile, while it grows
//! ```
//!
//! However many clients request an object, it is transferred from its origin once. Each client
//! reads the file as far as it has been filled. The last byte is withheld until the digest is
//! verified, so that no client takes a wrong object for a complete one.
//!
//! | module | topic |
//! |---|---|
//! | [`address`] | address of an object on its origin, and its key |
//! | `policy` | origins that objects may be fetched from |
//! | `index`, `object`, [`fill`], `lookup` | what is held, in memory |
//! | `storage`, `reconcile`, `eviction` | what is held, on the disk |
//! | `origin`, `revalidate` | whether it is still current |
//! | `fills`, `transfer` | transfers from origins |
//! | [`response`] | requests and responses in HTTP |
//! | `stats` | counters |
//!
//! The SQL is in [`store::cache`](crate::store::cache). Connections are served in
//! [`http`](crate::http): the cache host knows nothing of them.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bty::{ClientOptions, Digest};

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::network::Networks;
use crate::state_dir::{self, StateLock, Use};
use crate::store::cache::{self as rows, ObjectRecord};
use crate::store::database::Database;

pub mod address;
mod eviction;
pub mod fill;
mod fills;
mod index;
mod lookup;
mod object;
mod origin;
mod policy;
mod reconcile;
pub mod response;
mod revalidate;
mod stats;
mod storage;
mod transfer;

use address::{Address, Key};
use fill::Fill;
use fills::FillQueue;
use origin::OriginClient;
use policy::OriginPolicy;
use response::{BlobRequest, BlobResponse};
use revalidate::Revalidator;
use storage::Storage;
use transfer::Transfers;

pub use lookup::Lookup;
pub use object::CacheObject;
pub use policy::Origins;
pub use stats::{CacheCounters, CacheStats};

/// How often hits and times of objects are written to the database.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Options of a cache host.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// Directory of the files. No other process may use it.
    pub dir: PathBuf,
    /// Maximum size in bytes; none for the size of the disk.
    pub max_bytes: Option<u64>,
    /// Clients get what is cached; only operators have objects fetched.
    pub is_curated: bool,
    /// Addresses that differ in their query are different objects.
    pub keep_query: bool,
    /// Origins that objects may be fetched from. If it is empty, those of the catalog; without a
    /// catalog, those at public addresses.
    pub origins: Origins,
    /// Networks that may be reached although they are not public.
    pub reach: Networks,
    /// Milliseconds after which an origin is asked again whether an object has changed.
    pub fresh_ms: i64,
}

/// A cache host.
pub struct CacheHost {
    /// The options that it was opened with.
    pub options: CacheOptions,
    policy: OriginPolicy,
    storage: Arc<Storage>,
    revalidator: Revalidator,
    fills: FillQueue,
    _lock: StateLock,
}

impl CacheHost {
    /// Opens the cache in the directory of `options`. `client` tells how origins are reached.
    /// `has_catalog` promises that [`set_catalog`](Self::set_catalog) will be called.
    ///
    /// # Errors
    /// - [`ErrorKind::Conflict`] if another process uses the directory, or it cannot be written.
    /// - [`ErrorKind::Internal`] if the database fails.
    pub fn open(
        options: CacheOptions,
        client: &ClientOptions,
        db: Database,
        has_catalog: bool,
    ) -> Result<Arc<Self>> {
        let lock = state_dir::claim(&options.dir, Use::Objects)?;
        let policy = OriginPolicy::new(options.origins.clone(), options.reach.clone(), has_catalog);
        let index = reconcile::reconcile(&options.dir, &db)?;
        let storage = Arc::new(Storage::new(options.dir.clone(), options.max_bytes, db, index));
        let transfers = Transfers::new(Arc::clone(&storage), client.clone(), policy.may_reach());
        let revalidator = Revalidator {
            storage: Arc::clone(&storage),
            origin: OriginClient::new(client.clone(), policy.may_reach()),
            keep_query: options.keep_query,
            fresh_ms: options.fresh_ms,
        };
        let fills = FillQueue::new(transfers);
        Ok(Arc::new(Self { options, policy, storage, revalidator, fills, _lock: lock }))
    }

    /// Replaces the origins of the catalog, each as [`Address::origin`] writes it. Does nothing
    /// without a catalog.
    pub fn set_catalog(&self, origins: Arc<HashSet<String>>) {
        self.policy.set_catalog(origins);
    }

    /// Responds to a request for an object. Errors are responses too.
    ///
    /// GET waits for the origin if the object must be filled. HEAD waits for nobody: if the object
    /// is not held it responds with 404 and starts the fill.
    pub async fn serve(self: &Arc<Self>, request: &BlobRequest<'_>) -> BlobResponse {
        match self.try_serve(request).await {
            Ok(response) => response,
            Err(error) => BlobResponse::refused(&error),
        }
    }

    async fn try_serve(self: &Arc<Self>, request: &BlobRequest<'_>) -> Result<BlobResponse> {
        let (address, expected) = request.target()?;
        if !request.is_head {
            let found = self.get(&address, expected).await?;
            return BlobResponse::get(found, &request.conditions, expected).await;
        }
        self.policy.check(&address, self.holds(&address)).await?;
        match self.lookup(&address)? {
            Some(found) if has_digest(&found, expected) => {
                Ok(BlobResponse::head(&found, &request.conditions))
            }
            _ if self.options.is_curated => {
                self.record_miss(&address);
                Ok(BlobResponse::empty(404, "curated"))
            }
            _ => {
                self.get_in_background(address, expected);
                Ok(BlobResponse::empty(404, "miss"))
            }
        }
    }

    /// The object at `address` for a client. It is filled if it is not cached or has changed on its
    /// origin.
    ///
    /// # Errors
    /// - [`ErrorKind::Forbidden`] if the origin is not allowed.
    /// - [`ErrorKind::NotFound`] if the object is not cached and the cache is curated.
    /// - [`ErrorKind::Upstream`] if the origin does not answer, or the object does not have the
    ///   `expected` digest.
    /// - [`ErrorKind::Throttled`] if there are too many fills.
    async fn get(&self, address: &Address, expected: Option<Digest>) -> Result<Lookup> {
        self.policy.check(address, self.holds(address)).await?;
        let request = self.revalidator.resolve(address).await?;
        if let Some(found) = self.revalidator.current(&request, expected).await? {
            let counters = self.counters();
            let counter = match found {
                Lookup::Whole { is_stale: true, .. } => &counters.stale,
                _ => &counters.hits,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            return Ok(found);
        }
        let is_filling = self.storage.index().fills.contains_key(&request.key);
        if self.options.is_curated && !is_filling {
            self.record_miss(address);
            return Err(Error::new(
                ErrorKind::NotFound,
                "cache miss (recorded); only an operator adds objects here",
            ));
        }
        self.fills.join_or_start(&request, expected, Actor::PxeClient)
    }

    fn get_in_background(self: &Arc<Self>, address: Address, expected: Option<Digest>) {
        let cache = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = cache.get(&address, expected).await {
                tracing::debug!(%error, %address, "cannot fetch an object after HEAD");
            }
        });
    }

    /// What is held of `address`, without asking its origin.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] if the origin is not allowed.
    pub fn lookup(&self, address: &Address) -> Result<Option<Lookup>> {
        self.policy.check_name(address, self.holds(address))?;
        let index = self.storage.index();
        let key = index.key_of(address, self.options.keep_query);
        if let Some(found) = self.storage.open(&index, &key, false) {
            return Ok(Some(found));
        }
        Ok(index.fills.get(&key).map(|fill| Lookup::Filling(Arc::clone(fill))))
    }

    /// Fetches an object for an operator: also if the cache is curated, and beside a catalog from
    /// any origin. Does not wait until it is complete.
    ///
    /// # Errors
    /// - [`ErrorKind::Forbidden`] if the origin is not allowed.
    /// - [`ErrorKind::Upstream`] if the registry does not answer, or the object does not have the
    ///   `expected` digest.
    /// - [`ErrorKind::Throttled`] if there are too many fills.
    pub async fn fetch(&self, address: &Address, expected: Option<Digest>) -> Result<Lookup> {
        self.policy.check_operator(address, self.holds(address)).await?;
        let request = self.revalidator.resolve(address).await?;
        match self.revalidator.current(&request, expected).await? {
            Some(found) => Ok(found),
            None => self.fills.join_or_start(&request, expected, Actor::Operator),
        }
    }

    /// Deletes a complete object for an operator. Clients that are reading it read it to its end.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`] if there is no such object.
    /// - [`ErrorKind::Full`] or [`ErrorKind::Internal`] if the database fails.
    pub async fn evict(&self, key: &Key) -> Result<()> {
        let object = self.storage.find(key)?;
        let summary = format!("an operator deleted {}", object.record.address);
        self.storage.remove_object(&object, "cache.object.deleted", summary, Actor::Operator).await
    }

    /// Pins an object, so that it is never evicted, or unpins it.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`] if there is no such object.
    /// - [`ErrorKind::Full`] or [`ErrorKind::Internal`] if the database fails.
    pub async fn pin(&self, key: &Key, is_pinned: bool) -> Result<ObjectRecord> {
        let object = self.storage.find(key)?;
        object.set_pinned(is_pinned);
        let record = object.current();
        let address = record.address.clone();
        let (kind, summary) = match is_pinned {
            true => ("cache.object.pinned", format!("pinned {address}")),
            false => ("cache.object.unpinned", format!("unpinned {address}")),
        };
        let event = NewEvent::new(kind, address, summary).by(Actor::Operator, None);
        let written = record.clone();
        self.storage
            .db
            .write(move |t| rows::use_object(t, &written).and_then(|()| t.record(&event).map(drop)))
            .await?;
        Ok(record)
    }

    /// Cancels a fill. What has arrived is discarded, and the connections of its clients are reset.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such fill.
    pub fn cancel(&self, key: &Key) -> Result<()> {
        self.fills.cancel(key)
    }

    /// All complete objects, the most recently used first.
    #[must_use]
    pub fn objects(&self) -> Vec<ObjectRecord> {
        let mut all: Vec<_> =
            self.storage.index().objects.values().map(|object| object.current()).collect();
        all.sort_by_key(|record| (std::cmp::Reverse(record.used_at), record.key.to_string()));
        all
    }

    /// All fills, the oldest first.
    #[must_use]
    pub fn fills(&self) -> Vec<Arc<Fill>> {
        let mut all: Vec<_> = self.storage.index().fills.values().cloned().collect();
        all.sort_by_key(|fill| fill.started_at);
        all
    }

    /// Bytes of complete objects, of interrupted fills, and reserved by running fills.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.storage.index().used_bytes()
    }

    /// Counters since the start. Whoever sends an object to a client counts its bytes here.
    #[must_use]
    pub fn counters(&self) -> &CacheCounters {
        &self.storage.counters
    }

    /// Counters and size at this moment.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.counters().snapshot(self.used_bytes())
    }

    /// Writes hits and times of objects to the database, every few seconds, until `stopped`.
    pub async fn save_uses(self: Arc<Self>, stopped: impl Future<Output = ()>) {
        let mut stopped = std::pin::pin!(stopped);
        loop {
            tokio::select! {
                () = tokio::time::sleep(SAVE_EVERY) => {}
                () = &mut stopped => break,
            }
            self.storage.save_uses().await;
        }
    }

    /// Ends all fills because the server stops; what has arrived is kept. Waits a few seconds for
    /// them.
    pub async fn stop(&self) {
        self.fills.stop().await;
        self.storage.save_uses().await;
    }

    fn holds(&self, address: &Address) -> bool {
        let index = self.storage.index();
        index.holds(&index.key_of(address, self.options.keep_query))
    }

    fn record_miss(&self, address: &Address) {
        self.storage.record_miss(address.key(self.options.keep_query), address);
    }
}

/// False for a complete object with another digest than `expected`.
fn has_digest(found: &Lookup, expected: Option<Digest>) -> bool {
    match (found, expected) {
        (Lookup::Whole { object, .. }, Some(expected)) => object.record.sha256 == expected,
        _ => true,
    }
}
