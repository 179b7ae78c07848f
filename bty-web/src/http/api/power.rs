//! Power control of machines.

use axum::extract::State;
use axum::http::StatusCode;

use crate::domain::error::Result;
use crate::domain::machine::ClientContext;
use crate::http::error::ErrorBody;
use crate::http::extract::{Json, PathText, parse_mac};
use crate::services::power::{Power, PowerOrder, PowerQueue, PowerReport, PowerSelection};

/// Switches a machine, and waits until it is done.
///
/// `wake` sends Wake-on-LAN packets on every interface, and so does `on` without a hook. The hook
/// of the configuration does everything else. `flash` orders the plan of the machine again, lets it
/// boot from the network, and power-cycles it.
#[utoipa::path(
    post, path = "/machines/{mac}/power", tag = "power", params(("mac" = String, Path)),
    request_body = PowerOrder,
    responses(
        (status = 200, body = PowerReport), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody), (status = 502, body = ErrorBody),
    ),
)]
pub(crate) async fn switch(
    State(power): State<Power>,
    PathText(path): PathText,
    who: ClientContext,
    Json(order): Json<PowerOrder>,
) -> Result<axum::Json<PowerReport>> {
    power.switch(&who, &parse_mac(&path)?, order).await.map(axum::Json)
}

/// Switches several machines in the background, one after the other.
///
/// The events of the machines have the results.
#[utoipa::path(
    post, path = "/power", tag = "power", request_body = PowerSelection,
    responses(
        (status = 202, body = PowerQueue), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody),
        (status = 429, body = ErrorBody),
    ),
)]
pub(crate) async fn switch_many(
    State(power): State<Power>,
    who: ClientContext,
    Json(selection): Json<PowerSelection>,
) -> Result<(StatusCode, axum::Json<PowerQueue>)> {
    Ok((StatusCode::ACCEPTED, axum::Json(power.switch_many(who, selection).await?)))
}
