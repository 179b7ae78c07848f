//! The cache host: copies of objects from origins, identified by their URLs and verified by their
//! digests. The entry point is [`CacheHost`].
//!
//! ```text
//!  GET /b/… ─► address ─► policy ─► revalidate ─► complete object ─────────► client
//!                                             └─► fill: one per object ─► file ─► client, while it grows
//! ```
//!
//! No matter how many clients request an object, it is transferred from its origin only once. Each
//! client reads the file as far as it is filled. The last byte is withheld until the digest is
//! verified, so that no client mistakes a corrupt object for a complete one.
//!
//! | module | topic |
//! |---|---|
//! | [`address`] | URL of an object at its origin, and its key |
//! | `policy` | origins that objects may be fetched from |
//! | `index`, `object`, [`fill`], `lookup` | the cached objects, in memory |
//! | `storage`, `reconcile`, `eviction` | the cached objects, on disk |
//! | `origin`, `revalidate` | checks whether an object is current |
//! | `fills`, `transfer` | transfers from origins |
//! | `packed`, `packer` | packed forms of objects, made in the background |
//! | [`response`] | requests and responses in HTTP |
//! | `stats` | counters |
//!
//! The SQL is in [`store::cache`](crate::store::cache). Connections are handled in
//! [`http`](crate::http): the cache host does not depend on it.

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
mod packed;
mod packer;
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
use packer::Packer;
use policy::OriginPolicy;
use response::{BlobRequest, BlobResponse};
use revalidate::Revalidator;
use storage::Storage;
use transfer::Transfers;

pub use lookup::Lookup;
pub use policy::Origins;
pub use stats::{CacheCounters, CacheStats};

/// Interval at which hits and times of objects are written to the database.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Interval at which the cache host looks for an object to pack.
const PACK_EVERY: Duration = Duration::from_secs(1);

/// Options of a cache host.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// Directory of the files. No other process may use it.
    pub dir: PathBuf,
    /// Maximum size in bytes; `None` if only the disk limits it.
    pub max_bytes: Option<u64>,
    /// True if clients get only what is cached, and only operators can fetch objects.
    pub is_curated: bool,
    /// True if URLs that differ only in their query are different objects.
    pub keep_query: bool,
    /// Origins from which objects may be fetched. If empty: the origins in the catalog, or all public
    /// addresses if there is no catalog.
    pub origins: Origins,
    /// Networks that may be contacted although they are not public.
    pub reach: Networks,
    /// Milliseconds after which the origin is asked again whether an object has changed.
    pub fresh_ms: i64,
    /// True if objects are packed in the background.
    pub packs: bool,
}

/// A cache host: stores images on disk, and serves them to machines and other servers.
pub struct CacheHost {
    /// The options with which it was opened.
    pub options: CacheOptions,
    policy: OriginPolicy,
    storage: Arc<Storage>,
    revalidator: Revalidator,
    fills: FillQueue,
    packer: Arc<Packer>,
    _lock: StateLock,
}

