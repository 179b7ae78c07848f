//! What operators see of the cache host of this process, and what they do to it.

use std::sync::Arc;

use bty::Digest;
use serde::{Deserialize, Serialize};

use crate::cache::address::Address;
use crate::cache::fill::Fill;
use crate::cache::{CacheHost, Lookup};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::time::Time;
use crate::services::app::App;
use crate::store::cache::{self as rows, CacheMiss, ObjectRecord};

/// The cache host of this process.
///
/// # Errors
/// [`ErrorKind::NotFound`] when `cache.embedded` is off.
pub fn cache_host(app: &App) -> Result<&Arc<CacheHost>> {
    app.cache.as_ref().ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            "this server has no cache of its own: cache.embedded is off",
        )
    })
}

/// The key of an object, as clients write it.
///
/// # Errors
/// [`ErrorKind::Malformed`] when it is not 64 hexadecimal digits.
pub fn parse_key(text: &str) -> Result<Digest> {
    text.parse().map_err(|_| Error::new(ErrorKind::Malformed, "a key has 64 hexadecimal digits"))
}

/// Contents and counters of the cache host. Counters begin with the process.
#[derive(Serialize, utoipa::ToSchema)]
pub struct CacheState {
    /// Bytes in use.
    pub used_bytes: u64,
    /// Size that it does not exceed; null for the size of its file system.
    pub max_bytes: Option<u64>,
    /// True when it fetches only what an operator asks for.
    pub is_curated: bool,
    /// Answers from whole objects.
    pub hits: u64,
    /// Answers from objects that were being fetched.
    pub joined: u64,
    /// Requests for what was not there.
    pub misses: u64,
    /// Answers from objects whose origin could not be asked.
    pub stale: u64,
    /// Objects that were evicted.
    pub evictions: u64,
    /// Bytes sent to clients.
    pub sent_bytes: u64,
    /// Bytes fetched from origins.
    pub fetched_bytes: u64,
    /// Whole objects, the last used first.
    pub objects: Vec<CachedObject>,
    /// Objects that are being fetched.
    pub fills: Vec<CacheFill>,
    /// The last requests for what was not there, at most 200, the last first.
    pub missed: Vec<CacheMiss>,
}

/// A whole object.
#[derive(Serialize, utoipa::ToSchema)]
pub struct CachedObject {
    /// Digest of its address, by which it is named in requests.
    pub key: String,
    /// Its origin.
    pub address: String,
    /// Digest of its bytes.
    pub sha256: String,
    /// Its size.
    pub size_bytes: u64,
    /// True when it is never evicted.
    pub is_pinned: bool,
    /// How often it was asked for.
    pub hits: u64,
    /// When it was fetched.
    #[schema(value_type = String, format = DateTime)]
    pub fetched_at: Time,
    /// When its origin last confirmed it.
    #[schema(value_type = String, format = DateTime)]
    pub checked_at: Time,
    /// When it was last asked for.
    #[schema(value_type = String, format = DateTime)]
    pub used_at: Time,
}

impl From<ObjectRecord> for CachedObject {
    fn from(record: ObjectRecord) -> Self {
        Self {
            key: record.key.to_string(),
            address: record.address,
            sha256: record.sha256.to_string(),
            size_bytes: record.size_bytes,
            is_pinned: record.is_pinned,
            hits: record.hits,
            fetched_at: record.fetched_at,
            checked_at: record.checked_at,
            used_at: record.used_at,
        }
    }
}

/// An object that is being fetched.
#[derive(Serialize, utoipa::ToSchema)]
pub struct CacheFill {
    /// Digest of its address, by which it is named in requests.
    pub key: String,
    /// Its origin.
    pub address: String,
    /// Bytes that are here.
    pub done_bytes: u64,
    /// Its size; null while the origin has not said it.
    pub total_bytes: Option<u64>,
    /// When the fetch began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Time,
}

impl From<&Fill> for CacheFill {
    fn from(fill: &Fill) -> Self {
        Self {
            key: fill.key.to_string(),
            address: fill.address.clone(),
            done_bytes: fill.done_bytes(),
            total_bytes: fill.head().and_then(|head| head.len_bytes),
            started_at: fill.started_at,
        }
    }
}

