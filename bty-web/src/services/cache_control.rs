//! The operator's view of the cache host in this process, and its controls.

use std::sync::Arc;

use bty::Digest;
use serde::{Deserialize, Serialize};

use crate::cache::address::{Address, packed_url};
use crate::cache::fill::Fill;
use crate::cache::{CacheHost, Lookup};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::time::Time;
use crate::store::Database;
use crate::store::cache::{self as rows, CacheMiss, ObjectRecord, PackOutcome, PackedRecord};

/// Controls the cache host of this process, if it has one.
#[derive(Clone)]
pub struct CacheControl {
    cache: Option<Arc<CacheHost>>,
    db: Database,
}

impl CacheControl {
    pub(crate) fn new(cache: Option<Arc<CacheHost>>, db: Database) -> Self {
        Self { cache, db }
    }

    /// Returns the cache host of this process.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when `cache.embedded` is off.
    pub fn host(&self) -> Result<&Arc<CacheHost>> {
        self.cache.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "this server has no cache of its own: cache.embedded is off",
            )
        })
    }

    /// True if this process has a cache host.
    #[must_use]
    pub fn has_host(&self) -> bool {
        self.cache.is_some()
    }

    /// True if the cache host is fetching an object.
    #[must_use]
    pub fn is_fetching(&self) -> bool {
        self.cache.as_ref().is_some_and(|cache| !cache.fills().is_empty())
    }

    /// Returns the contents and counters of the cache host.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when `cache.embedded` is off.
    pub async fn state(&self) -> Result<CacheState> {
        let cache = self.host()?;
        let missed = self.db.read(|conn| rows::misses(conn, MISSES_LISTED)).await?;
        let stats = cache.stats();
        let object = |record: ObjectRecord| {
            let packed = cache.packed(&record.sha256);
            CachedObject::new(record, packed.as_deref())
        };
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
            objects: cache.objects().into_iter().map(object).collect(),
            fills: cache.fills().iter().map(|fill| CacheFill::from(&**fill)).collect(),
            missed,
        })
    }

    /// Fetches an object, even if the cache is curated. Returns without waiting for the fetch.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`] when `cache.embedded` is off.
    /// - [`ErrorKind::Invalid`] when `sha256` is not a digest.
    /// - The errors of [`CacheHost::fetch`].
    pub async fn fetch(&self, new: &NewObject) -> Result<ObjectState> {
        let cache = self.host()?;
        let address: Address = new.url.trim().parse()?;
        let invalid = |e: bty::Error| Error::invalid(format!("sha256: {e:#}"));
        let expected = new.sha256.as_deref().map(str::parse).transpose().map_err(invalid)?;
        Ok(match cache.fetch(&address, expected).await? {
            Lookup::Whole { object, .. } => {
                ObjectState { status: "hit", key: object.record.key.to_string() }
            }
            Lookup::Filling(fill) => ObjectState { status: "filling", key: fill.key.to_string() },
        })
    }

    /// Deletes an object. Clients that are already reading it still receive all of it.
    ///
    /// # Errors
    /// - [`ErrorKind::Malformed`] when `key` is not a key.
    /// - [`ErrorKind::NotFound`] when there is no such object.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.host()?.evict(&parse_key(key)?).await
    }

    /// Pins an object, which protects it from eviction, or unpins it.
    ///
    /// # Errors
    /// - [`ErrorKind::Malformed`] when `key` is not a key.
    /// - [`ErrorKind::NotFound`] when there is no such object.
    pub async fn set_pinned(&self, key: &str, is_pinned: bool) -> Result<CachedObject> {
        let cache = self.host()?;
        let record = cache.pin(&parse_key(key)?, is_pinned).await?;
        let packed = cache.packed(&record.sha256);
        Ok(CachedObject::new(record, packed.as_deref()))
    }

    /// Cancels a fetch. Clients that are reading the object are disconnected.
    ///
    /// # Errors
    /// - [`ErrorKind::Malformed`] when `key` is not a key.
    /// - [`ErrorKind::NotFound`] when there is no such fetch.
    pub fn cancel(&self, key: &str) -> Result<()> {
        self.host()?.cancel(&parse_key(key)?)
    }

    /// Deletes the list of misses.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when `cache.embedded` is off.
    pub async fn forget_misses(&self) -> Result<()> {
        self.host()?;
        self.db.write(|t| rows::forget_misses(t, None).map(drop)).await
    }
}

