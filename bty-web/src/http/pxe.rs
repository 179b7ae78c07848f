//! What machines ask: iPXE and the live environment. Open to everybody on the network, as the field
//! requires.

pub(crate) mod boot_files;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bty_script::plan::{MEDIA_TYPE as RHAI, Report};
use serde::Deserialize;
use serde_json::Value;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::ipxe;
use crate::domain::ipxe::Environment;
use crate::domain::limit::Limit;
use crate::domain::mac::Mac;
use crate::domain::machine::contact::{Boot, Contact, decide_boot};
use crate::domain::machine::report::{PostedInventory, Receipt, apply_inventory, apply_report};
use crate::domain::machine::{ClientContext, Machine, Outcome};
use crate::domain::plan::render;
use crate::http::extract::{Json, Params, PathText, mac};
use crate::random::random_token;
use crate::services::app::App;
use crate::services::netboot::environment_of;
use crate::services::orders::{self, MachineOrder, OrderRequest};
use crate::store;

/// An inventory is at most this large.
pub(crate) const INVENTORY_BYTES_MAX: usize = 8 << 20;

/// Hardware larger than this, as JSON, is not kept.
const LSHW_BYTES_MAX: usize = 4 << 20;

/// A script for iPXE. Its status is always 200: iPXE runs no script that comes with an error.
fn script(text: String) -> Response {
    ([(header::CONTENT_TYPE, ipxe::MEDIA_TYPE)], text).into_response()
}

/// The script that leads a machine to its own.
#[utoipa::path(get, path = "/pxe-bootstrap.ipxe", tag = "pxe", responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn bootstrap(who: ClientContext) -> Response {
    script(ipxe::bootstrap(&who.base, &random_token()))
}

#[derive(Deserialize)]
pub(crate) struct Boots {
    boot: Option<String>,
}

/// Longer nonces are not ours.
const NONCE_BYTES_MAX: usize = 64;

/// What iPXE does now on the machine with this MAC address. Always a script, also for what is
/// wrong.
#[utoipa::path(get, path = "/pxe/{mac}", tag = "pxe",
    params(("mac" = String, Path, description = "MAC address, with colons, hyphens or neither"),
           ("boot" = Option<String>, Query, description = "what tells this boot from others: a repeated contact changes nothing")),
    responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn contact(
    State(app): State<Arc<App>>,
    path: Result<PathText>,
    query: Result<Params<Boots>>,
    who: ClientContext,
    method: Method,
) -> Response {
    if method == Method::HEAD {
        return changes_something();
    }
    match try_contact(&app, path, query, who).await {
        Ok(text) => script(text),
        Err(error) => {
            if matches!(error.kind, ErrorKind::Internal | ErrorKind::Full) {
                tracing::error!(%error, "a contact failed");
            }
            // its status does not tell
            if let Some(limit) = error.limit {
                app.metrics.refuse(limit);
            }
            script(ipxe::failed(&error.detail))
        }
    }
}

/// Asking is a contact, and a contact changes something; HEAD must not.
fn changes_something() -> Response {
    StatusCode::METHOD_NOT_ALLOWED.into_response()
}

