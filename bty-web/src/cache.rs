//! The cache host: objects of origins, kept by their addresses and proven by their digests.
//!
//! ```text
//!  GET /b/… ─► address ─► (registry: digest) ─► whole object ─────────────► sendfile
//!                                           └─► fill: one per object ─► file ─► sendfile, as it grows
//! ```
//!
//! An object is filled once, however many clients ask; each reads from the file as far as it has
//! come. The last byte is withheld until the digest is proven, so that nobody takes a wrong object
//! for a whole one.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bty::client::MayReach;
use bty::{CancelToken, Client, ClientOptions, Digest};
use serde_json::json;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::time::Time;
use crate::network::Networks;
use crate::state_dir::{self, StateLock, Use};
use crate::store::cache as rows;
use crate::store::database::Db;

pub mod address;
mod eviction;
mod fill;
pub mod http;
pub mod object;
pub mod sendfile;

use address::{Address, Key, Origins, blob_key};
use object::{Fill, Object, Part};

/// As many objects are filled at a time; others wait for their turn.
const FILLS_AT_A_TIME: usize = 8;

/// As many fills wait or run. More are refused.
const FILLS_MAX: usize = 256;

/// As many origins are asked at a time whether something has changed.
const ASKS_AT_A_TIME: usize = 32;

/// An origin that does not answer so soon is taken as away.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// A name that is not found so soon is left to the client.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// An origin that was away is not asked again before.
const AWAY_MS: i64 = 10_000;

/// How often uses of objects are written down.
const TEND_EVERY: Duration = Duration::from_secs(5);

/// What a cache host is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the files.
    pub dir: PathBuf,
    /// Larger than this it does not grow; none for the disk's size.
    pub max_bytes: Option<u64>,
    /// Only what an operator asks for is fetched.
    pub is_curated: bool,
    /// The query belongs to the key.
    pub keep_query: bool,
    /// Origins that may be asked. When none are named, those of the catalog; a cache host without a
    /// catalog then asks public addresses.
    pub origins: Origins,
    /// Networks that are reached although they are local to this host.
    pub reach: Networks,
    /// So long is an object taken as it is before its origin is asked again.
    pub fresh_ms: i64,
}

/// A cache host.
pub struct Cache {
    /// What it was told.
    pub options: Options,
    /// What is counted.
    pub counts: Counts,
    db: Db,
    client: Client,
    /// Impatient: for questions that have an answer also when nobody is there.
    asker: Client,
    held: Mutex<Index>,
    turns: Arc<tokio::sync::Semaphore>,
    asks: tokio::sync::Semaphore,
    asking: Vec<tokio::sync::Mutex<()>>,
    hasher: RandomState,
    /// Origins of the catalog; none for a cache host without a catalog.
    catalog: Option<RwLock<Arc<HashSet<String>>>>,
    reaches: MayReach,
    is_stopping: AtomicBool,
    _lock: StateLock,
}

/// What is counted since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Answers from whole objects.
    pub hits: AtomicU64,
    /// Answers from objects that are on their way.
    pub joined: AtomicU64,
    /// What was not there.
    pub misses: AtomicU64,
    /// Answers from objects whose origin could not be asked.
    pub stale: AtomicU64,
    /// Objects that were filled.
    pub fills: AtomicU64,
    /// Fills that failed.
    pub failures: AtomicU64,
    /// Objects that made room for others.
    pub evictions: AtomicU64,
    /// Bytes that clients got.
    pub sent_bytes: AtomicU64,
    /// Bytes that origins gave.
    pub fetched_bytes: AtomicU64,
}

#[derive(Default)]
struct Index {
    objects: HashMap<Key, Arc<Object>>,
    fills: HashMap<Key, Arc<Fill>>,
    parts: HashMap<Key, Part>,
    tags: HashMap<String, (Digest, Time)>,
}

/// How an object is had.
#[derive(Clone)]
pub enum Lookup {
    /// It is whole; stale when its origin could not be asked whether it has changed.
    Whole {
        /// The object.
        object: Arc<Object>,
        /// Its file. It can be read for as long as somebody has it, also when the object is
        /// deleted.
        file: Arc<File>,
        /// Nobody knows whether it has changed.
        is_stale: bool,
    },
    /// It is on its way.
    Filling(Arc<Fill>),
}