/// Contents and counters of the cache host. Counters start at zero with the process.
#[derive(Serialize, utoipa::ToSchema)]
pub struct CacheState {
    /// Bytes in use.
    pub used_bytes: u64,
    /// Maximum size; null if only its file system limits it.
    pub max_bytes: Option<u64>,
    /// True if it fetches only what an operator requests.
    pub is_curated: bool,
    /// Requests served from complete objects.
    pub hits: u64,
    /// Requests served from objects that were still being fetched.
    pub joined: u64,
    /// Requests for objects that were not in the cache.
    pub misses: u64,
    /// Requests served from objects whose origin could not be reached for a check.
    pub stale: u64,
    /// Number of evicted objects.
    pub evictions: u64,
    /// Bytes sent to clients.
    pub sent_bytes: u64,
    /// Bytes fetched from origins.
    pub fetched_bytes: u64,
    /// Complete objects, the most recently used first.
    pub objects: Vec<CachedObject>,
    /// Objects that are being fetched.
    pub fills: Vec<CacheFill>,
    /// The most recent misses, at most 200, newest first.
    pub missed: Vec<CacheMiss>,
}

/// A complete object.
#[derive(Serialize, utoipa::ToSchema)]
pub struct CachedObject {
    /// Digest of its URL, which identifies it in requests.
    pub key: String,
    /// Its URL at the origin.
    pub address: String,
    /// SHA-256 of its content.
    pub sha256: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its packed form; null until packing it has ended.
    pub packed: Option<PackedForm>,
    /// True if it is never evicted.
    pub is_pinned: bool,
    /// Number of requests for it.
    pub hits: u64,
    /// When it was fetched from the origin.
    #[schema(value_type = String, format = DateTime)]
    pub fetched_at: Time,
    /// When the origin last confirmed that it is current.
    #[schema(value_type = String, format = DateTime)]
    pub checked_at: Time,
    /// When it was last requested.
    #[schema(value_type = String, format = DateTime)]
    pub used_at: Time,
}

/// The packed form of an object, from which clients fetch only the parts that they need.
#[derive(Serialize, utoipa::ToSchema)]
pub struct PackedForm {
    /// Path of its URL on the cache host; null if packing failed.
    pub path: Option<String>,
    /// SHA-256 of its index; null if packing failed.
    pub index_sha256: Option<String>,
    /// Its size; 0 if packing failed, or the object is a packed image itself.
    pub size_bytes: u64,
    /// Why packing failed.
    pub failure: Option<String>,
}

impl From<&PackedRecord> for PackedForm {
    fn from(record: &PackedRecord) -> Self {
        let index_sha256 = record.index_sha256().map(|digest| digest.to_string());
        Self {
            path: index_sha256
                .as_ref()
                .map(|_| packed_url("", &record.sha256.to_string(), "image")),
            index_sha256,
            size_bytes: record.file_bytes(),
            failure: match &record.outcome {
                PackOutcome::Failed(why) => Some(why.clone()),
                _ => None,
            },
        }
    }
}

impl CachedObject {
    fn new(record: ObjectRecord, packed: Option<&PackedRecord>) -> Self {
        Self {
            packed: packed.map(PackedForm::from),
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
    /// Digest of its URL, which identifies it in requests.
    pub key: String,
    /// Its URL at the origin.
    pub address: String,
    /// Bytes fetched so far.
    pub done_bytes: u64,
    /// Its size; null until the origin reports it.
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

/// An object to fetch.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewObject {
    /// `http://`, `https://` or `oras://`.
    pub url: String,
    /// SHA-256 that its content must have.
    #[serde(default)]
    pub sha256: Option<String>,
}

/// Whether an object is complete or being fetched.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ObjectState {
    /// `hit` or `filling`.
    pub status: &'static str,
    /// Digest of its URL, which identifies it in requests.
    pub key: String,
}

impl ObjectState {
    /// True if the object is complete.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.status == "hit"
    }
}

/// Parses the key of an object.
///
/// # Errors
/// [`ErrorKind::Malformed`] when it is not 64 hexadecimal digits.
pub fn parse_key(text: &str) -> Result<Digest> {
    text.parse().map_err(|_| {
        Error::new(ErrorKind::Malformed, "invalid key: expected 64 hexadecimal digits")
    })
}