async fn try_contact(
    app: &Arc<App>,
    path: Result<PathText>,
    query: Result<Params<Boots>>,
    who: ClientContext,
) -> Result<String> {
    let mac = mac(&path?.0)?;
    let nonce = query.ok().and_then(|Params(query)| query.boot);
    let nonce = nonce.filter(|nonce| !nonce.is_empty() && nonce.len() <= NONCE_BYTES_MAX);
    let (of, base, shared) = (mac.clone(), who.base.clone(), Arc::clone(app));
    let changed = app.update_machine(
        &mac,
        move |look| {
            let (machine, discovered) = shared.discover(look, &of, &who)?;
            let environment =
                environment_of(&shared.config, look.snapshot.netboot_version_of(&machine));
            let contact = Contact { nonce, is_tokenless: environment == Environment::Reference };
            let mut outcome = decide_boot(&machine, &look.context(&machine.plan), &who, &contact);
            outcome.events.splice(0..0, discovered);
            Ok(Outcome {
                machine: outcome.machine,
                events: outcome.events,
                answer: (outcome.answer, environment),
            })
        },
        app.machines.forget_unassigned(),
    );
    let ((boot, environment), machine): ((Boot, Environment), Machine) = changed.await?;
    let snapshot = app.snapshot();
    let extra_args = snapshot.settings.get("netboot.extra_args");
    let version = snapshot.netboot_version_of(&machine);
    let site = ipxe::Site { base: &base, version, environment, extra_args };
    Ok(ipxe::script(&machine, &boot, &site))
}

#[derive(Deserialize)]
pub(crate) struct Cycle {
    cycle: Option<String>,
}

impl Cycle {
    fn token(self) -> Option<String> {
        self.cycle.filter(|token| !token.is_empty())
    }
}

/// What the live environment is to do: a plan script for who accepts `text/rhai`, else JSON.
#[utoipa::path(get, path = "/pxe/{mac}/plan", tag = "pxe",
    params(("mac" = String, Path), ("cycle" = Option<String>, Query, description = "token of the boot cycle")),
    responses((status = 200, description = "a plan script, or JSON with `mode`", content(
        (Object = "application/json"), (String = "text/rhai"))),
        (status = 400, body = crate::http::error::ErrorBody)))]
pub(crate) async fn plan(
    State(app): State<Arc<App>>,
    PathText(path): PathText,
    Params(query): Params<Cycle>,
    headers: HeaderMap,
    who: ClientContext,
    method: Method,
) -> Result<Response> {
    if method == Method::HEAD {
        return Ok(changes_something());
    }
    let mac = mac(&path)?;
    let base = who.base.clone();
    let request = OrderRequest { mac, client: who, token: query.token() };
    let MachineOrder { order, plan, machine } =
        orders::give(&app.machines, &app.image_router, request).await?;
    let wants_script =
        headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains(RHAI));
    if let Some(plan) = plan.filter(|_| wants_script)
        && let Some(text) = render::script(&machine, &plan, &order).map_err(Error::internal)?
    {
        return Ok(([(header::CONTENT_TYPE, "text/rhai; charset=utf-8")], text).into_response());
    }
    Ok(axum::Json(render::json(&order, &base)).into_response())
}

/// How it goes, and how it ended.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StatusBody {
    /// `progress`, `done` or `failed`.
    status: String,
    /// Why it failed, at most 500 characters.
    #[serde(default)]
    reason: Option<String>,
    /// Token of the boot cycle.
    #[serde(default)]
    cycle: Option<String>,
    /// How far it is.
    #[serde(default)]
    #[schema(value_type = Object)]
    progress: Option<bty_script::plan::Progress>,
    /// Disks that were flashed, with their proof.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    disks: Vec<bty_script::plan::FlashedDisk>,
}

const REASON_CHARS_MAX: usize = 500;
const DISKS_MAX: usize = 64;

/// The live environment tells how far it is, and how it ended. 409: the report does not belong to
/// the machine's open boot cycle.
#[utoipa::path(post, path = "/pxe/{mac}/status", tag = "pxe", request_body = StatusBody,
    params(("mac" = String, Path), ("cycle" = Option<String>, Query)),
    responses((status = 204), (status = 400, body = crate::http::error::ErrorBody), (status = 404, body = crate::http::error::ErrorBody),
        (status = 409, body = crate::http::error::ErrorBody), (status = 422, body = crate::http::error::ErrorBody)))]
