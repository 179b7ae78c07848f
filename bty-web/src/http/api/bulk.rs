//! Changes to many machines, and machines as a table.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;

use crate::domain::error::{Error, Result};
use crate::domain::machine::ClientContext;
use crate::domain::machine::table::TableFormat;
use crate::http::error::ErrorBody;
use crate::http::extract::{ClientGone, Json, Params, Text};
use crate::services::access::Principal;
use crate::services::bulk_edits::{BulkEdits, BulkReport, BulkRequest, TableRequest};
use crate::services::plan_simulation::SimulationRequest;

/// Maximum size of an imported table in bytes.
pub(crate) const TABLE_BYTES_MAX: usize = 16 << 20;

/// Changes many machines in one transaction.
///
/// Send it with `dry_run` first: the answer lists the machines, their images and disks and what
/// their next boots do. Its `digest` confirms exactly that: the change takes the digest, and is
/// refused with 409 if it would do anything else. Machines at work are left out and listed, as are
/// machines with which the action cannot work.
#[utoipa::path(
    patch, path = "/machines", tag = "machines", request_body = BulkRequest,
    responses(
        (status = 200, body = BulkReport), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody),
        (status = 429, body = ErrorBody),
    ),
)]
pub(crate) async fn change(
    State(bulk): State<BulkEdits>,
    who: ClientContext,
    principal: Principal,
    ClientGone(gone): ClientGone,
    Json(request): Json<BulkRequest>,
) -> Result<axum::Json<BulkReport>> {
    bulk.change(SimulationRequest { who, principal, gone }, request).await.map(axum::Json)
}

#[derive(Deserialize)]
pub(crate) struct TableQuery {
    #[serde(default)]
    q: String,
}

/// Returns machines as CSV with the columns `name,mac,plan,image,disk,labels`.
#[utoipa::path(
    get, path = "/machines.csv", tag = "machines",
    params(("q" = Option<String>, Query, description = "terms of a search")),
    responses(
        (status = 200, body = String, content_type = "text/csv"), (status = 401, body = ErrorBody),
        (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn csv(
    State(bulk): State<BulkEdits>,
    Params(query): Params<TableQuery>,
) -> Result<impl IntoResponse> {
    let table = bulk.export(&query.q, TableFormat::Csv).await?;
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], table))
}

/// Returns machines as TOML: tables `[[machines]]` with the fields `name`, `mac`, `plan`, `image`,
/// `disk` and `labels`.
#[utoipa::path(
    get, path = "/machines.toml", tag = "machines",
    params(("q" = Option<String>, Query, description = "terms of a search")),
    responses(
        (status = 200, body = String, content_type = "application/toml"),
        (status = 401, body = ErrorBody), (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn toml(
    State(bulk): State<BulkEdits>,
    Params(query): Params<TableQuery>,
) -> Result<impl IntoResponse> {
    let table = bulk.export(&query.q, TableFormat::Toml).await?;
    Ok(([(header::CONTENT_TYPE, "application/toml")], table))
}

#[derive(Deserialize)]
pub(crate) struct TableImportQuery {
    format: String,
    #[serde(default)]
    replace: bool,
    #[serde(default)]
    dry_run: bool,
    digest: Option<String>,
}

/// Adds the machines of a table, in one transaction.
///
/// Columns that the table does not have keep their values, or get their defaults in new machines.
/// Rows that cannot work, and machines at work, are left out and listed. A machine that is here
/// already is changed only with `replace=true`.
#[utoipa::path(
    post, path = "/machines/import", tag = "machines",
    params(
        ("format" = String, Query, description = "csv or toml"),
        (
            "replace" = Option<bool>, Query,
            description = "true to change machines that are here already",
        ),
        ("dry_run" = Option<bool>, Query, description = "true to change nothing"),
        (
            "digest" = Option<String>, Query,
            description = "digest of a dry run; 409 if the import would do anything else",
        ),
    ),
    request_body(content = String, content_type = "text/csv"),
    responses(
        (status = 200, body = BulkReport), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody),
        (status = 429, body = ErrorBody),
    ),
)]
pub(crate) async fn import(
    State(bulk): State<BulkEdits>,
    Params(query): Params<TableImportQuery>,
    who: ClientContext,
    principal: Principal,
    ClientGone(gone): ClientGone,
    Text(text): Text,
) -> Result<axum::Json<BulkReport>> {
    let TableImportQuery { format, replace, dry_run, digest } = query;
    let format = match format.as_str() {
        "csv" => TableFormat::Csv,
        "toml" => TableFormat::Toml,
        _ => return Err(Error::invalid("format: must be csv or toml")),
    };
    let rows = format.parse(&text)?;
    let table = TableRequest { rows, replace, dry_run, digest };
    bulk.import(SimulationRequest { who, principal, gone }, table).await.map(axum::Json)
}