/// Where the bytes of an address are to come from.
struct CacheRequest {
    address: Address,
    key: Key,
    /// Digest that its name promises.
    declared: Option<Digest>,
    is_stale: bool,
}

impl Cache {
    /// Opens the cache in the directory of `options`, which no other may use. `client` says how
    /// origins are reached, `has_catalog` that [`set_catalog`](Self::set_catalog) tells which
    /// origins there are.
    ///
    /// # Errors
    /// When the directory cannot be used, or another one uses it.
    pub fn open(
        options: Options,
        client: &ClientOptions,
        db: Db,
        has_catalog: bool,
    ) -> Result<Arc<Self>> {
        let lock = state_dir::claim(&options.dir, Use::Objects)?;
        let mut patient = client.clone();
        let reach = options.reach.clone();
        let is_public_only = options.origins.is_empty() && !has_catalog;
        let is_default =
            if is_public_only { crate::network::is_public } else { crate::network::is_elsewhere };
        let reaches: MayReach = Arc::new(move |ip: IpAddr| is_default(ip) || reach.contain(ip));
        patient.may_reach = Some(Arc::clone(&reaches));
        let mut impatient = patient.clone();
        (impatient.attempts, impatient.connect_timeout, impatient.stall_timeout) =
            (1, Duration::from_secs(3), Duration::from_secs(5));
        let held = eviction::take_stock(&options.dir, &db)?;
        Ok(Arc::new(Self {
            options,
            counts: Counts::default(),
            db,
            client: Client::new(patient),
            asker: Client::new(impatient),
            held: Mutex::new(held),
            turns: Arc::new(tokio::sync::Semaphore::new(FILLS_AT_A_TIME)),
            asks: tokio::sync::Semaphore::new(ASKS_AT_A_TIME),
            asking: (0..64).map(|_| tokio::sync::Mutex::default()).collect(),
            hasher: RandomState::new(),
            catalog: has_catalog.then(RwLock::default),
            reaches,
            is_stopping: false.into(),
            _lock: lock,
        }))
    }

    /// Tells which origins the catalog names, by [`Address::origin`].
    pub fn set_catalog(&self, origins: Arc<HashSet<String>>) {
        if let Some(catalog) = &self.catalog {
            *catalog.write().unwrap_or_else(PoisonError::into_inner) = origins;
        }
    }

