//! The cache host: objects for machines, and its controls for operators.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Version};
use axum::response::{IntoResponse, Response};

use crate::blocking::blocking;
use crate::cache::CacheHost;
use crate::cache::response::{BlobBody, BlobRequest, BlobResponse, Payload};
use crate::conditional::Conditions;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::http::error::ErrorBody;
use crate::http::extract::{Json, PathText};
use crate::services::cache_control::{
    CacheControl, CacheState, CachedObject, NewObject, ObjectState,
};

/// Number of bytes read at once for a client that the router serves.
const CHUNK_BYTES: u64 = 256 << 10;

/// Returns an object of an origin. The path contains the object's URL in URL-safe Base64.
///
/// An object that is not in the cache is fetched while it is sent. `Range` and conditional requests
/// are supported. HEAD does not wait for a fetch. The `X-Cache` header tells the source of the
/// response: `hit`, `stale`, `filling`, `miss`, `curated` or `refused`.
#[utoipa::path(
    get, path = "/b/{address}/{name}", tag = "cache",
    params(
        ("address" = String, Path, description = "the URL of the object in URL-safe Base64"),
        ("name" = String, Path, description = "any file name; the server ignores it"),
        ("sha256" = Option<String>, Query, description = "digest that the bytes must have"),
    ),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 206),
        (status = 304), (status = 400, body = ErrorBody), (status = 412),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 416),
        (status = 429, body = ErrorBody), (status = 502, body = ErrorBody),
        (status = 507, body = ErrorBody),
    ),
)]
pub(crate) async fn object(
    State(cache): State<CacheControl>,
    request: Request,
) -> Result<Response> {
    serve(cache.host()?, request).await
}

/// Returns an object of an origin, whose URL is in the query.
///
/// Otherwise like `/b/{address}/{name}`.
#[utoipa::path(
    get, path = "/blob", tag = "cache",
    params(
        ("url" = String, Query, description = "the URL of the object at its origin"),
        ("sha256" = Option<String>, Query, description = "digest that the bytes must have"),
    ),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 206),
        (status = 304), (status = 400, body = ErrorBody), (status = 412),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 416),
        (status = 429, body = ErrorBody), (status = 502, body = ErrorBody),
        (status = 507, body = ErrorBody),
    ),
)]
pub(crate) async fn blob(State(cache): State<CacheControl>, request: Request) -> Result<Response> {
    serve(cache.host()?, request).await
}

/// Returns the packed form of an object.
///
/// It holds the same disk image as the object, in a file from which clients fetch only the parts
/// that they need. `Range` and conditional requests are supported. The header
/// `X-Packed-Index-Sha256` has the digest of its index. 404 until the object is packed.
#[utoipa::path(
    get, path = "/packed/{sha256}/{name}", tag = "cache",
    params(
        ("sha256" = String, Path, description = "SHA-256 of the object"),
        ("name" = String, Path, description = "any file name; the server ignores it"),
    ),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 206),
        (status = 304), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 412), (status = 416),
    ),
)]
pub(crate) async fn packed(
    State(cache): State<CacheControl>,
    request: Request,
) -> Result<Response> {
    let cache = cache.host()?;
    let path = request.uri().path().trim_start_matches("/packed/");
    let sha256 = path.split('/').next().unwrap_or_default().to_owned();
    let is_head = request.method() == axum::http::Method::HEAD;
    let conditions = Conditions::of(request.headers());
    let served = Arc::clone(cache);
    let found = blocking(move || served.serve_packed(&sha256, is_head, &conditions)).await?;
    response(cache, found)
}

async fn serve(cache: &Arc<CacheHost>, request: Request) -> Result<Response> {
    let (request, _) = request.into_parts();
    let blob = BlobRequest {
        path: request.uri.path(),
        query: request.uri.query().unwrap_or_default(),
        is_head: request.method == axum::http::Method::HEAD,
        conditions: Conditions::of(&request.headers),
    };
    let found = cache.serve(&blob).await;
    let has_body = matches!(found.payload, Payload::Bytes(_));
    if request.version == Version::HTTP_10 && has_body && found.length().is_none() {
        // the end of the connection would mark the end of the body, and a failure as well
        return Err(Error::new(
            ErrorKind::Malformed,
            "the length of the object is not known yet: use HTTP/1.1, or try again later",
        ));
    }
    response(cache, found)
}

