//! Requests of machines while they boot: scripts for iPXE, orders for the live environment, and
//! reports. Anybody on the network can send them, because firmware has no credentials.

pub(crate) mod boot_files;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bty_script::plan::MEDIA_TYPE as RHAI;
use serde::Deserialize;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::ipxe;
use crate::domain::machine::ClientContext;
use crate::domain::machine::firmware::FirmwareId;
use crate::domain::machine::inventory::Inventory;
use crate::domain::plan::render;
use crate::http::error::ErrorBody;
use crate::http::extract::{Json, Params, PathText, RawBody, parse_json, parse_mac};
use crate::random::random_token;
use crate::services::boot_cycles::{BootCycles, StatusReport};
use crate::services::machines::Machines;
use crate::services::metrics::Metrics;
use crate::services::orders::{self, ImageOrigins, MachineOrder, OrderRequest};

/// Maximum size of an inventory in bytes.
pub(crate) const INVENTORY_BYTES_MAX: usize = 8 << 20;

/// Responds with a script for iPXE. The status is always 200: iPXE does not run the script of an
/// error response.
fn script(text: String) -> Response {
    ([(header::CONTENT_TYPE, ipxe::MEDIA_TYPE)], text).into_response()
}

/// Returns the bootstrap script, which chains to the machine's own script.
#[utoipa::path(
    get, path = "/pxe-bootstrap.ipxe", tag = "pxe",
    responses((status = 200, content_type = "text/plain", body = String)),
)]
pub(crate) async fn bootstrap(who: ClientContext) -> Response {
    script(ipxe::bootstrap(&who.base, &random_token()))
}

#[derive(Deserialize)]
pub(crate) struct ContactQuery {
    boot: Option<String>,
    #[serde(default)]
    uuid: String,
    #[serde(default)]
    serial: String,
    #[serde(default)]
    asset: String,
    #[serde(default)]
    arch: String,
}

impl ContactQuery {
    fn firmware(&self) -> FirmwareId {
        FirmwareId::new(&self.uuid, &self.serial, &self.asset, &self.arch)
    }
}

/// Maximum length of a nonce. A longer one does not come from the bootstrap script and is ignored.
const NONCE_BYTES_MAX: usize = 64;

/// Returns the iPXE script for the machine with this MAC address.
///
/// The response is a script even if there is an error.
#[utoipa::path(
    get, path = "/pxe/{mac}", tag = "pxe",
    params(
        ("mac" = String, Path, description = "MAC address, with colons, hyphens or neither"),
        (
            "boot" = Option<String>, Query,
            description = "nonce of this boot; a repeated contact changes nothing",
        ),
        ("uuid" = Option<String>, Query, description = "UUID of the machine, from its firmware"),
        ("serial" = Option<String>, Query, description = "serial number, from its firmware"),
        ("asset" = Option<String>, Query, description = "asset tag, from its firmware"),
        ("arch" = Option<String>, Query, description = "architecture of its boot program"),
    ),
    responses((status = 200, content_type = "text/plain", body = String)),
)]
pub(crate) async fn contact(
    State(metrics): State<Arc<Metrics>>,
    State(boot_cycles): State<BootCycles>,
    path: Result<PathText>,
    query: Result<Params<ContactQuery>>,
    who: ClientContext,
    method: Method,
) -> Response {
    if method == Method::HEAD {
        return head_refused();
    }
    match contact_script(&boot_cycles, path, query, who).await {
        Ok(text) => script(text),
        Err(error) => {
            // the status is 200, so the middleware neither logs nor counts the error
            if matches!(error.kind, ErrorKind::Internal | ErrorKind::Full) {
                tracing::error!(%error, "a contact failed");
            }
            if let Some(limit) = error.limit {
                metrics.refuse(limit);
            }
            script(ipxe::failed(&error.detail))
        }
    }
}

/// Refuses HEAD, because a contact changes the machine.
fn head_refused() -> Response {
    StatusCode::METHOD_NOT_ALLOWED.into_response()
}

async fn contact_script(
    boot_cycles: &BootCycles,
    path: Result<PathText>,
    query: Result<Params<ContactQuery>>,
    who: ClientContext,
) -> Result<String> {
    let mac = parse_mac(&path?.0)?;
    let query = query.ok().map(|Params(query)| query);
    let firmware = query.as_ref().map(ContactQuery::firmware).unwrap_or_default();
    let nonce = query.and_then(|query| query.boot);
    let nonce = nonce.filter(|nonce| !nonce.is_empty() && nonce.len() <= NONCE_BYTES_MAX);
    boot_cycles.contact(who, &mac, nonce, firmware).await
}