impl CacheHost {
    /// Opens the cache in the directory of `options`. `client` contacts origins. `has_catalog`
    /// promises a later call of [`set_catalog`](Self::set_catalog).
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
        let packer = Arc::new(Packer::new(Arc::clone(&storage)));
        Ok(Arc::new(Self { options, policy, storage, revalidator, fills, packer, _lock: lock }))
    }

    /// Replaces the origins of the catalog, each in the form of [`Address::origin`]. Does nothing
    /// without a catalog.
    pub fn set_catalog(&self, origins: Arc<HashSet<String>>) {
        self.policy.set_catalog(origins);
    }

    /// Responds to a request for an object. Errors become responses too.
    ///
    /// GET waits for the origin if the object must be filled. HEAD waits for nothing: if the object
    /// is not cached, it responds with 404 and starts the fill.
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
                let mut response = BlobResponse::head(&found, &request.conditions);
                if let Lookup::Whole { object, .. } = &found
                    && let Some(index) = self.packed_index(&object.record.sha256)
                {
                    response.add_packed_index(index);
                }
                Ok(response)
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

    /// Returns the object at `address` for a client. Fills the object if it is not cached or has
    /// changed at its origin.
    ///
    /// # Errors
    /// - [`ErrorKind::Forbidden`] if the origin is not allowed.
    /// - [`ErrorKind::NotFound`] if the object is not cached and the cache is curated.
    /// - [`ErrorKind::Upstream`] if the origin does not respond, or the object does not have the
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
                "cache miss (recorded); this cache is curated, so an operator must add the object",
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

    /// Returns the cached object or running fill of `address`, without asking its origin.
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

    /// Fetches an object for an operator: even if the cache is curated, and, if there is a catalog,
    /// from any origin. Does not wait until it is complete.
    ///
    /// # Errors
    /// - [`ErrorKind::Forbidden`] if the origin is not allowed.
    /// - [`ErrorKind::Upstream`] if the registry does not respond, or the object does not have the
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

    /// Deletes a complete object for an operator. Clients that are reading it can read all of it.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`] if there is no such object.
    /// - [`ErrorKind::Full`] or [`ErrorKind::Internal`] if the database fails.
    pub async fn evict(&self, key: &Key) -> Result<()> {
        let object = self.storage.find(key)?;
        let summary = format!("deleted {}", object.record.address);
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

    /// Cancels a fill. Discards the bytes already received, and resets the connections of its
    /// clients.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such fill.
    pub fn cancel(&self, key: &Key) -> Result<()> {
        self.fills.cancel(key)
    }

    /// Returns all complete objects, the most recently used first.
    #[must_use]
    pub fn objects(&self) -> Vec<ObjectRecord> {
        let mut all: Vec<_> =
            self.storage.index().objects.values().map(|object| object.current()).collect();
        all.sort_by_key(|record| (std::cmp::Reverse(record.used_at), record.key.to_string()));
        all
    }

    /// Returns all fills, the oldest first.
    #[must_use]
    pub fn fills(&self) -> Vec<Arc<Fill>> {
        let mut all: Vec<_> = self.storage.index().fills.values().cloned().collect();
        all.sort_by_key(|fill| fill.started_at);
        all
    }

    /// Returns the bytes of complete objects and interrupted fills, and those reserved by running
    /// fills.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.storage.index().used_bytes()
    }

    /// Returns the counters since startup. The code that sends an object to a client counts its
    /// bytes here.
    #[must_use]
    pub fn counters(&self) -> &CacheCounters {
        &self.storage.counters
    }

    /// Returns the current counters and size.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.counters().snapshot(self.used_bytes())
    }

    /// Writes hits and times of objects to the database every few seconds, until `stopped` ends.
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

    /// Packs objects until `stopped` ends, one at a time. Does nothing if packing is off.
    pub async fn pack_objects(self: Arc<Self>, stopped: impl Future<Output = ()>) {
        if !self.options.packs {
            return;
        }
        let mut stopped = std::pin::pin!(stopped);
        loop {
            let packing = async {
                tokio::time::sleep(PACK_EVERY).await;
                if let Some(object) = self.packer.next() {
                    packer::run(Arc::clone(&self.packer), object).await;
                }
            };
            tokio::select! {
                () = packing => {}
                () = &mut stopped => break,
            }
        }
        self.packer.cancel.cancel();
    }

    /// Ends all fills, because the server is stopping, but keeps the bytes already received. Waits
    /// a few seconds for the fills to end. Ends packing, which starts over after a restart.
    pub async fn stop(&self) {
        self.packer.cancel.cancel();
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

/// False for a complete object with a digest other than `expected`.
fn has_digest(found: &Lookup, expected: Option<Digest>) -> bool {
    match (found, expected) {
        (Lookup::Whole { object, .. }, Some(expected)) => object.record.sha256 == expected,
        _ => true,
    }
}
