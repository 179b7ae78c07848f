//! Machines, for operators.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::blocking::blocking;
use crate::domain::error::{Error, ErrorKind, Problem, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::mac::Mac;
use crate::domain::machine::save::{Binding, apply_binding};
use crate::domain::machine::{ClientContext, Cycle, Machine, Outcome};
use crate::domain::plan::params::Need;
use crate::domain::time::Time;
use crate::http::error::ErrorBody;
use crate::http::extract::{Json, Params, PathText, mac};
use crate::services::app::{App, MachineView};
use crate::services::netboot::Release;
use crate::store;

/// A machine as operators see it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct MachineBody {
    /// MAC address.
    #[schema(value_type = String)]
    pub mac: Mac,
    /// How it is bound.
    #[serde(flatten)]
    pub binding: Binding,
    /// When it was first seen by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub discovered_at: Option<Time>,
    /// When it was last heard of.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen_at: Option<Time>,
    /// From which address.
    pub last_seen_ip: Option<String>,
    /// When an image was last flashed and proven.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_flashed_at: Option<Time>,
    /// Reference of that image.
    pub last_flashed_ref: Option<String>,
    /// Digest of that image.
    pub last_flashed_sha256: Option<String>,
    /// Its disks as it posted them.
    #[schema(value_type = Option<Vec<Object>>)]
    pub known_disks: Option<Value>,
    /// When.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub known_disks_at: Option<Time>,
    /// What plans choose by.
    #[schema(value_type = Option<Object>)]
    pub hardware: Value,
    /// Where it is, for people.
    pub boot_state: String,
    /// What its plan remembers.
    #[schema(value_type = Object)]
    pub state: Value,
    /// The boot cycle that is open, or was last; without its token.
    #[schema(value_type = Option<Object>)]
    pub cycle: Option<ShownCycle>,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When an operator last changed it.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Time,
}

/// A boot cycle as operators see it. The token is the machine's own.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ShownCycle {
    opened_at: Time,
    opened_by: Option<String>,
    heard_at: Time,
    stage: crate::domain::machine::Stage,
    order: Option<crate::domain::machine::OrderSummary>,
    progress: Option<Value>,
}

impl From<&Cycle> for ShownCycle {
    fn from(cycle: &Cycle) -> Self {
        Self {
            opened_at: cycle.opened_at,
            opened_by: cycle.opened_by.clone(),
            heard_at: cycle.heard_at,
            stage: cycle.stage,
            order: cycle.order.clone(),
            progress: cycle.progress.clone(),
        }
    }
}

impl From<&Machine> for MachineBody {
    fn from(machine: &Machine) -> Self {
        let flashed = machine.flashed.as_ref();
        Self {
            mac: machine.mac.clone(),
            binding: Binding::of(machine),
            discovered_at: machine.discovered_at,
            last_seen_at: machine.last_seen_at,
            last_seen_ip: machine.last_seen_ip.clone(),
            last_flashed_at: flashed.map(|flashed| flashed.at),
            last_flashed_ref: flashed.and_then(|flashed| flashed.image.clone()),
            last_flashed_sha256: flashed.and_then(|flashed| flashed.sha256.clone()),
            known_disks: machine.disks.clone(),
            known_disks_at: machine.disks_at,
            hardware: machine.hardware.clone(),
            boot_state: machine.boot_state(),
            state: machine.state.clone(),
            cycle: machine.cycle.as_ref().map(ShownCycle::from),
            created_at: machine.created_at,
            updated_at: machine.updated_at,
        }
    }
}

/// Which machines; none of it gives all.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct MachineQuery {
    /// Text in address, label, plan, image reference or network address.
    q: Option<String>,
    /// Only with this label.
    label: Option<String>,
    /// Only with this plan.
    plan: Option<String>,
}

impl MachineQuery {
    fn lets(&self, machine: &Machine) -> bool {
        let is_text = |text: &str| {
            self.q.as_ref().is_none_or(|q| text.to_lowercase().contains(&q.to_lowercase()))
        };
        let is_found = is_text(machine.mac.as_str())
            || machine.labels.iter().any(|label| is_text(label))
            || [Some(&machine.plan), machine.image_ref.as_ref(), machine.last_seen_ip.as_ref()]
                .into_iter()
                .flatten()
                .any(|text| is_text(text));
        is_found
            && self.label.as_ref().is_none_or(|label| machine.labels.contains(label))
            && self.plan.as_ref().is_none_or(|plan| machine.plan == *plan)
    }
}

