//! What handlers take from requests, with errors in the one shape.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use bty::CancelToken;
use serde::de::DeserializeOwned;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::limit::Limit;
use crate::domain::mac::Mac;
use crate::domain::machine::ClientContext;
use crate::domain::time::Time;
use crate::http::bodies::{Refusal, Share};
use crate::http::guard;
use crate::http::network::resolve_client;
use crate::services::app::App;

/// A body of JSON.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self> {
        let bytes = body(request, app).await?;
        parse(&bytes).map(Self)
    }
}

/// A body as it came.
pub struct Body(pub Bytes);

impl FromRequest<Arc<App>> for Body {
    type Rejection = Error;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self> {
        body(request, app).await.map(Self)
    }
}

async fn body(request: Request, app: &Arc<App>) -> Result<Bytes> {
    let is_stranger = request.extensions().get::<guard::Principal>().is_none();
    // held until the request has been answered
    let share = request.extensions().get::<Share>().filter(|_| is_stranger).cloned();
    let request = match share {
        Some(share) => request.map(|body| share.count(body)),
        None => request,
    };
    Bytes::from_request(request, app).await.map_err(|rejection: BytesRejection| {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Error::new(ErrorKind::TooLarge, "the body is too large")
            }
            _ => broken_body(app, &rejection),
        }
    })
}

/// A body was not read to its end.
pub fn broken_body(app: &App, error: &(dyn std::error::Error + 'static)) -> Error {
    match Refusal::of(error) {
        Some(Refusal::TooSlow) => {
            let detail =
                format!("the body came slower than {} bytes/s", app.config.limits.body_rate);
            Error::limited(ErrorKind::Slow, Limit::SlowBody, 1, detail)
        }
        Some(Refusal::NoMemory) => {
            let detail = "too many bodies are being sent: try again in a few seconds";
            Error::limited(ErrorKind::Busy, Limit::BodyMemory, 5, detail)
        }
        None => Error::new(ErrorKind::Malformed, "the body ended early"),
    }
}

/// JSON of a body: 400 when it is none, 422 when it is another than is meant.
///
/// # Errors
/// As said.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| {
        let kind = if e.is_data() { ErrorKind::Invalid } else { ErrorKind::Malformed };
        let text: String = e.to_string().chars().take(500).collect();
        Error::new(kind, format!("the body: {text}"))
    })
}

/// What follows the `?`.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Params<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let query = Query::<T>::from_request_parts(parts, app).await;
        query
            .map(|Query(value)| Self(value))
            .map_err(|e| Error::invalid(format!("the query: {}", e.body_text())))
    }
}

/// A part of the path, decoded.
pub struct PathText(pub String);

impl FromRequestParts<Arc<App>> for PathText {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, app).await;
        path.map(|axum::extract::Path(text)| Self(text))
            .map_err(|_| Error::new(ErrorKind::Malformed, "the path is not UTF-8"))
    }
}

/// A MAC address in the path.
///
/// # Errors
/// [`ErrorKind::Malformed`].
pub fn mac(text: &str) -> Result<Mac> {
    text.parse()
        .map_err(|e: crate::domain::mac::NotAMac| Error::new(ErrorKind::Malformed, e.to_string()))
}

/// Who is asking: its address through the proxies that are believed, and by which address the
/// server was reached.
impl FromRequestParts<Arc<App>> for ClientContext {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        let peer = peer.ok_or_else(|| Error::internal("a request without a peer"))?;
        let config = &app.config;
        let url = config.public_url.as_deref();
        let seen = resolve_client(
            peer,
            &parts.headers,
            &config.trusted_proxies,
            url,
            config.listen.port(),
        );
        Ok(Self { ip: Some(seen.ip.to_string()), now: Time::now(), base: seen.base })
    }
}

/// Who was let in.
/// Cancelled when the client of a request is gone.
#[derive(Clone, Default)]
pub struct ClientGone(pub CancelToken);

impl FromRequestParts<Arc<App>> for ClientGone {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

impl FromRequestParts<Arc<App>> for guard::Principal {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self> {
        // the guard stands before every handler that asks
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Error::internal("a route without a guard"))
    }
}
