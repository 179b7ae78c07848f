//! The cache host: objects for machines, and its state for operators.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bty::Digest;
use serde::{Deserialize, Serialize};

use crate::blocking::blocking;
use crate::cache::address::Address;
use crate::cache::response::{BlobRequest, BlobResponse, Payload};
use crate::cache::{CacheHost, Lookup};
use crate::conditional::Conditions;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::time::Time;
use crate::http::error::ErrorBody;
use crate::http::extract::{Json, PathText};
use crate::services::app::App;
use crate::store::cache::{self as rows, CacheMiss, ObjectRecord};

/// As many misses are listed.
const MISSES_LISTED: i64 = 200;

/// Bytes read at once for a client that is served by the router.
const CHUNK_BYTES: u64 = 256 << 10;

pub(crate) fn own(app: &App) -> Result<&Arc<CacheHost>> {
    app.cache.as_ref().ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            "this server has no cache of its own: cache.embedded is off",
        )
    })
}

/// An object of an origin, whose address is in the path in URL-safe Base64. What is not here is
/// fetched while it is sent. `Range` and conditions are understood; HEAD waits for nobody.
/// `X-Cache` says how it was had: `hit`, `stale`, `filling`, `miss`, `curated`, `refused`.
#[utoipa::path(get, path = "/b/{address}/{name}", tag = "cache",
    params(("address" = String, Path), ("name" = String, Path, description = "for people: anything"),
           ("sha256" = Option<String>, Query, description = "only these bytes will do")),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 206), (status = 304), (status = 400, body = ErrorBody), (status = 412),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 416), (status = 429, body = ErrorBody), (status = 502, body = ErrorBody),
        (status = 507, body = ErrorBody)))]
pub(crate) async fn object(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    serve(own(&app)?, request).await
}

/// The same, with the address in the query.
#[utoipa::path(get, path = "/blob", tag = "cache", params(("url" = String, Query), ("sha256" = Option<String>, Query)),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 206), (status = 304), (status = 400, body = ErrorBody), (status = 412),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 416), (status = 429, body = ErrorBody), (status = 502, body = ErrorBody),
        (status = 507, body = ErrorBody)))]
pub(crate) async fn blob(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    serve(own(&app)?, request).await
}

async fn serve(cache: &Arc<CacheHost>, request: Request) -> Result<Response> {
    let (request, _) = request.into_parts();
    let blob = BlobRequest {
        path: request.uri.path(),
        query: request.uri.query().unwrap_or_default(),
        is_head: request.method == axum::http::Method::HEAD,
        conditions: Conditions::of(&request.headers),
    };
    response(cache, cache.serve(&blob).await)
}

fn response(cache: &Arc<CacheHost>, answer: BlobResponse) -> Result<Response> {
    let body = match answer.payload {
        Payload::Text(text) => Body::from(text),
        Payload::Bytes(body) => {
            let cache = Arc::clone(cache);
            Body::from_stream(futures_util::stream::try_unfold(body.start, move |at| {
                let (body, cache) = (body.clone(), Arc::clone(&cache));
                async move {
                    if body.end == Some(at) {
                        return Ok(None);
                    }
                    let there = body.readable(at).await?;
                    if there <= at {
                        return Ok(None);
                    }
                    let len = usize::try_from((there - at).min(CHUNK_BYTES)).unwrap_or_default();
                    let read = blocking(move || {
                        let mut chunk = vec![0; len];
                        body.file.read_exact_at(&mut chunk, at).map(|()| chunk)
                    });
                    let chunk = read.await??;
                    cache.counters().sent_bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    Ok::<_, Error>(Some((Bytes::from(chunk), at + len as u64)))
                }
            }))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(answer.status).map_err(Error::internal)?;
    for (name, value) in answer.headers {
        response.headers_mut().insert(name, HeaderValue::try_from(value).map_err(Error::internal)?);
    }
    Ok(response)
}

/// What a cache host holds, and does.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct CacheState {
    /// Bytes that are taken.
    used_bytes: u64,
    /// Larger than this it does not grow; null for the disk's size.
    max_bytes: Option<u64>,
    /// Only what an operator asks for is fetched.
    is_curated: bool,
    /// Answers from whole objects, since the start.
    hits: u64,
    /// Answers from objects on their way.
    joined: u64,
    /// What was not there.
    misses: u64,
    /// Answers from objects whose origin could not be asked.
    stale: u64,
    /// Objects that made room for others.
    evictions: u64,
    /// Bytes that clients got.
    sent_bytes: u64,
    /// Bytes that origins gave.
    fetched_bytes: u64,
    /// Whole objects, the last used first.
    objects: Vec<CachedObject>,
    /// Objects on their way.
    fills: Vec<CacheFill>,
    /// What was asked for and not there, at most 200, the last first.
    missed: Vec<CacheMiss>,
}

/// A whole object.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct CachedObject {
    key: String,
    address: String,
    sha256: String,
    size_bytes: u64,
    is_pinned: bool,
    hits: u64,
    #[schema(value_type = String, format = DateTime)]
    fetched_at: Time,
    #[schema(value_type = String, format = DateTime)]
    checked_at: Time,
    #[schema(value_type = String, format = DateTime)]
    used_at: Time,
}