    fn held(&self) -> MutexGuard<'_, Index> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.options.dir.join(key.to_string())
    }

    fn part_path(&self, key: &Key) -> PathBuf {
        self.options.dir.join(format!("{key}.part"))
    }

    /// The object at `address`, which is filled when it is not there. With `expected`, only these
    /// bytes will do.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] when this origin may not be asked, [`ErrorKind::NotFound`] when the
    /// cache is curated, [`ErrorKind::Upstream`] when the origin does not answer or has other
    /// bytes, [`ErrorKind::Throttled`] when too much is on its way.
    pub async fn get(
        self: &Arc<Self>,
        address: &Address,
        expected: Option<Digest>,
    ) -> Result<Lookup> {
        self.check(address).await?;
        let wanted = self.resolve(address).await?;
        if let Some(served) = self.whole(&wanted, expected).await? {
            let count = if matches!(served, Lookup::Whole { is_stale: true, .. }) {
                &self.counts.stale
            } else {
                &self.counts.hits
            };
            count.fetch_add(1, Ordering::Relaxed);
            return Ok(served);
        }
        if self.options.is_curated && !self.held().fills.contains_key(&wanted.key) {
            self.missed(address);
            return Err(Error::new(
                ErrorKind::NotFound,
                "cache miss (recorded); only an operator adds objects here",
            ));
        }
        self.fill(&wanted, expected, Actor::PxeClient)
    }

    /// What is here of `address`, without asking anybody.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] when this origin may not be asked.
    pub fn lookup(&self, address: &Address) -> Result<Option<Lookup>> {
        self.check_origin(address)?;
        let held = self.held();
        let key = self
            .known(&held, address)
            .map_or_else(|| address.key(self.options.keep_query), blob_key);
        if let Some(served) = self.open_whole(&held, &key, false) {
            return Ok(Some(served));
        }
        Ok(held.fills.get(&key).map(|fill| Lookup::Filling(Arc::clone(fill))))
    }

    /// Whether clients may have `address` fetched, as far as its name tells.
    fn check_origin(&self, address: &Address) -> Result<()> {
        let host = address.host();
        let detail = match &self.catalog {
            _ if !self.options.origins.is_empty() => match self.options.origins.allow(address) {
                true => return Ok(()),
                false => {
                    format!(
                        "{host} is not among the origins of this cache; its operator can allow it in cache.origins"
                    )
                }
            },
            // what is here already was fetched by somebody who may
            _ if self.is_here(address) => return Ok(()),
            Some(catalog) => match catalog
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&address.origin())
            {
                true => return Ok(()),
                false => format!(
                    "no image of the catalog is at {}; its operator can add the image to the catalog, or allow {host} in cache.origins",
                    address.origin()
                ),
            },
            None => match host_ip(address) {
                Some(ip) if !(self.reaches)(ip) => return Err(self.unreachable(address, ip)),
                _ => return Ok(()),
            },
        };
        Err(Error::new(ErrorKind::Forbidden, detail))
    }

    /// The same, with a look at where a name leads when that decides. The client looks again when
    /// it connects; this is for a clear answer.
    async fn check(&self, address: &Address) -> Result<()> {
        self.check_origin(address)?;
        let is_decided =
            self.catalog.is_some() || !self.options.origins.is_empty() || self.is_here(address);
        let target = address.target().filter(|_| !is_decided && host_ip(address).is_none());
        let Some(target) = target else { return Ok(()) };
        // behind a proxy, names need not be known here
        let Ok(Ok(found)) =
            tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(target)).await
        else {
            return Ok(());
        };
        let found: Vec<IpAddr> = found.map(|found| crate::network::canonical(found.ip())).collect();
        match found.first() {
            Some(ip) if !found.iter().any(|ip| (self.reaches)(*ip)) => {
                Err(self.unreachable(address, *ip))
            }
            _ => Ok(()),
        }
    }

    fn unreachable(&self, address: &Address, ip: IpAddr) -> Error {
        let way = match crate::network::is_elsewhere(ip) {
            true => "the origin in cache.origins, or its network in cache.reach",
            false => "its network in cache.reach",
        };
        let detail = format!(
            "{} is at an address that may not be reached from here: without cache.origins, this cache host asks public addresses only; \
             its operator can name {way}",
            address.host()
        );
        Error::new(ErrorKind::Forbidden, detail)
    }

    /// True for what is kept, or on its way.
    fn is_here(&self, address: &Address) -> bool {
        let held = self.held();
        let key = self
            .known(&held, address)
            .map_or_else(|| address.key(self.options.keep_query), blob_key);
        held.objects.contains_key(&key) || held.fills.contains_key(&key)
    }

    /// Takes note that something was asked for and not there.
    fn missed(&self, address: &Address) {
        self.counts.misses.fetch_add(1, Ordering::Relaxed);
        let (db, key, address) =
            (self.db.clone(), address.key(self.options.keep_query), address.to_string());
        tokio::spawn(async move {
            let counted = db.write(move |t| rows::count_miss(t, &key, &address, t.now())).await;
            if let Err(error) = counted {
                tracing::warn!(%error, "a miss was not counted");
            }
        });
    }

    /// The digest that a name in a registry stands for, as far as that is known here.
    fn known(&self, held: &Index, address: &Address) -> Option<Digest> {
        let Address::Registry(reference) = address else { return None };
        let named =
            reference.digest().filter(|digest| held.objects.contains_key(&blob_key(*digest)));
        named.or_else(|| held.tags.get(&address.to_string()).map(|(digest, _)| *digest))
    }

    async fn resolve(&self, address: &Address) -> Result<CacheRequest> {
        let Address::Registry(reference) = address else {
            let key = address.key(self.options.keep_query);
            return Ok(CacheRequest {
                address: address.clone(),
                key,
                declared: None,
                is_stale: false,
            });
        };
        let as_blob = |digest: Digest, is_stale: bool| CacheRequest {
            address: Address::Registry(reference.with_digest(digest)),
            key: blob_key(digest),
            declared: Some(digest),
            is_stale,
        };
        let is_tag = reference.tag().is_some();
        let is_fresh =
            |checked_at: Time| !is_tag || Time::now().ms_since(checked_at) < self.options.fresh_ms;
        let look = || {
            let held = self.held();
            if let Some(digest) =
                reference.digest().filter(|digest| held.objects.contains_key(&blob_key(*digest)))
            {
                return Some((digest, true));
            }
            held.tags
                .get(&address.to_string())
                .map(|(digest, checked_at)| (*digest, is_fresh(*checked_at)))
        };
        if let Some((digest, true)) = look() {
            return Ok(as_blob(digest, false));
        }
        let name = address.to_string();
        let _one = self.asking(&name).lock().await;
        // somebody else may have asked meanwhile
        let known = look();
        if let Some((digest, true)) = known {
            return Ok(as_blob(digest, false));
        }
        let (client, asked) = (self.asker.clone(), reference.clone());
        match (self.ask(move |cancel| client.resolve_oci(&asked, cancel)).await, known) {
            (Ok(blob), known) => {
                self.stands_for(&name, blob.digest, known.map(|(digest, _)| digest)).await?;
                Ok(as_blob(blob.digest, false))
            }
            (Err(error), Some((digest, _))) => {
                tracing::warn!(%error, address = name, "the registry was not asked; going on with what the tag was");
                self.held().tags.insert(name, (digest, self.soon()));
                Ok(as_blob(digest, true))
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn stands_for(&self, name: &str, digest: Digest, before: Option<Digest>) -> Result<()> {
        let now = Time::now();
        self.held().tags.insert(name.to_owned(), (digest, now));
        let moved = before.filter(|before| *before != digest);
        let name = name.to_owned();
        let written = self.db.write(move |t| {
            rows::put_tag(t, &name, &digest, now)?;
            let Some(before) = moved else { return Ok(()) };
            let event = NewEvent::new(
                "cache.tag.moved",
                name.clone(),
                format!("{name} stands for other bytes now"),
            );
            t.record(&event.with(json!({ "from": before.to_string(), "to": digest.to_string() })))
                .map(drop)
        });
        written.await
    }

    /// A whole object that will do; none when it has to be filled.
    async fn whole(
        &self,
        wanted: &CacheRequest,
        expected: Option<Digest>,
    ) -> Result<Option<Lookup>> {
        let find = || self.held().objects.get(&wanted.key).cloned();
        let Some(mut object) = find() else { return Ok(None) };
        let is_due = |object: &Object| {
            let age = Time::now().ms_since(object.checked_at());
            let is_other = expected.is_some_and(|digest| digest != object.facts.sha256);
            !object.facts.is_fixed
                && age
                    >= if is_other {
                        AWAY_MS.min(self.options.fresh_ms)
                    } else {
                        self.options.fresh_ms
                    }
        };
        let mut is_stale = wanted.is_stale;
        if is_due(&object) {
            let _one = self.asking(&object.facts.address).lock().await;
            object = match find() {
                Some(object) => object,
                None => return Ok(None),
            };
            if is_due(&object) {
                match self.is_unchanged(&wanted.address, &object).await {
                    Ok(true) => object.checked(Time::now()),
                    Ok(false) => {
                        self.drop_object(
                            &object,
                            "cache.object.outdated",
                            "its origin has another version",
                            Actor::System,
                        )
                        .await?;
                        return Ok(None);
                    }
                    Err(error) => {
                        tracing::warn!(%error, address = object.facts.address, "the origin was not asked; going on with what is here");
                        object.checked(self.soon());
                        is_stale = true;
                    }
                }
            }
        }
        object::check(&object, expected)?;
        let served = self.open_whole(&self.held(), &wanted.key, is_stale);
        object.hit(Time::now());
        Ok(served)
    }

    /// Opens a whole object. Its file has its name for as long as `held` is not changed.
    fn open_whole(&self, held: &Index, key: &Key, is_stale: bool) -> Option<Lookup> {
        let object = Arc::clone(held.objects.get(key)?);
        match File::open(self.path(key)) {
            Ok(file) => Some(Lookup::Whole { object, file: Arc::new(file), is_stale }),
            Err(error) => {
                tracing::warn!(%error, address = object.facts.address, "the file of an object cannot be opened");
                None
            }
        }
    }

    /// When something counts as checked so that it is checked again soon.
    fn soon(&self) -> Time {
        Time::now().plus_ms(AWAY_MS.min(self.options.fresh_ms) - self.options.fresh_ms)
    }

    async fn is_unchanged(&self, address: &Address, object: &Object) -> Result<bool> {
        let (client, text) = (self.asker.clone(), address.to_string());
        let found = self
            .ask(move |cancel| client.open(&text, cancel).map(|s| (s.version(), s.len_bytes())))
            .await?;
        let (version, len_bytes) = found;
        let is_as_long = len_bytes.is_none_or(|len| len == object.facts.size_bytes);
        Ok(is_as_long && (version.is_none() || version == object.facts.version))
    }

    fn asking(&self, name: &str) -> &tokio::sync::Mutex<()> {
        let shard = usize::try_from(self.hasher.hash_one(name) % self.asking.len() as u64)
            .unwrap_or_default();
        &self.asking[shard]
    }

    /// Asks an origin on a thread of its own, for so long as somebody may wait.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&CancelToken) -> bty::Result<T> + Send + 'static,
    ) -> Result<T> {
        let _permit = self.asks.acquire().await.map_err(Error::internal)?;
        let (answer, answered) = tokio::sync::oneshot::channel();
        let cancel = CancelToken::new();
        let token = cancel.clone();
        std::thread::Builder::new().name("cache-ask".into()).spawn(move || {
            // who asked may have gone
            let _ = answer.send(question(&token));
        })?;
        match tokio::time::timeout(ASK_TIMEOUT, answered).await {
            Ok(Ok(result)) => result.map_err(Error::from),
            Ok(Err(_)) => Err(Error::internal("asking an origin ended without an answer")),
            Err(_) => {
                cancel.cancel();
                Err(Error::new(
                    ErrorKind::Upstream,
                    format!("the origin does not answer within {} s", ASK_TIMEOUT.as_secs()),
                ))
            }
        }
    }

    /// The fill of an object: the one that is under way, or a new one.
    fn fill(
        self: &Arc<Self>,
        wanted: &CacheRequest,
        expected: Option<Digest>,
        actor: Actor,
    ) -> Result<Lookup> {
        let mut held = self.held();
        if let Some(object) = held.objects.get(&wanted.key) {
            object::check(object, expected)?;
            if let Some(served) = self.open_whole(&held, &wanted.key, false) {
                return Ok(served);
            }
            // somebody has taken its file away
            held.objects.remove(&wanted.key);
        }
        let running = held.fills.get(&wanted.key).map(Arc::clone);
        let is_new = running.is_none();
        let fill = match running {
            Some(fill) => fill,
            None if held.fills.len() >= FILLS_MAX => {
                let mut error = Error::new(
                    ErrorKind::Throttled,
                    format!("{FILLS_MAX} objects are on their way already"),
                );
                error.retry_after = Some(30);
                return Err(error);
            }
            None => {
                let fill = Arc::new(Fill::new(wanted.key, wanted.address.to_string()));
                held.fills.insert(wanted.key, Arc::clone(&fill));
                fill
            }
        };
        fill.wanted.lock().unwrap_or_else(PoisonError::into_inner).extend(expected);
        drop(held);
        match is_new {
            true => {
                self.missed(&wanted.address);
                fill::start(Arc::clone(self), Arc::clone(&fill), wanted.declared, actor);
            }
            false => {
                self.counts.joined.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(Lookup::Filling(fill))
    }

    /// Writes down what has been used, every few seconds, until the server ends.
    pub async fn tend(self: Arc<Self>, stopped: impl Future<Output = ()>) {
        let mut stopped = std::pin::pin!(stopped);
        loop {
            tokio::select! {
                () = tokio::time::sleep(TEND_EVERY) => {}
                () = &mut stopped => break,
            }
            self.save().await;
        }
    }

    async fn save(&self) {
        let used: Vec<_> =
            self.held().objects.values().filter(|o| o.take_unsaved()).map(|o| o.now()).collect();
        if used.is_empty() {
            return;
        }
        let saved = self
            .db
            .write(move |t| used.iter().try_for_each(|facts| rows::use_object(t, facts)))
            .await;
        if let Err(error) = saved {
            tracing::warn!(%error, "uses of the cache were not written down");
        }
    }

    /// Ends all fills; what has come of them is kept.
    pub async fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.held().fills.values().for_each(|fill| fill.cancel.cancel());
        for _ in 0..500 {
            if self.held().fills.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.save().await;
    }
}

/// What operators do.
impl Cache {
    /// All whole objects, the last used first.
    #[must_use]
    pub fn objects(&self) -> Vec<object::Facts> {
        let mut all: Vec<_> = self.held().objects.values().map(|object| object.now()).collect();
        all.sort_by_key(|facts| (std::cmp::Reverse(facts.used_at), facts.key.to_string()));
        all
    }

    /// All fills, the first one first.
    #[must_use]
    pub fn fills(&self) -> Vec<Arc<Fill>> {
        let mut all: Vec<_> = self.held().fills.values().cloned().collect();
        all.sort_by_key(|fill| fill.started_at);
        all
    }

    /// The whole object with this key.
    fn find(&self, key: &Key) -> Result<Arc<Object>> {
        let found = self.held().objects.get(key).cloned();
        found.ok_or_else(|| Error::not_found(format!("the object {key}")))
    }

    /// Fetches an object, also when the cache is curated, and when the catalog does not name its
    /// origin.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn fetch(
        self: &Arc<Self>,
        address: &Address,
        expected: Option<Digest>,
    ) -> Result<Lookup> {
        if self.catalog.is_none() || !self.options.origins.is_empty() {
            self.check(address).await?;
        }
        let wanted = self.resolve(address).await?;
        match self.whole(&wanted, expected).await? {
            Some(served) => Ok(served),
            None => self.fill(&wanted, expected, Actor::Operator),
        }
    }

    /// Deletes a whole object. Who reads it, reads it to its end.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn delete(&self, key: &Key) -> Result<()> {
        let object = self.find(key)?;
        self.drop_object(
            &object,
            "cache.object.deleted",
            "an operator has deleted it",
            Actor::Operator,
        )
        .await
    }

    /// Keeps an object for ever, or no longer.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn pin(&self, key: &Key, is_pinned: bool) -> Result<object::Facts> {
        let object = self.find(key)?;
        object.pin(is_pinned);
        let facts = object.now();
        let (kind, what) = match is_pinned {
            true => ("cache.object.pinned", "is kept for ever"),
            false => ("cache.object.unpinned", "may be evicted"),
        };
        let event = NewEvent::new(kind, facts.address.clone(), format!("{} {what}", facts.address))
            .by(Actor::Operator, None);
        let written = facts.clone();
        self.db
            .write(move |t| rows::use_object(t, &written).and_then(|()| t.record(&event).map(drop)))
            .await?;
        Ok(facts)
    }

    /// Ends a fill; what has come of it is thrown away.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub fn cancel(&self, key: &Key) -> Result<()> {
        let found = self.held().fills.get(key).cloned();
        found.ok_or_else(|| Error::not_found(format!("the fill {key}")))?.cancel.cancel();
        Ok(())
    }

    /// Bytes of whole objects, and of parts.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        eviction::used(&self.held())
    }

    async fn drop_object(
        &self,
        object: &Arc<Object>,
        kind: &'static str,
        why: &str,
        actor: Actor,
    ) -> Result<()> {
        let key = object.facts.key;
        {
            let mut held = self.held();
            // another version may have taken its place
            if held.objects.get(&key).is_some_and(|now| Arc::ptr_eq(now, object)) {
                held.objects.remove(&key);
                remove(&self.path(&key));
            }
        }
        let (address, size_bytes, sha256) =
            (object.facts.address.clone(), object.facts.size_bytes, object.facts.sha256);
        let event =
            NewEvent::new(kind, address.clone(), format!("{address}: {why}")).by(actor, None);
        let event = event.with(json!({ "size_bytes": size_bytes, "sha256": sha256.to_string() }));
        self.db
            .write(move |t| rows::delete_object(t, &key).and_then(|()| t.record(&event).map(drop)))
            .await
    }
}

