//! Routes of images: from the origin, or through a cache host that responds and can send the image.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bty::Client;
use bty::client::{Reply, Request};

use crate::cache::address::{Address, blob_url, packed_url};
use crate::cache::response::PACKED_INDEX_HEADER;
use crate::cache::{CacheHost, Lookup};
use crate::config::Config;
use crate::domain::error::Result;
use crate::domain::image_route::{CacheStatus, ImageRoute, PackedImage};
use crate::store::catalog::Stored;

/// Time after which a cache host counts as not responding.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum size of a cache host's response. Responses about an object have no body.
const PROBE_BYTES_MAX: usize = 64 << 10;

/// Maximum number of objects whose status is kept for lists.
const KNOWN_MAX: usize = 4096;

/// What a cache host has of an object.
#[derive(Clone, Debug)]
struct Known {
    status: CacheStatus,
    /// SHA-256 of the index of its packed form.
    packed_index: Option<String>,
}

impl From<CacheStatus> for Known {
    fn from(status: CacheStatus) -> Self {
        Self { status, packed_index: None }
    }
}

/// Chooses the route of an image.
pub struct ImageRouter {
    /// URL of an external cache host; empty for the one in this process.
    url: String,
    client: Client,
    cache: Option<Arc<CacheHost>>,
    /// Port of the cache host in this process.
    port: Option<u16>,
    /// What was last known of objects, by their URLs.
    known: Mutex<HashMap<String, Known>>,
}

impl ImageRouter {
    /// Creates a router for the cache host that `config` names, or for `cache`, the one in this
    /// process.
    #[must_use]
    pub fn new(config: &Config, client: Client, cache: Option<Arc<CacheHost>>) -> Self {
        let port = config.cache.as_ref().map(|(listen, _)| listen.port());
        Self { url: config.cache_url.clone(), client, cache, port, known: Mutex::default() }
    }

    /// Returns the URL of the cache host for a machine that reached this server at `base`.
    #[must_use]
    pub fn host(&self, base: &str) -> Option<String> {
        if !self.url.is_empty() {
            return Some(self.url.clone());
        }
        let mut url: url::Url = base.parse().ok()?;
        url.set_scheme("http").ok()?;
        url.set_port(Some(self.port?)).ok()?;
        // a proxy may serve this server under a path, but not the cache host
        url.set_path("");
        Some(url.as_str().trim_end_matches('/').to_owned())
    }

    /// Chooses the route of the image at `src`, after asking the cache host for its status.
    pub async fn choose(
        &self,
        base: &str,
        src: &str,
        name: &str,
        sha256: Option<&str>,
    ) -> ImageRoute {
        let (known, url, packed) = match (self.host(base), src.parse::<Address>()) {
            (Some(host), Ok(address)) => {
                let url = blob_url(&host, src, name, sha256);
                let known = self.ask(&address, &url, sha256).await;
                let packed = known.packed_at(&host, sha256, name);
                let url = Some(url).filter(|_| known.status.gives());
                (known, url, packed)
            }
            (Some(_), Err(_)) => (CacheStatus::Refused.into(), None, None),
            (None, _) => (CacheStatus::None.into(), None, None),
        };
        ImageRoute { src: src.to_owned(), url, packed, status: known.status }
    }