/// Machines, sorted by MAC address.
#[utoipa::path(get, path = "/machines", tag = "machines",
    params(("q" = Option<String>, Query, description = "text anywhere in it"), ("label" = Option<String>, Query), ("plan" = Option<String>, Query)),
    responses((status = 200, body = Vec<MachineBody>), (status = 401, body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Params(wanted): Params<MachineQuery>,
) -> Response {
    let (chunks, sent) = mpsc::channel(CHUNKS);
    let is_whole = Arc::new(AtomicBool::new(false));
    let written = Arc::clone(&is_whole);
    // the server is never closed to them
    let turn = app.lists.clone().acquire_owned().await.ok();
    drop(blocking(move || {
        let _turn = turn;
        match app.db.read_blocking(|conn| write_list(conn, &wanted, &chunks)) {
            Ok(()) => written.store(true, Ordering::Release),
            Err(error) => tracing::warn!(%error, "a list of machines ended early"),
        }
    }));
    // one that ends early breaks off, so that it is not taken for all of them
    let body = futures_util::stream::unfold((sent, is_whole), async |(mut sent, is_whole)| {
        let next: std::io::Result<Bytes> = match sent.recv().await {
            Some(chunk) => Ok(chunk),
            None if is_whole.swap(true, Ordering::Acquire) => return None,
            None => Err(std::io::Error::other("the list ended early")),
        };
        Some((next, (sent, is_whole)))
    });
    ([(header::CONTENT_TYPE, "application/json")], axum::body::Body::from_stream(body))
        .into_response()
}

/// A list is sent in pieces of about this many bytes, of which so many wait for a slow client:
/// memory does not depend on the number of machines.
const CHUNK_BYTES: usize = 64 << 10;
const CHUNKS: usize = 2;

fn write_list(
    conn: &crate::store::Connection,
    wanted: &MachineQuery,
    chunks: &mpsc::Sender<Bytes>,
) -> Result<()> {
    let mut chunk = vec![b'['];
    let mut is_first = true;
    store::machines::each(conn, |machine| {
        if !wanted.lets(&machine) {
            return Ok(true);
        }
        if !std::mem::take(&mut is_first) {
            chunk.push(b',');
        }
        serde_json::to_writer(&mut chunk, &MachineBody::from(&machine))?;
        if chunk.len() < CHUNK_BYTES {
            return Ok(true);
        }
        let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK_BYTES + 4096));
        send(chunks, full.into()).map(|()| true)
    })?;
    chunk.push(b']');
    send(chunks, chunk.into())
}

/// A client that takes nothing for so long has gone: until then the database keeps the state that
/// it reads.
const TAKES_AFTER: Duration = Duration::from_secs(30);

/// Sends a piece, or tells that the client has gone.
fn send(chunks: &mpsc::Sender<Bytes>, chunk: Bytes) -> Result<()> {
    let begun = Instant::now();
    let mut waiting = chunk;
    loop {
        match chunks.try_send(waiting) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Full(chunk)) if begun.elapsed() < TAKES_AFTER => {
                waiting = chunk;
            }
            Err(_) => return Err(Error::new(ErrorKind::Upstream, "the client takes no more")),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// One machine.
#[utoipa::path(get, path = "/machines/{mac}", tag = "machines", params(("mac" = String, Path)),
    responses((status = 200, body = MachineBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    PathText(path): PathText,
) -> Result<axum::Json<MachineBody>> {
    let mac = mac(&path)?;
    let wanted = mac.clone();
    let machine = app.db.read(move |conn| store::machines::get(conn, &wanted)).await?;
    machine
        .map(|machine| axum::Json(MachineBody::from(&machine)))
        .ok_or_else(|| Error::not_found(mac))
}

/// Binds a machine: all of it, what is left out becomes the default. A machine that is not known is
/// added. Saving orders again, also when nothing has changed; a change of labels, drive or kernel
/// arguments alone does not.
#[utoipa::path(put, path = "/machines/{mac}", tag = "machines", params(("mac" = String, Path)), request_body = Binding,
    responses((status = 200, body = MachineBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    PathText(path): PathText,
    who: ClientContext,
    Json(binding): Json<Binding>,
) -> Result<axum::Json<MachineBody>> {
    let mac = mac(&path)?;
    has_version(&app, &binding.netboot_version)?;
    let fresh = mac.clone();
    bind(&app, &mac, who, move |look, who| {
        let fresh = Machine::new(fresh, &binding.boot_mode, who.now);
        let checked = check(look, &binding)?;
        Ok(apply_binding(
            look.machine.as_ref(),
            fresh,
            &look.context(&checked.boot_mode),
            who,
            &checked,
        ))
    })
    .await
}

/// Binds `mac` as `decide` says.
pub(crate) async fn bind(
    app: &Arc<App>,
    mac: &Mac,
    who: ClientContext,
    decide: impl FnOnce(&MachineView<'_>, &ClientContext) -> Result<Outcome<()>> + Send + 'static,
) -> Result<axum::Json<MachineBody>> {
    let ((), machine) =
        app.update_machine(mac, move |look| decide(look, &who), |_, _| Ok(())).await?;
    Ok(axum::Json(MachineBody::from(&machine)))
}

/// Changes of a machine: what is named, and nothing else.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Changes {
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<String>)]
    bty_image_ref: Option<Option<String>>,
    labels: Option<Vec<String>>,
    boot_mode: Option<String>,
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<String>)]
    sanboot_drive: Option<Option<String>>,
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<String>)]
    target_disk_serial: Option<Option<String>>,
    #[schema(value_type = Option<Object>)]
    params: Option<Map<String, Value>>,
    extra_args: Option<String>,
    netboot_version: Option<String>,
}

