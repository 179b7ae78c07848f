//! Health, version and metrics of the server, and the OpenAPI document.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::domain::error::Result;
use crate::http::error::ErrorBody;
use crate::services::server_health::ServerHealth;

/// The health of the server.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Health {
    /// `ok`, or `full` if the disk has no space to change the state.
    status: &'static str,
    /// What is missing and how to fix it; absent if the status is `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Checks whether the server can read its state and has space to change it.
#[utoipa::path(
    get, path = "/healthz", tag = "server",
    responses((status = 200, body = Health), (status = 503, body = Health)),
)]
pub(crate) async fn healthz(
    State(health): State<ServerHealth>,
) -> Result<(StatusCode, axum::Json<Health>)> {
    Ok(match health.check_state().await? {
        None => (StatusCode::OK, axum::Json(Health { status: "ok", detail: None })),
        detail => (StatusCode::SERVICE_UNAVAILABLE, axum::Json(Health { status: "full", detail })),
    })
}

#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Version {
    version: &'static str,
}

/// Returns the version of the server.
#[utoipa::path(get, path = "/version", tag = "server", responses((status = 200, body = Version)))]
pub(crate) async fn version() -> axum::Json<Version> {
    axum::Json(Version { version: env!("CARGO_PKG_VERSION") })
}

/// Returns metrics in the OpenMetrics text format, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "server",
    responses(
        (status = 200, content_type = "application/openmetrics-text", body = String),
        (status = 401, body = ErrorBody),
    ),
)]
pub(crate) async fn metrics(State(health): State<ServerHealth>) -> Result<Response> {
    let text = health.metrics().await?;
    Ok((
        [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
        text,
    )
        .into_response())
}

/// Returns the OpenAPI document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "server", responses((status = 200, body = Object)),
)]
pub(crate) async fn openapi(
    Extension(document): Extension<Arc<utoipa::openapi::OpenApi>>,
) -> axum::Json<utoipa::openapi::OpenApi> {
    axum::Json((*document).clone())
}
