//! Settings.

use axum::extract::State;
use serde_json::{Map, Value};

use crate::domain::error::Result;
use crate::domain::machine::ClientContext;
use crate::http::error::ErrorBody;
use crate::http::extract::Json;
use crate::services::settings::{Setting, SettingEdits};

/// Lists all settings with their values and defaults.
#[utoipa::path(
    get, path = "/settings", tag = "settings",
    responses((status = 200, body = Vec<Setting>), (status = 401, body = ErrorBody)),
)]
pub(crate) async fn get(State(settings): State<SettingEdits>) -> axum::Json<Vec<Setting>> {
    axum::Json(settings.list())
}

/// Changes the given settings: all of them, or none if any is invalid.
#[utoipa::path(
    put, path = "/settings", tag = "settings", request_body = Object,
    responses(
        (status = 200, body = Vec<Setting>), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn put(
    State(settings): State<SettingEdits>,
    who: ClientContext,
    Json(changes): Json<Map<String, Value>>,
) -> Result<axum::Json<Vec<Setting>>> {
    settings.put(&who, changes).await.map(axum::Json)
}