fn response(cache: &Arc<CacheHost>, answer: BlobResponse) -> Result<Response> {
    let body = match answer.payload {
        Payload::Text(text) => Body::from(text),
        Payload::Bytes(body) => {
            let cache = Arc::clone(cache);
            let start = body.start;
            Body::from_stream(futures_util::stream::try_unfold(Some((body, start)), move |rest| {
                next_chunk(Arc::clone(&cache), rest)
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

/// The part of a body that was not sent yet: the body, and an offset in it.
type Rest = Option<(BlobBody, u64)>;

/// Reads the next chunk of a body. The last one comes without a rest, so that the object can be
/// evicted before the client knows that it has all of it.
async fn next_chunk(cache: Arc<CacheHost>, rest: Rest) -> Result<Option<(Bytes, Rest)>> {
    let Some((body, at)) = rest.filter(|(body, at)| body.end != Some(*at)) else {
        return Ok(None);
    };
    let available = body.readable(at).await?;
    if available <= at {
        return Ok(None);
    }
    let len = usize::try_from((available - at).min(CHUNK_BYTES)).unwrap_or_default();
    let (chunk, body) = blocking(move || {
        let mut chunk = vec![0; len];
        body.file.read_exact_at(&mut chunk, at).map(|()| (chunk, body))
    })
    .await??;
    cache.counters().sent_bytes.fetch_add(len as u64, Ordering::Relaxed);
    let at = at + len as u64;
    let rest = (body.end != Some(at)).then_some((body, at));
    Ok(Some((Bytes::from(chunk), rest)))
}

/// Returns the contents and counters of the cache host.
#[utoipa::path(
    get, path = "/cache", tag = "cache",
    responses(
        (status = 200, body = CacheState), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub(crate) async fn state(State(cache): State<CacheControl>) -> Result<axum::Json<CacheState>> {
    cache.state().await.map(axum::Json)
}

/// Fetches an object into the cache, even if the cache is curated.
///
/// The response does not wait for the fetch.
#[utoipa::path(
    post, path = "/cache/objects", tag = "cache", request_body = NewObject,
    responses(
        (status = 200, body = ObjectState), (status = 202, body = ObjectState),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody),
        (status = 429, body = ErrorBody), (status = 502, body = ErrorBody),
    ),
)]
pub(crate) async fn fetch(
    State(cache): State<CacheControl>,
    Json(new): Json<NewObject>,
) -> Result<Response> {
    let state = cache.fetch(&new).await?;
    let status = if state.is_whole() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, axum::Json(state)).into_response())
}

/// Deletes an object from the cache.
///
/// Clients that are already reading it still receive all of it.
#[utoipa::path(
    delete, path = "/cache/objects/{key}", tag = "cache",
    params(("key" = String, Path, description = "the key in the list of the cache")),
    responses(
        (status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub(crate) async fn delete(
    State(cache): State<CacheControl>,
    PathText(key): PathText,
) -> Result<StatusCode> {
    cache.delete(&key).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pins an object, so that it is never evicted.
#[utoipa::path(
    put, path = "/cache/objects/{key}/pin", tag = "cache",
    params(("key" = String, Path, description = "the key in the list of the cache")),
    responses(
        (status = 200, body = CachedObject), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
)]
pub(crate) async fn pin(
    State(cache): State<CacheControl>,
    PathText(key): PathText,
) -> Result<axum::Json<CachedObject>> {
    cache.set_pinned(&key, true).await.map(axum::Json)
}

/// Unpins an object, so that it can be evicted again.
#[utoipa::path(
    delete, path = "/cache/objects/{key}/pin", tag = "cache",
    params(("key" = String, Path, description = "the key in the list of the cache")),
    responses(
        (status = 200, body = CachedObject), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
)]
pub(crate) async fn unpin(
    State(cache): State<CacheControl>,
    PathText(key): PathText,
) -> Result<axum::Json<CachedObject>> {
    cache.set_pinned(&key, false).await.map(axum::Json)
}

/// Cancels a fetch.
///
/// Clients that are reading the object are disconnected.
#[utoipa::path(
    delete, path = "/cache/fills/{key}", tag = "cache",
    params(("key" = String, Path, description = "the key in the list of the cache")),
    responses(
        (status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub(crate) async fn cancel(
    State(cache): State<CacheControl>,
    PathText(key): PathText,
) -> Result<StatusCode> {
    cache.cancel(&key)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes the list of misses.
#[utoipa::path(
    delete, path = "/cache/misses", tag = "cache",
    responses(
        (status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
)]
pub(crate) async fn forget(State(cache): State<CacheControl>) -> Result<StatusCode> {
    cache.forget_misses().await?;
    Ok(StatusCode::NO_CONTENT)
}