/// The address that the host of an origin is written as.
fn host_ip(address: &Address) -> Option<IpAddr> {
    let (host, _) = address.target()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok().map(crate::network::canonical)
}

/// Removes a file that may be gone already.
fn remove(path: &Path) {
    if let Err(e) = std::fs::remove_file(path)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), error = %e, "a file of the cache could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Bus;

    /// The cache in `dir`, and what it says about addresses.
    fn cache(dir: &Path, origins: &str, reach: &str, has_catalog: bool) -> Arc<Cache> {
        let options = Options {
            dir: dir.join("cache"),
            max_bytes: None,
            is_curated: false,
            keep_query: false,
            origins: origins.parse().unwrap(),
            reach: reach.parse().unwrap(),
            fresh_ms: 0,
        };
        let db = Db::open(&dir.join("state.db"), Bus::default()).unwrap();
        Cache::open(options, &ClientOptions::default(), db, has_catalog).unwrap()
    }

    fn refusal(cache: &Cache, address: &str) -> Option<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let refused = runtime.block_on(cache.check(&address.parse().unwrap())).err()?;
        assert_eq!(refused.kind, ErrorKind::Forbidden);
        Some(refused.detail)
    }

    #[test]
    fn beside_a_catalog_only_its_origins_are_asked() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path(), "", "", true);
        let refused = refusal(&cache, "http://images.example/a.img").unwrap();
        assert!(refused.contains("catalog") && refused.contains("cache.origins"), "{refused}");
        let named = ["http://images.example", "https://10.0.0.5:8443", "oras://ghcr.io"];
        cache.set_catalog(Arc::new(named.map(str::to_owned).into()));
        for address in [
            "http://images.example:80/b.img?x=1",
            "https://10.0.0.5:8443/c",
            "oras://GHCR.io/other/x:t",
        ] {
            assert_eq!(refusal(&cache, address), None, "{address}");
        }
        for address in [
            "https://images.example/b.img",
            "http://images.example:81/b",
            "http://10.0.0.5/c",
            "oras://h.example/a/x:t",
        ] {
            assert!(refusal(&cache, address).is_some(), "{address}");
        }
    }

    #[test]
    fn without_a_catalog_only_public_addresses_are_asked() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path(), "", "10.1.0.0/16", false);
        for address in ["http://8.8.8.8/x", "http://10.1.2.3/x", "http://[2001:db8::1]/x"] {
            assert_eq!(refusal(&cache, address), None, "{address}");
        }
        for address in
            ["http://10.2.0.1/x", "http://[fd00::1]:8080/x", "oras://192.168.1.1:5000/a/b:t"]
        {
            let refused = refusal(&cache, address).unwrap();
            assert!(
                refused.contains("cache.origins") && refused.contains("cache.reach"),
                "{refused}"
            );
        }
        // naming it would not be enough
        for address in ["http://127.0.0.1/x", "http://localhost/x", "http://0x7f.1/x"] {
            let refused = refusal(&cache, address).unwrap();
            assert!(refused.contains("its network in cache.reach"), "{refused}");
        }
    }

    #[test]
    fn origins_that_an_operator_names_are_all_there_are() {
        for has_catalog in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let cache = cache(dir.path(), "10.0.0.5", "", has_catalog);
            cache.set_catalog(Arc::new(["http://images.example".to_owned()].into()));
            assert_eq!(refusal(&cache, "http://10.0.0.5/x"), None);
            assert!(refusal(&cache, "http://images.example/x").unwrap().contains("cache.origins"));
        }
    }
}