const MISSES_LISTED: i64 = 200;

/// Contents and counters of the cache host.
///
/// # Errors
/// [`ErrorKind::NotFound`] when `cache.embedded` is off.
pub async fn state(app: &App) -> Result<CacheState> {
    let cache = cache_host(app)?;
    let missed = app.db.read(|conn| rows::misses(conn, MISSES_LISTED)).await?;
    let stats = cache.stats();
    Ok(CacheState {
        used_bytes: stats.used_bytes,
        max_bytes: cache.options.max_bytes,
        is_curated: cache.options.is_curated,
        hits: stats.hits,
        joined: stats.joined,
        misses: stats.misses,
        stale: stats.stale,
        evictions: stats.evictions,
        sent_bytes: stats.sent_bytes,
        fetched_bytes: stats.fetched_bytes,
        objects: cache.objects().into_iter().map(CachedObject::from).collect(),
        fills: cache.fills().iter().map(|fill| CacheFill::from(&**fill)).collect(),
        missed,
    })
}

/// An object to fetch.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewObject {
    /// `http://`, `https://` or `oras://`.
    pub url: String,
    /// Digest that its bytes must have.
    #[serde(default)]
    pub sha256: Option<String>,
}

/// Whether an object is here, or being fetched.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ObjectState {
    /// `hit` or `filling`.
    pub status: &'static str,
    /// Digest of its address, by which it is named in requests.
    pub key: String,
}

impl ObjectState {
    /// True when all of the object is here.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.status == "hit"
    }
}

/// Fetches an object, also when the cache is curated. Returns without waiting for the fetch.
///
/// # Errors
/// - [`ErrorKind::NotFound`] when `cache.embedded` is off.
/// - [`ErrorKind::Invalid`] when `sha256` is not a digest.
/// - Those of [`CacheHost::fetch`].
pub async fn fetch(app: &App, new: &NewObject) -> Result<ObjectState> {
    let cache = cache_host(app)?;
    let address: Address = new.url.trim().parse()?;
    let invalid = |e: bty::Error| Error::invalid(format!("sha256: {e}"));
    let expected = new.sha256.as_deref().map(str::parse).transpose().map_err(invalid)?;
    Ok(match cache.fetch(&address, expected).await? {
        Lookup::Whole { object, .. } => {
            ObjectState { status: "hit", key: object.record.key.to_string() }
        }
        Lookup::Filling(fill) => ObjectState { status: "filling", key: fill.key.to_string() },
    })
}

/// Deletes an object. Clients that are reading it still get all of it.
///
/// # Errors
/// - [`ErrorKind::Malformed`] when `key` is not a key.
/// - [`ErrorKind::NotFound`] when there is no such object.
pub async fn delete(app: &App, key: &str) -> Result<()> {
    cache_host(app)?.evict(&parse_key(key)?).await
}

/// Protects an object from eviction, or no longer.
///
/// # Errors
/// - [`ErrorKind::Malformed`] when `key` is not a key.
/// - [`ErrorKind::NotFound`] when there is no such object.
pub async fn set_pinned(app: &App, key: &str, is_pinned: bool) -> Result<CachedObject> {
    Ok(cache_host(app)?.pin(&parse_key(key)?, is_pinned).await?.into())
}

/// Cancels a fetch. The connections of clients that are reading it break.
///
/// # Errors
/// - [`ErrorKind::Malformed`] when `key` is not a key.
/// - [`ErrorKind::NotFound`] when there is no such fetch.
pub fn cancel(app: &App, key: &str) -> Result<()> {
    cache_host(app)?.cancel(&parse_key(key)?)
}

/// Forgets all misses.
///
/// # Errors
/// [`ErrorKind::NotFound`] when `cache.embedded` is off.
pub async fn forget_misses(app: &App) -> Result<()> {
    cache_host(app)?;
    app.db.write(|t| rows::forget_misses(t, None).map(drop)).await
}
