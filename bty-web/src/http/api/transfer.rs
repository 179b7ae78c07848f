//! Export and import of the whole state.

use axum::extract::State;
use serde::Deserialize;

use crate::domain::error::Result;
use crate::domain::machine::ClientContext;
use crate::http::error::ErrorBody;
use crate::http::extract::{Json, Params};
use crate::services::state_transfer::StateTransfer;
use crate::services::transfer::{Bundle, ImportRules, ImportSummary};

/// Maximum size of an imported export in bytes.
pub(crate) const BUNDLE_BYTES_MAX: usize = 1 << 30;

/// Exports everything but the audit log, sessions and tokens.
#[utoipa::path(
    get, path = "/export", tag = "transfer",
    responses((status = 200, body = Bundle), (status = 401, body = ErrorBody)),
)]
pub(crate) async fn export(State(transfer): State<StateTransfer>) -> Result<axum::Json<Bundle>> {
    transfer.export().await.map(axum::Json)
}

#[derive(Deserialize)]
pub(crate) struct ImportQuery {
    #[serde(default)]
    armed: bool,
    #[serde(default)]
    replace: bool,
}

/// Imports an export, or a bundle of the reference.
///
/// Machines whose plans may write to disks are put on hold, unless `armed=true`: they boot their
/// disks until an operator saves their assignments. What cannot work is left out and listed under
/// `skipped`, and so are machines that are here already, unless `replace=true`.
#[utoipa::path(
    post, path = "/import", tag = "transfer",
    params(
        (
            "armed" = Option<bool>, Query,
            description = "true to let machines flash without saving their assignments first",
        ),
        (
            "replace" = Option<bool>, Query,
            description = "true to replace machines that are here already",
        ),
    ),
    request_body = Object,
    responses(
        (status = 200, body = ImportSummary), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn import(
    State(transfer): State<StateTransfer>,
    Params(query): Params<ImportQuery>,
    who: ClientContext,
    Json(bundle): Json<serde_json::Value>,
) -> Result<axum::Json<ImportSummary>> {
    let rules = ImportRules { is_armed: query.armed, replaces: query.replace };
    transfer.import(&who, bundle, rules).await.map(axum::Json)
}