pub(crate) async fn status(
    State(app): State<Arc<App>>,
    PathText(path): PathText,
    Params(query): Params<Cycle>,
    who: ClientContext,
    Json(body): Json<StatusBody>,
) -> Result<StatusCode> {
    let mac = mac(&path)?;
    if !matches!(body.status.as_str(), "progress" | "done" | "failed") {
        return Err(Error::invalid("status must be progress, done or failed"));
    }
    if body.reason.as_ref().is_some_and(|reason| reason.chars().count() > REASON_CHARS_MAX) {
        return Err(Error::invalid(format!("reason has at most {REASON_CHARS_MAX} characters")));
    }
    if body.disks.len() > DISKS_MAX {
        return Err(Error::invalid(format!("at most {DISKS_MAX} disks are understood")));
    }
    let token = body.cycle.filter(|token| !token.is_empty()).or(query.token());
    let is_under_way = body.status == "progress";
    let (progress, now) = (body.progress.clone(), who.now);
    let posted = Report {
        status: body.status,
        reason: body.reason,
        cycle: None,
        progress: body.progress,
        disks: body.disks,
    };
    let (of, orphan) = (mac.clone(), who.clone());
    let changed = app.update_machine(
        &mac,
        move |look| {
            let machine = known(look.machine.as_ref(), &of)?;
            Ok(apply_report(machine, &look.context(&machine.plan), &who, token.as_deref(), &posted))
        },
        |_, _| Ok(()),
    );
    match record_orphan(&app, &mac, &orphan, "status", changed.await).await? {
        Receipt::Accepted | Receipt::Repeated => {
            match progress.filter(|_| is_under_way) {
                Some(progress) => app.rates.progress(&mac, &progress, now),
                None => app.rates.end(&mac),
            }
            Ok(StatusCode::NO_CONTENT)
        }
        Receipt::Refused(why) => Err(Error::new(ErrorKind::Conflict, why)),
    }
}

fn known<'a>(machine: Option<&'a Machine>, mac: &Mac) -> Result<&'a Machine> {
    machine.ok_or_else(|| Error::not_found(mac))
}

/// A machine that is not known has told something: nothing changes, and it is written down.
async fn record_orphan<T>(
    app: &Arc<App>,
    mac: &Mac,
    who: &ClientContext,
    what: &str,
    result: Result<(T, Machine)>,
) -> Result<T> {
    if let Err(error) = &result
        && error.kind == ErrorKind::NotFound
        && app.new_machines.admit()
    {
        let event = NewEvent::new(
            "pxe.client.orphan",
            mac.as_str(),
            format!("{mac}: {what} of a machine that is not known"),
        );
        app.record(
            event
                .by(Actor::PxeClient, who.ip.as_deref())
                .with(serde_json::json!({ "posted": what })),
        )
        .await?;
    }
    result.map(|(answer, _)| answer)
}

/// The hardware of a machine.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InventoryBody {
    /// Its disks, at most 64.
    disks: Vec<PostedDisk>,
    /// The hardware as `lshw -json` shows it.
    #[serde(default)]
    #[schema(value_type = Object)]
    lshw: Option<Value>,
}

/// A disk of a machine. Further fields are ignored.
#[derive(Deserialize, serde::Serialize, utoipa::ToSchema)]
pub(crate) struct PostedDisk {
    /// Device node, at most 255 characters.
    path: String,
    /// Size for people.
    #[serde(default)]
    size: Option<Value>,
    /// Size in bytes.
    #[serde(default)]
    size_bytes: Option<u64>,
    #[serde(default)]
    vendor: Option<String>,
    #[serde(default)]
    model: Option<String>,
    /// Serial number, at most 128 characters.
    #[serde(default)]
    serial: Option<String>,
    /// Transport.
    #[serde(default)]
    tran: Option<String>,
    #[serde(default)]
    removable: Option<bool>,
    #[serde(default)]
    readonly: Option<bool>,
}

