//! Whether the server is there, what it is, and what it can be asked.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::domain::error::{Error, ErrorBody, Result};
use crate::http::ui as pages;
use crate::services::app::App;
use crate::store;

/// The health of the server.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Health {
    /// `ok`, or `full` when there is no space left for a change of the state.
    status: &'static str,
    /// Why it is not `ok`, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Whether the server can read its state, and has space to change it.
#[utoipa::path(get, path = "/healthz", tag = "server", responses((status = 200, body = Health), (status = 503, body = Health)))]
pub(crate) async fn healthz(
    State(app): State<Arc<App>>,
) -> Result<(StatusCode, axum::Json<Health>)> {
    app.db.read(store::machines::count).await?;
    if app.db.is_full() {
        // somebody may have made space since; whether there is any is what counts
        let _ = app.db.try_write().await;
    }
    Ok(match app.shortage() {
        None => (StatusCode::OK, axum::Json(Health { status: "ok", detail: None })),
        why => {
            (StatusCode::SERVICE_UNAVAILABLE, axum::Json(Health { status: "full", detail: why }))
        }
    })
}

/// The version of the server.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Version {
    version: &'static str,
}

/// The version of the server.
#[utoipa::path(get, path = "/version", tag = "server", responses((status = 200, body = Version)))]
pub(crate) async fn version() -> axum::Json<Version> {
    axum::Json(Version { version: env!("CARGO_PKG_VERSION") })
}

/// What is counted, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "server", responses((status = 200, content_type = "application/openmetrics-text", body = String), (status = 401, body = ErrorBody)))]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response> {
    let read =
        app.db.read(|conn| Ok((store::machines::count(conn)?, store::events::tripwire(conn)?)));
    let (machines, failures) = read.await?;
    app.cache.iter().for_each(|cache| app.metrics.cache(cache));
    app.tftp.get().into_iter().for_each(|tftp| app.metrics.tftp(&tftp.counts));
    let text = app.metrics.render(machines, failures);
    Ok((
        [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
        text,
    )
        .into_response())
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "server", responses((status = 200, body = Object)))]
pub(crate) async fn openapi(
    Extension(document): Extension<Arc<utoipa::openapi::OpenApi>>,
) -> axum::Json<utoipa::openapi::OpenApi> {
    axum::Json((*document).clone())
}

/// This document, for people.
#[utoipa::path(get, path = "/docs/api", tag = "server", responses((status = 200, content_type = "text/html", body = String)))]
pub(crate) async fn docs(
    State(app): State<Arc<App>>,
    Extension(document): Extension<Arc<utoipa::openapi::OpenApi>>,
) -> Result<Response> {
    let document = serde_json::to_value(&*document).map_err(Error::internal)?;
    pages::docs::docs(&app, &document)
}
