//! Moving the state of a server.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;

use crate::domain::error::Result;
use crate::domain::machine::ClientContext;
use crate::http::error::ErrorBody;
use crate::http::extract::{Json, Params};
use crate::services::app::App;
use crate::services::transfer::{self, Bundle, Summary};

/// Exports are at most this large.
pub(crate) const BUNDLE_BYTES_MAX: usize = 1 << 30;

/// Everything but the audit log, sessions and tokens.
#[utoipa::path(get, path = "/export", tag = "transfer", responses((status = 200, body = Bundle), (status = 401, body = ErrorBody)))]
pub(crate) async fn export(State(app): State<Arc<App>>) -> Result<axum::Json<Bundle>> {
    app.db.read(transfer::export).await.map(axum::Json)
}

#[derive(Deserialize)]
pub(crate) struct How {
    #[serde(default)]
    armed: bool,
}

/// Imports an export, or a bundle of the reference. Machines whose plans write to disks boot their
/// disks until they are saved, unless `armed=true`.
#[utoipa::path(post, path = "/import", tag = "transfer", params(("armed" = Option<bool>, Query)), request_body = Object,
    responses((status = 200, body = Summary), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn import(
    State(app): State<Arc<App>>,
    Params(how): Params<How>,
    who: ClientContext,
    Json(bundle): Json<serde_json::Value>,
) -> Result<axum::Json<Summary>> {
    let held = app.lock_all().await;
    let imported = app
        .db
        .write(move |transaction| transfer::import(transaction, bundle, how.armed, who.now))
        .await;
    drop(held);
    match imported {
        Ok(summary) => {
            app.refresh().await?;
            Ok(axum::Json(summary))
        }
        Err(error) => {
            app.record(transfer::failed(&error)).await?;
            Err(error)
        }
    }
}