impl PostedDisk {
    fn check(&mut self) -> Result<()> {
        let is_long = |text: &Option<String>, max| {
            text.as_ref().is_some_and(|text| text.chars().count() > max)
        };
        if self.path.is_empty() || self.path.chars().count() > 255 {
            return Err(Error::invalid("the path of a disk has 1 to 255 characters"));
        }
        if is_long(&self.serial, 128) {
            return Err(Error::invalid(format!(
                "the serial number of {} has more than 128 characters",
                self.path
            )));
        }
        if [&self.vendor, &self.model, &self.tran].iter().any(|text| is_long(text, 255)) {
            return Err(Error::invalid(format!(
                "vendor, model or tran of {} has more than 255 characters",
                self.path
            )));
        }
        self.serial = self
            .serial
            .as_deref()
            .map(str::trim)
            .filter(|serial| !serial.is_empty())
            .map(str::to_owned);
        // a script's integers end at 2^63 - 1; no disk is that large
        self.size_bytes = self.size_bytes.filter(|&n| i64::try_from(n).is_ok());
        if self.size_bytes.is_none() {
            self.size_bytes = match &self.size {
                Some(Value::String(text)) => bty::size::parse(text).ok(),
                Some(Value::Number(number)) => number.as_u64(),
                _ => None,
            };
        }
        match &self.size {
            None | Some(Value::Null | Value::Number(_)) => Ok(()),
            Some(Value::String(text)) if text.len() <= 64 => Ok(()),
            Some(_) => {
                Err(Error::invalid(format!("the size of {} is text such as 465.8G", self.path)))
            }
        }
    }
}

/// The live environment tells what hardware it is on.
#[utoipa::path(post, path = "/pxe/{mac}/inventory", tag = "pxe", request_body = InventoryBody,
    params(("mac" = String, Path), ("cycle" = Option<String>, Query)),
    responses((status = 204), (status = 400, body = crate::http::error::ErrorBody), (status = 404, body = crate::http::error::ErrorBody),
        (status = 413, body = crate::http::error::ErrorBody), (status = 422, body = crate::http::error::ErrorBody)))]
pub(crate) async fn inventory(
    State(app): State<Arc<App>>,
    PathText(path): PathText,
    Params(query): Params<Cycle>,
    who: ClientContext,
    Json(mut body): Json<InventoryBody>,
) -> Result<StatusCode> {
    let mac = mac(&path)?;
    if body.disks.len() > DISKS_MAX {
        return Err(Error::invalid(format!(
            "there are {} disks, at most {DISKS_MAX} are kept",
            body.disks.len()
        )));
    }
    body.disks.iter_mut().try_for_each(PostedDisk::check)?;
    let lshw = body.lshw.filter(|lshw| !lshw.is_null());
    let text = lshw.as_ref().map(Value::to_string).filter(|text| text.len() <= LSHW_BYTES_MAX);
    let posted = PostedInventory {
        disks: serde_json::to_value(&body.disks)?,
        lshw: lshw.filter(|_| text.is_some()),
    };
    let (of, orphan, token) = (mac.clone(), who.clone(), query.token());
    let (at, write_of, shared) = (who.now, mac.clone(), Arc::clone(&app));
    let changed = app.update_machine(
        &mac,
        move |look| {
            let machine = match &look.machine {
                Some(machine) => machine.clone(),
                None => return Err(Error::not_found(&of)),
            };
            Ok(apply_inventory(
                &machine,
                &look.context(&machine.plan),
                &who,
                token.as_deref(),
                &posted,
            ))
        },
        move |conn, _| {
            let Some(text) = text else { return Ok(()) };
            let max = shared.config.limits.unassigned_bytes;
            if text.len() > max && store::machines::is_unassigned(conn, &write_of)? {
                shared.metrics.refuse(Limit::UnassignedBytes);
                return Ok(());
            }
            store::machines::put_lshw(conn, &write_of, &text, at)
        },
    );
    record_orphan(&app, &mac, &orphan, "inventory", changed.await).await?;
    Ok(StatusCode::NO_CONTENT)
}
