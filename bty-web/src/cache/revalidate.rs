//! Freshness: when to ask an origin for a newer version, and what to serve if it does not respond.

use std::sync::Arc;

use bty::Digest;
use serde_json::json;

use super::address::{Address, Key, blob_key};
use super::lookup::Lookup;
use super::object::CacheObject;
use super::origin::OriginClient;
use super::storage::Storage;
use crate::domain::error::Result;
use crate::domain::event::{Actor, NewEvent};
use crate::domain::time::Time;
use crate::store::cache as rows;

/// Time after a failed request during which the origin is not asked again about the same URL.
const RETRY_AFTER_MS: i64 = 10_000;

/// A URL whose tag, if it has one, is resolved.
pub(super) struct CacheRequest {
    /// URL to fetch from; a registry URL contains a digest.
    pub(super) address: Address,
    pub(super) key: Key,
    /// Digest that the URL contains.
    pub(super) declared: Option<Digest>,
    /// True if the registry did not respond when asked for the tag's current digest.
    pub(super) is_stale: bool,
}

/// Asks origins again once their last answer is older than `fresh_ms`.
pub(super) struct Revalidator {
    pub(super) storage: Arc<Storage>,
    pub(super) origin: OriginClient,
    pub(super) keep_query: bool,
    pub(super) fresh_ms: i64,
}

impl Revalidator {
    /// Resolves the tag of a registry URL; from memory while the last answer is fresh.
    pub(super) async fn resolve(&self, address: &Address) -> Result<CacheRequest> {
        let Address::Registry(reference) = address else {
            return Ok(CacheRequest {
                address: address.clone(),
                key: address.key(self.keep_query),
                declared: None,
                is_stale: false,
            });
        };
        let request = |digest: Digest, is_stale: bool| CacheRequest {
            address: Address::Registry(reference.with_digest(digest)),
            key: blob_key(digest),
            declared: Some(digest),
            is_stale,
        };
        let name = address.to_string();
        let is_tag = reference.tag().is_some();
        // the digest, and whether it is fresh
        let known = || {
            let index = self.storage.index();
            let named =
                reference.digest().filter(|digest| index.objects.contains_key(&blob_key(*digest)));
            if let Some(digest) = named {
                return Some((digest, true));
            }
            let (digest, checked_at) = *index.tags.get(&name)?;
            Some((digest, !is_tag || Time::now().ms_since(checked_at) < self.fresh_ms))
        };
        if let Some((digest, true)) = known() {
            return Ok(request(digest, false));
        }
        let _lock = self.origin.lock(&name).await;
        // another request may have asked in the meantime
        let before = known();
        if let Some((digest, true)) = before {
            return Ok(request(digest, false));
        }
        match (self.origin.resolve(reference).await, before) {
            (Ok(digest), before) => {
                self.record_tag(&name, digest, before.map(|(digest, _)| digest)).await?;
                Ok(request(digest, false))
            }
            (Err(error), Some((digest, _))) => {
                tracing::warn!(
                    %error,
                    address = name,
                    "the registry did not respond; using the digest that the tag had"
                );
                self.storage.index().tags.insert(name.clone(), (digest, self.retry_later()));
                Ok(request(digest, true))
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn record_tag(&self, name: &str, digest: Digest, before: Option<Digest>) -> Result<()> {
        let now = Time::now();
        self.storage.index().tags.insert(name.to_owned(), (digest, now));
        let moved_from = before.filter(|before| *before != digest);
        let name = name.to_owned();
        let written = self.storage.db.write(move |t| {
            rows::put_tag(t, &name, &digest, now)?;
            let Some(before) = moved_from else { return Ok(()) };
            let summary = format!("{name} now points to another digest");
            let event = NewEvent::new("cache.tag.moved", name.clone(), summary);
            t.record(&event.with(json!({ "from": before.to_string(), "to": digest.to_string() })))
                .map(drop)
        });
        written.await
    }

    /// Returns the complete object for `request`, after asking its origin if that is due. Returns
    /// `None` if the object must be filled, because it is not cached or the origin has a newer
    /// version.
    ///
    /// # Errors
    /// [`ErrorKind::Upstream`](crate::domain::error::ErrorKind::Upstream) if the object does not
    /// have the `expected` digest.
    pub(super) async fn current(
        &self,
        request: &CacheRequest,
        expected: Option<Digest>,
    ) -> Result<Option<Lookup>> {
        let find = || self.storage.index().objects.get(&request.key).cloned();
        let Some(mut object) = find() else { return Ok(None) };
        let mut is_stale = request.is_stale;
        if self.is_due(&object, expected) {
            let _lock = self.origin.lock(&object.record.address).await;
            // another request may have asked in the meantime
            object = match find() {
                Some(object) => object,
                None => return Ok(None),
            };
            if self.is_due(&object, expected) {
                match self.origin.is_unchanged(&request.address, &object.record).await {
                    Ok(true) => object.set_checked_at(Time::now()),
                    Ok(false) => {
                        self.remove_outdated(&object).await?;
                        return Ok(None);
                    }
                    Err(error) => {
                        let address = &object.record.address;
                        tracing::warn!(
                            %error,
                            address,
                            "the origin did not respond; serving the cached object"
                        );
                        object.set_checked_at(self.retry_later());
                        is_stale = true;
                    }
                }
            }
        }
        object.check_digest(expected)?;
        let found = self.storage.open(&self.storage.index(), &request.key, is_stale);
        object.count_hit(Time::now());
        Ok(found)
    }

    /// Returns whether the origin should be asked. An object with an unexpected digest is checked
    /// sooner: the catalog may know a newer version than the cache.
    fn is_due(&self, object: &CacheObject, expected: Option<Digest>) -> bool {
        let has_other_bytes = expected.is_some_and(|digest| digest != object.record.sha256);
        let fresh_ms = match has_other_bytes {
            true => RETRY_AFTER_MS.min(self.fresh_ms),
            false => self.fresh_ms,
        };
        !object.record.is_fixed && Time::now().ms_since(object.checked_at()) >= fresh_ms
    }

    async fn remove_outdated(&self, object: &Arc<CacheObject>) -> Result<()> {
        let summary = format!("{} has changed at its origin", object.record.address);
        self.storage.remove_object(object, "cache.object.outdated", summary, Actor::System).await
    }

    /// Returns a time of the last check that makes the next one due after [`RETRY_AFTER_MS`].
    fn retry_later(&self) -> Time {
        Time::now().plus_ms(RETRY_AFTER_MS.min(self.fresh_ms) - self.fresh_ms)
    }
}
