//! Middleware for all requests: body limits, security headers, metrics, panics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bty::CancelToken;

use crate::domain::error::Error;
use crate::http::bodies::Bodies;
use crate::http::extract::ClientGone;
use crate::services::metrics::Metrics;

/// Responds with 500 for a handler that panicked, and logs the message.
#[allow(clippy::needless_pass_by_value)] // the signature that `CatchPanicLayer` wants
pub(super) fn panic_response(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or(panic.downcast_ref::<&str>().copied());
    Error::internal(format!("a handler panicked: {}", text.unwrap_or("without a message")))
        .into_response()
}

/// Rejects bodies that arrive too slowly, and limits the memory for bodies of clients without a
/// login.
pub(super) async fn limit_bodies(
    State(bodies): State<Arc<Bodies>>,
    mut request: Request,
    next: Next,
) -> Response {
    let share = bodies.share();
    request.extensions_mut().insert(share.clone());
    let response = next.run(request.map(|body| bodies.pace(body))).await;
    drop(share);
    response
}

/// Runs each handler to completion, even if its client disconnects: after a change is written, the
/// caches and subscribers that depend on it must still be updated.
pub(super) async fn run_to_completion(mut request: Request, next: Next) -> Response {
    let gone = ClientGone::default();
    request.extensions_mut().insert(gone.clone());
    // this future is dropped when the client disconnects
    let _guard = CancelOnDrop(gone.0);
    let response = tokio::spawn(next.run(request)).await;
    response
        .unwrap_or_else(|e| Error::internal(format!("a request ended early: {e}")).into_response())
}

struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; \
    script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// Adds headers that forbid framing, content sniffing, resources of other sites, and caching,
/// unless the handler has set them.
pub(super) async fn add_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in fixed {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Counts and logs each response.
pub(super) async fn measure(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let extensions = request.extensions();
    let route = extensions.get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let response = next.run(request).await;
    let seconds = begun.elapsed().as_secs_f64();
    let status = response.status().as_u16();
    metrics.request(method.as_str(), &route, status, seconds);
    if let Some(limit) = response.extensions().get::<Error>().and_then(|error| error.limit) {
        metrics.refuse(limit);
    }
    tracing::debug!(%method, %path, status, peer = ?peer, ms = seconds * 1e3, "answered");
    response
}