impl From<ObjectRecord> for CachedObject {
    fn from(facts: ObjectRecord) -> Self {
        Self {
            key: facts.key.to_string(),
            address: facts.address,
            sha256: facts.sha256.to_string(),
            size_bytes: facts.size_bytes,
            is_pinned: facts.is_pinned,
            hits: facts.hits,
            fetched_at: facts.fetched_at,
            checked_at: facts.checked_at,
            used_at: facts.used_at,
        }
    }
}

/// An object on its way.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct CacheFill {
    key: String,
    address: String,
    done_bytes: u64,
    /// Null while nobody knows.
    total_bytes: Option<u64>,
    #[schema(value_type = String, format = DateTime)]
    started_at: Time,
}

/// What the cache host holds, and does.
#[utoipa::path(get, path = "/cache", tag = "cache", responses((status = 200, body = CacheState), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn state(State(app): State<Arc<App>>) -> Result<axum::Json<CacheState>> {
    let cache = own(&app)?;
    let missed = app.db.read(|conn| rows::misses(conn, MISSES_LISTED)).await?;
    let stats = cache.stats();
    let fill = |fill: Arc<crate::cache::fill::Fill>| CacheFill {
        key: fill.key.to_string(),
        done_bytes: fill.done_bytes(),
        total_bytes: fill.head().and_then(|head| head.len_bytes),
        started_at: fill.started_at,
        address: fill.address.clone(),
    };
    Ok(axum::Json(CacheState {
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
        fills: cache.fills().into_iter().map(fill).collect(),
        missed,
    }))
}

/// An object that is to be fetched.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewObject {
    /// `http://`, `https://` or `oras://`.
    url: String,
    /// Only these bytes will do.
    #[serde(default)]
    sha256: Option<String>,
}

/// How an object stands.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct ObjectState {
    /// `hit` or `filling`.
    status: &'static str,
    key: String,
}

/// Fetches an object, also when the cache is curated. The answer does not wait for it.
#[utoipa::path(post, path = "/cache/objects", tag = "cache", request_body = NewObject,
    responses((status = 200, body = ObjectState), (status = 202, body = ObjectState), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody),
        (status = 429, body = ErrorBody), (status = 502, body = ErrorBody)))]
pub(crate) async fn fetch(
    State(app): State<Arc<App>>,
    Json(new): Json<NewObject>,
) -> Result<Response> {
    let (status, state) = start(own(&app)?, &new.url, new.sha256.as_deref()).await?;
    Ok((status, axum::Json(state)).into_response())
}

pub(crate) async fn start(
    cache: &Arc<CacheHost>,
    url: &str,
    sha256: Option<&str>,
) -> Result<(StatusCode, ObjectState)> {
    let address: Address = url.trim().parse()?;
    let wrong = |e: bty::Error| Error::invalid(format!("sha256: {e}"));
    let expected = sha256.map(str::parse).transpose().map_err(wrong)?;
    Ok(match cache.fetch(&address, expected).await? {
        Lookup::Whole { object, .. } => {
            (StatusCode::OK, ObjectState { status: "hit", key: object.record.key.to_string() })
        }
        Lookup::Filling(fill) => {
            (StatusCode::ACCEPTED, ObjectState { status: "filling", key: fill.key.to_string() })
        }
    })
}

pub(crate) fn key(text: &str) -> Result<Digest> {
    text.parse().map_err(|_| Error::new(ErrorKind::Malformed, "a key has 64 hexadecimal digits"))
}

/// Deletes an object. Who reads it, reads it to its end.
#[utoipa::path(delete, path = "/cache/objects/{key}", tag = "cache", params(("key" = String, Path)),
    responses((status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    PathText(text): PathText,
) -> Result<StatusCode> {
    own(&app)?.evict(&key(&text)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Keeps an object for ever: it never makes room for others.
#[utoipa::path(put, path = "/cache/objects/{key}/pin", tag = "cache", params(("key" = String, Path)),
    responses((status = 200, body = CachedObject), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn pin(
    State(app): State<Arc<App>>,
    PathText(text): PathText,
) -> Result<axum::Json<CachedObject>> {
    Ok(axum::Json(own(&app)?.pin(&key(&text)?, true).await?.into()))
}

/// Lets an object make room for others again.
#[utoipa::path(delete, path = "/cache/objects/{key}/pin", tag = "cache", params(("key" = String, Path)),
    responses((status = 200, body = CachedObject), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn unpin(
    State(app): State<Arc<App>>,
    PathText(text): PathText,
) -> Result<axum::Json<CachedObject>> {
    Ok(axum::Json(own(&app)?.pin(&key(&text)?, false).await?.into()))
}

/// Ends the fill of an object; its clients are told by a broken connection.
#[utoipa::path(delete, path = "/cache/fills/{key}", tag = "cache", params(("key" = String, Path)),
    responses((status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    PathText(text): PathText,
) -> Result<StatusCode> {
    own(&app)?.cancel(&key(&text)?)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Forgets all that was asked for and not there.
#[utoipa::path(delete, path = "/cache/misses", tag = "cache", responses((status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn forget(State(app): State<Arc<App>>) -> Result<StatusCode> {
    own(&app)?;
    app.db.write(|t| rows::forget_misses(t, None)).await?;
    Ok(StatusCode::NO_CONTENT)
}