#[derive(Deserialize)]
pub(crate) struct CycleQuery {
    cycle: Option<String>,
}

impl CycleQuery {
    fn token(self) -> Option<String> {
        self.cycle.filter(|token| !token.is_empty())
    }
}

/// Returns the order for the live environment.
///
/// Clients that accept `text/rhai` get a plan script, others JSON.
#[utoipa::path(
    get, path = "/pxe/{mac}/plan", tag = "pxe",
    params(
        ("mac" = String, Path),
        ("cycle" = Option<String>, Query, description = "token of the boot cycle"),
    ),
    responses(
        (
            status = 200, description = "a plan script, or JSON with `mode`",
            content((Object = "application/json"), (String = "text/rhai")),
        ),
        (status = 400, body = ErrorBody),
    ),
)]
pub(crate) async fn plan(
    State(origins): State<ImageOrigins>,
    State(machines): State<Arc<Machines>>,
    PathText(path): PathText,
    Params(query): Params<CycleQuery>,
    headers: HeaderMap,
    who: ClientContext,
    method: Method,
) -> Result<Response> {
    if method == Method::HEAD {
        return Ok(head_refused());
    }
    let base = who.base.clone();
    let card = parse_mac(&path)?;
    let request = OrderRequest { mac: card.clone(), client: who, token: query.token() };
    let MachineOrder { order, plan } = orders::give(&machines, &origins, request).await?;
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let accepts_script = accept.is_some_and(|accept| accept.contains(RHAI));
    if let Some(plan) = plan.filter(|_| accepts_script)
        && let Some(text) = render::script(&card, &plan, &order).map_err(Error::internal)?
    {
        return Ok(([(header::CONTENT_TYPE, "text/rhai; charset=utf-8")], text).into_response());
    }
    Ok(axum::Json(render::json(&order, &base)).into_response())
}

/// Reports progress, success or failure of the live environment.
///
/// The server responds with 409 if the report does not belong to the machine's open boot cycle.
#[utoipa::path(
    post, path = "/pxe/{mac}/status", tag = "pxe", request_body = StatusReport,
    params(
        ("mac" = String, Path, description = "MAC address, with colons, hyphens or neither"),
        ("cycle" = Option<String>, Query, description = "token of the boot cycle"),
    ),
    responses(
        (status = 204), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn status(
    State(boot_cycles): State<BootCycles>,
    PathText(path): PathText,
    Params(query): Params<CycleQuery>,
    who: ClientContext,
    Json(report): Json<StatusReport>,
) -> Result<StatusCode> {
    boot_cycles.report(who, &parse_mac(&path)?, query.token(), report).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reports the hardware of the machine that the live environment runs on.
///
/// The server keeps what fits, and names the rest in an event. An inventory that it cannot read is
/// an error and a failure in the log, and the machine goes on to its disk.
#[utoipa::path(
    post, path = "/pxe/{mac}/inventory", tag = "pxe", request_body = Inventory,
    params(
        ("mac" = String, Path, description = "MAC address, with colons, hyphens or neither"),
        ("cycle" = Option<String>, Query, description = "token of the boot cycle"),
    ),
    responses(
        (status = 204), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn inventory(
    State(boot_cycles): State<BootCycles>,
    PathText(path): PathText,
    Params(query): Params<CycleQuery>,
    who: ClientContext,
    body: Result<RawBody>,
) -> Result<StatusCode> {
    let (mac, token) = (parse_mac(&path)?, query.token());
    let inventory = match body {
        Ok(RawBody(bytes)) => parse_json::<Inventory>(&bytes),
        Err(error) if error.kind == ErrorKind::TooLarge => Err(error),
        // the connection broke or was too slow: the live environment posts it again
        Err(error) => return Err(error),
    };
    match inventory {
        Ok(inventory) => boot_cycles.keep_inventory(who, &mac, token, inventory).await?,
        Err(error) => boot_cycles.reject_inventory(who, &mac, token, error).await?,
    }
    Ok(StatusCode::NO_CONTENT)
}