    async fn ask(&self, address: &Address, url: &str, sha256: Option<&str>) -> Known {
        let found = match &self.cache {
            _ if !self.url.is_empty() => probe(&self.client, url, sha256).await,
            Some(cache) => match cache.lookup(address) {
                Ok(Some(Lookup::Whole { object, .. }))
                    if sha256.is_none_or(|sha| object.record.sha256.to_string() == sha) =>
                {
                    let index = cache.packed_index(&object.record.sha256);
                    let packed_index = index.map(|digest| digest.to_string());
                    Known { status: CacheStatus::Hit, packed_index }
                }
                Ok(Some(Lookup::Filling(_))) => CacheStatus::Filling.into(),
                // the cache host downloads the object, or asks the origin for a newer version
                Ok(_) if !cache.options.is_curated => CacheStatus::Miss.into(),
                Ok(_) => CacheStatus::Curated.into(),
                Err(_) => CacheStatus::Refused.into(),
            },
            None => CacheStatus::None.into(),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(address.to_string(), found.clone());
        found
    }

    /// Returns the packed form of an image of the catalog, if the cache host in this process at
    /// `host` has it, or an external one had it at the last check.
    #[must_use]
    pub fn packed(&self, host: &str, entry: &Stored) -> Option<PackedImage> {
        let sha256 = entry.disk_image_sha.as_deref();
        let address = source(entry).parse::<Address>().ok()?;
        let known = match &self.cache {
            Some(cache) if self.url.is_empty() => {
                let index = cache.packed_index(&sha256?.parse().ok()?)?;
                let _ = cache.lookup(&address).ok()??;
                Known { status: CacheStatus::Hit, packed_index: Some(index.to_string()) }
            }
            _ => {
                let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                known.get(&address.to_string())?.clone()
            }
        };
        known.packed_at(host, sha256, &file_name(entry))
    }

    /// True if the cache host in this process has the image, or an external one had it at the last
    /// check.
    #[must_use]
    pub fn is_cached(&self, entry: &Stored) -> bool {
        let Ok(address) = source(entry).parse::<Address>() else { return false };
        match &self.cache {
            Some(cache) if self.url.is_empty() => {
                matches!(cache.lookup(&address), Ok(Some(Lookup::Whole { .. })))
            }
            _ => {
                let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                known
                    .get(&address.to_string())
                    .is_some_and(|known| known.status == CacheStatus::Hit)
            }
        }
    }

    /// True if the cache host responds.
    pub async fn is_reachable(&self) -> bool {
        match self.url.as_str() {
            "" => self.cache.is_some(),
            url => exchange(&self.client, &format!("{url}/healthz"), "GET")
                .await
                .is_some_and(|reply| reply.is_success()),
        }
    }

    /// Asks the cache host whether it has an image of the catalog. With `is_warming`, the cache
    /// host also downloads it.
    ///
    /// # Errors
    /// `ErrorKind::Upstream` when the cache host of this process cannot download the image.
    pub async fn look(&self, base: &str, entry: &Stored, is_warming: bool) -> Result<CacheStatus> {
        let src = source(entry);
        let choice = self.choose(base, src, &entry.name, entry.disk_image_sha.as_deref()).await;
        if is_warming
            && choice.status == CacheStatus::Miss
            && let (Some(cache), Ok(address)) = (&self.cache, src.parse::<Address>())
        {
            // an external cache host starts the download when it is asked about the image
            let sha256 = entry.disk_image_sha.as_deref().and_then(|sha| sha.parse().ok());
            return Ok(match cache.fetch(&address, sha256).await? {
                Lookup::Whole { .. } => CacheStatus::Hit,
                Lookup::Filling(_) => CacheStatus::Filling,
            });
        }
        Ok(choice.status)
    }
}

impl Known {
    /// Returns the packed form at the cache host `host`. Only for an image whose digest the catalog
    /// knows: any other may change at its origin, and the packed form would stay the old one.
    fn packed_at(&self, host: &str, sha256: Option<&str>, name: &str) -> Option<PackedImage> {
        if self.status != CacheStatus::Hit {
            return None;
        }
        let url = packed_url(host, sha256?, name);
        Some(PackedImage { url, index_sha256: self.packed_index.clone()? })
    }
}

/// Returns the file name of an entry's content.
#[must_use]
pub fn file_name(entry: &Stored) -> String {
    bty::catalog::file_name(source(entry)).unwrap_or_else(|| entry.name.clone())
}

/// Returns the URL of an entry's content.
#[must_use]
pub fn source(entry: &Stored) -> &str {
    entry.resolved_src.as_deref().unwrap_or(&entry.src)
}

/// Sends a request to an external cache host; `None` if the response exceeds the limits of time and
/// size.
async fn exchange(client: &Client, url: &str, method: &str) -> Option<Reply> {
    let mut request = Request::get(url);
    (request.method, request.timeout, request.limit_bytes) =
        (Some(method), PROBE_TIMEOUT, PROBE_BYTES_MAX);
    let reply = client.exchange_async(&request).await;
    let log = |error: &bty::Error| {
        tracing::debug!(error = format_args!("{error:#}"), "a cache host did not respond");
    };
    reply.inspect_err(log).ok()
}

/// Asks an external cache host about an object. bty's cache host answers in `X-Cache`. Without that
/// header, as from the reference's, a 404 counts as [`CacheStatus::Curated`].
async fn probe(client: &Client, url: &str, sha256: Option<&str>) -> Known {
    let Some(answer) = exchange(client, url, "HEAD").await else {
        return CacheStatus::Away.into();
    };
    let text = |name: &str| answer.header(name);
    let status = match (answer.status, text("x-cache")) {
        (200, Some("filling")) => CacheStatus::Filling,
        (200, _) => match (text("x-withcache-sha256"), sha256) {
            (Some(found), Some(expected)) if !found.eq_ignore_ascii_case(expected) => {
                CacheStatus::Other
            }
            _ => CacheStatus::Hit,
        },
        (404, Some("miss")) => CacheStatus::Miss,
        (404, _) => CacheStatus::Curated,
        (400..=499, _) => CacheStatus::Refused,
        _ => CacheStatus::Away,
    };
    let index = text(PACKED_INDEX_HEADER).filter(|text| text.parse::<bty::Digest>().is_ok());
    Known { status, packed_index: index.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    /// A cache host that answers once, with `head` and then `body` repeatedly until the client
    /// disconnects.
    fn endless(head: &'static str, body: &'static [u8], pause: Duration) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes());
            while stream.write_all(body).is_ok() {
                std::thread::sleep(pause);
            }
        });
        base
    }

    fn ask(url: &str) -> Option<Reply> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(exchange(&Client::default(), url, "GET"))
    }

    #[test]
    fn an_endless_response_of_a_cache_host_is_cut_off() {
        let begun = Instant::now();
        assert!(ask(&endless("200 OK", &[b'x'; 4096], Duration::ZERO)).is_none());
        assert!(begun.elapsed() < PROBE_TIMEOUT, "by its size: {:?}", begun.elapsed());
    }

    #[test]
    fn a_cache_host_that_responds_slowly_counts_as_unavailable() {
        let begun = Instant::now();
        assert!(ask(&endless("200 OK", b"x", Duration::from_millis(100))).is_none());
        assert!(
            (PROBE_TIMEOUT..PROBE_TIMEOUT * 4).contains(&begun.elapsed()),
            "{:?}",
            begun.elapsed()
        );
    }
}
