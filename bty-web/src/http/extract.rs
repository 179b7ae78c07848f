//! Extractors for handlers. All rejections are [`Error`]s.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, FromRef, FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use bty::CancelToken;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::limit::Limit;
use crate::domain::mac::Mac;
use crate::domain::machine::ClientContext;
use crate::domain::time::Time;
use crate::http::bodies::{Refusal, Share};
use crate::http::client_address::resolve_client;
use crate::services::access::Principal;

/// A JSON body.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T>
where
    Arc<Config>: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let bytes = body(request, &Arc::from_ref(state)).await?;
        parse_json(&bytes).map(Self)
    }
}

/// A body as it was sent.
pub struct RawBody(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for RawBody
where
    Arc<Config>: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        body(request, &Arc::from_ref(state)).await.map(Self)
    }
}

/// A body of text.
pub struct Text(pub String);

impl<S: Send + Sync> FromRequest<S> for Text
where
    Arc<Config>: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let bytes = body(request, &Arc::from_ref(state)).await?;
        let text = String::from_utf8(bytes.to_vec());
        text.map(Self).map_err(|_| Error::new(ErrorKind::Malformed, "the body is not UTF-8"))
    }
}

/// An optional JSON body; the default value if it is missing.
pub struct OptionalJson<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T>
where
    Arc<Config>: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let bytes = body(request, &Arc::from_ref(state)).await?;
        if bytes.is_empty() { Ok(Self(T::default())) } else { parse_json(&bytes).map(Self) }
    }
}

async fn body(request: Request, config: &Config) -> Result<Bytes> {
    let is_anonymous = request.extensions().get::<Principal>().is_none();
    // the middleware holds another copy until the response is complete
    let share = request.extensions().get::<Share>().filter(|_| is_anonymous).cloned();
    let request = match share {
        Some(share) => request.map(|body| share.count(body)),
        None => request,
    };
    Bytes::from_request(request, &()).await.map_err(|rejection: BytesRejection| {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Error::new(ErrorKind::TooLarge, "the request body is too large")
            }
            _ => incomplete_body(config.limits.body_rate, &rejection),
        }
    })
}

/// Returns the error for a body that could not be read completely. `rate` is the minimum rate of
/// bodies in bytes per second.
pub fn incomplete_body(rate: u64, error: &(dyn std::error::Error + 'static)) -> Error {
    match Refusal::of(error) {
        Some(Refusal::TooSlow) => {
            let detail = format!("the body came slower than {rate} bytes/s");
            Error::limited(ErrorKind::Slow, Limit::SlowBody, 1, detail)
        }
        Some(Refusal::NoMemory) => {
            let detail = "too many requests are sending bodies; try again in a few seconds";
            Error::limited(ErrorKind::Busy, Limit::BodyMemory, 5, detail)
        }
        None => Error::new(ErrorKind::Malformed, "the body ended early"),
    }
}

/// Parses the body of a request.
///
/// # Errors
/// - [`ErrorKind::Malformed`] (400) when the body is not JSON.
/// - [`ErrorKind::Invalid`] (422) when the JSON has a different structure.
pub(crate) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| {
        let kind = if e.is_data() { ErrorKind::Invalid } else { ErrorKind::Malformed };
        let text: String = e.to_string().chars().take(500).collect();
        Error::new(kind, format!("invalid request body: {text}"))
    })
}

/// The query of a URL.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|Query(value)| Self(value))
            .map_err(|e| Error::invalid(format!("invalid query: {}", e.body_text())))
    }
}

/// The parameter of a path, percent-decoded.
pub struct PathText(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(text)| Self(text))
            .map_err(|_| Error::new(ErrorKind::Malformed, "the path is not UTF-8"))
    }
}

/// Parses a MAC address in a path or a form.
///
/// # Errors
/// [`ErrorKind::Malformed`] when `text` is not a MAC address.
pub fn parse_mac(text: &str) -> Result<Mac> {
    text.parse()
        .map_err(|e: crate::domain::mac::NotAMac| Error::new(ErrorKind::Malformed, e.to_string()))
}

/// The address is resolved through trusted proxies; see [`resolve_client`].
impl<S: Send + Sync> FromRequestParts<S> for ClientContext
where
    Arc<Config>: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        let peer = peer.ok_or_else(|| {
            Error::internal(
                "a request without the address of its client; serve the router with \
                 into_make_service_with_connect_info::<SocketAddr>()",
            )
        })?;
        let config = Arc::<Config>::from_ref(state);
        let client = resolve_client(
            peer,
            &parts.headers,
            &config.trusted_proxies,
            config.public_url.as_deref(),
            &config.root(),
            config.listen.port(),
        );
        // the guard inserts it; requests of machines have none
        let name = parts.extensions.get::<Principal>().and_then(Principal::actor_name);
        Ok(Self { ip: Some(client.ip.to_string()), name, now: Time::now(), base: client.base })
    }
}

/// A token that is cancelled when the client of the request disconnects.
#[derive(Clone, Default)]
pub struct ClientGone(pub CancelToken);

impl<S: Send + Sync> FromRequestParts<S> for ClientGone {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        // the guard inserts it, so only guarded routes can use this extractor
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Error::internal("a route without a guard"))
    }
}