/// Null is a value here: it takes away what was set.
fn named<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Changes {
    fn apply(self, binding: &mut Binding) {
        if let Some(image) = self.bty_image_ref {
            binding.bty_image_ref = image;
        }
        if let Some(drive) = self.sanboot_drive {
            binding.sanboot_drive = drive;
        }
        if let Some(serial) = self.target_disk_serial {
            binding.target_disk_serial = serial;
        }
        binding.labels = self.labels.unwrap_or_else(|| std::mem::take(&mut binding.labels));
        binding.boot_mode =
            self.boot_mode.unwrap_or_else(|| std::mem::take(&mut binding.boot_mode));
        binding.params = self.params.unwrap_or_else(|| std::mem::take(&mut binding.params));
        binding.extra_args =
            self.extra_args.unwrap_or_else(|| std::mem::take(&mut binding.extra_args));
        binding.netboot_version =
            self.netboot_version.unwrap_or_else(|| std::mem::take(&mut binding.netboot_version));
    }
}

/// Changes a machine that is known. A request that changes nothing orders nothing.
#[utoipa::path(patch, path = "/machines/{mac}", tag = "machines", params(("mac" = String, Path)), request_body = Changes,
    responses((status = 200, body = MachineBody), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn patch(
    State(app): State<Arc<App>>,
    PathText(path): PathText,
    who: ClientContext,
    Json(changes): Json<Changes>,
) -> Result<axum::Json<MachineBody>> {
    let mac = mac(&path)?;
    has_version(&app, changes.netboot_version.as_deref().unwrap_or_default())?;
    let of = mac.clone();
    bind(&app, &mac, who, move |look, who| {
        let machine = look.machine.clone().ok_or_else(|| Error::not_found(of))?;
        let before = Binding::of(&machine);
        let mut binding = before.clone();
        changes.apply(&mut binding);
        if binding == before {
            return Ok(Outcome { machine, events: Vec::new(), answer: () });
        }
        let checked = check(look, &binding)?;
        Ok(apply_binding(
            Some(&machine),
            machine.clone(),
            &look.context(&checked.boot_mode),
            who,
            &checked,
        ))
    })
    .await
}

/// Refuses a version of the live environment that is not there: the machine would find out at its
/// boot.
fn has_version(app: &App, version: &str) -> Result<()> {
    if version.is_empty() || Release::of(&app.config, version).is_complete() {
        return Ok(());
    }
    let detail = format!(
        "netboot_version: the files of {version:?} are not all there; GET /boot/releases lists what is"
    );
    Err(Error::invalid(detail))
}

/// Refuses a binding that cannot work, with all reasons.
pub(crate) fn check(look: &MachineView<'_>, binding: &Binding) -> Result<Binding> {
    let mut problems: Vec<Problem> =
        binding.problems().into_iter().map(|(field, why)| Problem::new(field, why)).collect();
    let plan = look.snapshot.plan(&binding.boot_mode);
    match plan {
        None => {
            let mut problem = Problem::new(
                "boot_mode",
                format!("there is no plan {:?}", short(&binding.boot_mode)),
            );
            problem.hint = Some("GET /plans lists them".into());
            problems.push(problem);
        }
        Some(plan) => {
            let wrong = plan.declared.problems(&binding.params);
            problems.extend(wrong.into_iter().map(|why| Problem::new("params", why)));
        }
    }
    let catalog =
        bty::catalog::Catalog::parse(look.snapshot.catalog.as_bytes()).unwrap_or_default();
    let image = binding
        .bty_image_ref
        .as_ref()
        .map(|image| image.parse().ok().and_then(|r| catalog.by_ref(&r).cloned()));
    if let Some(None) = image {
        let mut problem =
            Problem::new("bty_image_ref", "the catalog has no image with this reference");
        problem.hint = Some("GET /images lists them".into());
        problems.push(problem);
    }
    problems.extend(disk_problems(look, binding, image.flatten().as_ref()));
    if problems.is_empty() {
        return Ok(binding.clone());
    }
    Err(Error::invalid("the machine cannot be bound like this").with_problems(problems))
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

/// What is wrong with the disk: a plan that flashes the bound image needs one, and it must be able
/// to hold the image.
fn disk_problems(
    look: &MachineView<'_>,
    binding: &Binding,
    image: Option<&bty::catalog::Entry>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let needs = look.snapshot.plan(&binding.boot_mode).map_or(&[][..], |plan| &plan.declared.needs);
    if needs.contains(&Need::Image) && binding.bty_image_ref.is_none() {
        let mut problem =
            Problem::new("bty_image_ref", "the plan writes an image, and none is named");
        problem.hint = Some("GET /images lists them".into());
        problems.push(problem);
    }
    if needs.contains(&Need::Disk) && binding.target_disk_serial.is_none() {
        let mut problem =
            Problem::new("target_disk_serial", "the plan writes to a disk, and none is named");
        problem.hint =
            Some("give the serial number of the disk; the machine's inventory lists them".into());
        problems.push(problem);
    }
    let disks =
        look.machine.as_ref().and_then(|machine| machine.disks.as_ref()).and_then(Value::as_array);
    let (Some(disks), Some(serial)) = (disks, &binding.target_disk_serial) else { return problems };
    let Some(disk) =
        disks.iter().find(|disk| disk["serial"].as_str().map(str::trim) == Some(serial.trim()))
    else {
        return problems;
    };
    if disk["readonly"] == true {
        problems.push(Problem::new("target_disk_serial", format!("{serial} is read-only")));
    }
    if let (Some(size), Some(needed)) =
        (disk["size_bytes"].as_u64(), image.and_then(|image| image.size_bytes))
        && needed > size
    {
        let (needed, size) = (bty::size::human(needed), bty::size::human(size));
        problems.push(Problem::new(
            "target_disk_serial",
            format!("the image has {needed}, the disk {size}"),
        ));
    }
    problems
}

/// Deletes a machine. When it boots from the network again, it is a machine that is not known.
#[utoipa::path(delete, path = "/machines/{mac}", tag = "machines", params(("mac" = String, Path)),
    responses((status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    PathText(path): PathText,
    who: ClientContext,
) -> Result<StatusCode> {
    let mac = mac(&path)?;
    let _held = app.lock_all().await;
    app.db
        .write(move |transaction| {
            if !store::machines::delete(transaction, &mac)? {
                return Err(Error::not_found(mac));
            }
            let event =
                NewEvent::new("machine.deleted", mac.as_str(), format!("{mac} was deleted"));
            transaction.record(&event.by(Actor::Operator, who.ip.as_deref())).map(drop)
        })
        .await?;
    app.metrics.event("machine.deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// The hardware of a machine as it posted it.
#[utoipa::path(get, path = "/machines/{mac}/lshw.json", tag = "machines", params(("mac" = String, Path)),
    responses((status = 200, body = Object), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn lshw(
    State(app): State<Arc<App>>,
    PathText(path): PathText,
) -> Result<Response> {
    let mac = mac(&path)?;
    let wanted = mac.clone();
    let found = app.db.read(move |conn| store::machines::lshw(conn, &wanted)).await?;
    let (text, _) = found.ok_or_else(|| missing(&mac))?;
    Ok(attachment(&format!("{}-lshw.json", mac.hyphens()), text))
}

/// The disks of a machine as it posted them.
#[utoipa::path(get, path = "/machines/{mac}/disks.json", tag = "machines", params(("mac" = String, Path)),
    responses((status = 200, body = Vec<Object>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn disks(
    State(app): State<Arc<App>>,
    PathText(path): PathText,
) -> Result<Response> {
    let mac = mac(&path)?;
    let wanted = mac.clone();
    let machine = app.db.read(move |conn| store::machines::get(conn, &wanted)).await?;
    let disks = machine.and_then(|machine| machine.disks).ok_or_else(|| missing(&mac))?;
    Ok(attachment(&format!("{}-disks.json", mac.hyphens()), disks.to_string()))
}

fn missing(mac: &Mac) -> Error {
    Error::new(ErrorKind::NotFound, format!("{mac} is not known, or has posted no inventory"))
}

fn attachment(name: &str, json: String) -> Response {
    let mut response = ([(header::CONTENT_TYPE, "application/json")], json).into_response();
    if let Ok(value) = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    response
}
