//! One machine: what it is, what it is bound to, what it will do, what it has done.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use bty::CancelToken;
use serde_json::{Map, Value};

use super::form::Fields;
use super::notice::{Notice, Undo, redirect_with_notice, redirect_with_result};
use super::{Frame, percent, render};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Event;
use crate::domain::mac::Mac;
use crate::domain::machine::save::Binding;
use crate::domain::machine::{ClientContext, Machine, Phase};
use crate::domain::plan::params::{Kind, Need, Parameter};
use crate::domain::plan::simulate::Step;
use crate::domain::plan::{Plan, bundled};
use crate::domain::time::Time;
use crate::http::api;
use crate::http::extract::{Json, PathText, mac};
use crate::http::guard;
use crate::services::app::{App, Snapshot};
use crate::services::rates::Rate;
use crate::store::catalog::Stored;
use crate::store::{self, events::Filter};

mod hardware;

use hardware::{Disk, Hardware, disks};

/// How far a flash is, for people.
pub struct Progress {
    /// `wipe`, `write`, `verify` or `finish`.
    pub phase: String,
    /// Of a hundred; of the phase.
    pub percent: u64,
    /// The three rates.
    pub rates: String,
    /// Bytes that are done, and how many there are.
    pub done: String,
}

/// How far the open boot cycle of `machine` is, when it says so.
#[must_use]
pub fn progress(app: &App, machine: &Machine) -> Option<Progress> {
    let cycle = machine.open_cycle()?;
    let told: bty_script::plan::Progress = serde_json::from_value(cycle.progress.clone()?).ok()?;
    let total = told.decoded_total.or(told.source_total);
    let done = match told.phase.as_str() {
        "verify" => told.verified_bytes,
        _ if told.decoded_total.is_some() => told.written_bytes,
        _ => told.source_bytes,
    };
    let human = bty::size::human;
    let Rate { read, written, verified } = app.rates.of(&machine.mac).unwrap_or_default();
    Some(Progress {
        rates: format!(
            "read {}/s, written {}/s, read back {}/s",
            human(read),
            human(written),
            human(verified)
        ),
        done: total
            .map_or_else(|| human(done), |total| format!("{} of {}", human(done), human(total))),
        percent: percent(done, total.unwrap_or_default()),
        phase: told.phase,
    })
}

/// A field for a parameter of a plan.
struct Field {
    name: String,
    kind: Kind,
    about: String,
    value: String,
    min: String,
    max: String,
    choices: Vec<String>,
    is_needed: bool,
    preset: String,
}

impl Field {
    fn new(name: &str, parameter: &Parameter, params: &Map<String, Value>) -> Self {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let number = |n: Option<i64>| n.map(|n| n.to_string()).unwrap_or_default();
        Self {
            name: name.to_owned(),
            kind: parameter.kind,
            about: parameter.about.clone(),
            value: params.get(name).map(text).unwrap_or_default(),
            min: number(parameter.min),
            max: number(parameter.max),
            choices: parameter.choices.clone().unwrap_or_default(),
            is_needed: parameter.preset.is_none(),
            preset: parameter.preset.as_ref().map(text).unwrap_or_default(),
        }
    }
}

/// A plan that can be chosen.
struct PlanChoice {
    name: String,
    title: String,
}

/// What is shown of the binding, as it is or as it is being edited.
struct Form {
    binding: Binding,
    labels: String,
    plans: Vec<PlanChoice>,
    title: String,
    images: Vec<Stored>,
    fields: Vec<Field>,
    needs_image: bool,
    needs_disk: bool,
    /// The serial that is bound is that of no disk of the inventory.
    is_foreign_serial: bool,
}

/// What a save that leads to a write would do.
struct Confirm {
    image: String,
    image_size: String,
    disk: String,
    serial: String,
    /// It is seen to happen at the next boots; else it may happen later.
    is_sure: bool,
    /// When, in words.
    when: String,
    fields: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "machine.html")]
struct Page {
    frame: Frame,
    mac: Mac,
    hyphens: String,
    machine: Machine,
    /// It is not known yet: saving adds it.
    is_new: bool,
    phase: Phase,
    state: String,
    image: String,
    progress: Option<Progress>,
    hardware: Hardware,
    disks: Vec<Disk>,
    form: Form,
    steps: Vec<Step>,
    problem: Option<Error>,
    confirm: Option<Confirm>,
    events: Vec<Event>,
    /// The plan writes: it can be ordered again.
    can_flash: bool,
}

/// What the regions that are drawn anew while a form is edited show.
#[derive(Template)]
#[template(path = "machine_preview.html")]
struct Preview {
    form: Form,
    steps: Vec<Step>,
    problem: Option<Error>,
}

/// A machine with all that its page shows of it.
struct Known {
    machine: Option<Machine>,
    lshw: Option<(String, Time)>,
    images: Vec<Stored>,
    events: Vec<Event>,
}

async fn known(app: &App, mac: &Mac) -> Result<Known> {
    let mac = mac.clone();
    let read = move |conn: &crate::store::Connection| {
        let filter = Filter {
            subject_kind: Some("machine".into()),
            subject_id: Some(mac.to_string()),
            ..Filter::default()
        };
        Ok(Known {
            machine: store::machines::get(conn, &mac)?,
            lshw: store::machines::lshw(conn, &mac)?,
            images: store::catalog::all(conn)?,
            events: store::events::list(conn, &filter, 30)?,
        })
    };
    app.db.read(read).await
}

/// The page.
pub async fn page(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    who: ClientContext,
    frame: Frame,
) -> Result<Response> {
    let mac = mac(&path)?;
    show(&app, frame, &who, mac, None, None, None).await
}

/// The page: as it is, or with a form that was sent and what is wrong with it or has to be
/// confirmed.
async fn show(
    app: &Arc<App>,
    frame: Frame,
    who: &ClientContext,
    mac: Mac,
    sent: Option<Binding>,
    problem: Option<Error>,
    confirm: Option<Confirm>,
) -> Result<Response> {
    let Known { machine, lshw, images, events } = known(app, &mac).await?;
    let snapshot = app.snapshot();
    let is_new = machine.is_none();
    let machine = machine.unwrap_or_else(|| Machine::new(mac.clone(), bundled::IPXE_EXIT, who.now));
    let binding = sent.clone().unwrap_or_else(|| Binding::of(&machine));
    // what it does next without a form is what it does as it is
    let next = match problem {
        None => simulate(app, who, &frame, &mac, sent.or(is_new.then(|| binding.clone()))).await,
        // what cannot be saved does nothing
        Some(error) => Err(error),
    };
    let (steps, problem) = match next {
        Ok(steps) => (steps, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let hardware = Hardware::read(lshw.as_ref().map(|(text, _)| text.as_str()), &mac);
    let disks = disks(&machine, &hardware, &snapshot.names);
    let machine_status = machine.status();
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let page = Page {
        hyphens: mac.hyphens(),
        phase: machine_status.phase(),
        state: machine_status.text(),
        image: image_name(&snapshot.names, machine.image_ref.as_deref()),
        progress: progress(app, &machine),
        form: form(&snapshot, binding, images, &disks),
        can_flash: needs(&snapshot, &machine.plan).contains(&Need::Disk) && !is_new,
        mac,
        machine,
        is_new,
        hardware,
        disks,
        steps,
        problem,
        confirm,
        events,
        frame,
    };
    let mut response = render(&page)?;
    *response.status_mut() = status;
    Ok(response)
}

fn image_name(names: &HashMap<String, String>, image: Option<&str>) -> String {
    match image {
        Some(image) => {
            names.get(image).cloned().unwrap_or_else(|| format!("{image} (not in the catalog)"))
        }
        None => String::new(),
    }
}

fn needs<'a>(snapshot: &'a Snapshot, plan: &str) -> &'a [Need] {
    snapshot.plan(plan).map_or(&[], |plan| &plan.declared.needs)
}

fn form(snapshot: &Snapshot, binding: Binding, images: Vec<Stored>, disks: &[Disk]) -> Form {
    let plan = snapshot.plan(&binding.boot_mode);
    let parameters = plan.map(|plan| plan.declared.parameters.clone()).unwrap_or_default();
    let needs = needs(snapshot, &binding.boot_mode);
    let mut own: Vec<&Plan> = snapshot.plans.values().map(Arc::as_ref).collect();
    own.sort_by(|a, b| a.name.cmp(&b.name));
    let choice =
        |plan: &Plan| PlanChoice { name: plan.name.clone(), title: plan.title().to_owned() };
    let serial = binding.target_disk_serial.as_deref();
    Form {
        labels: binding.labels.join(", "),
        plans: bundled::all().iter().chain(own).map(choice).collect(),
        title: plan.map(|plan| plan.title().to_owned()).unwrap_or_default(),
        fields: parameters
            .iter()
            .map(|(name, parameter)| Field::new(name, parameter, &binding.params))
            .collect(),
        needs_image: needs.contains(&Need::Image),
        needs_disk: needs.contains(&Need::Disk),
        is_foreign_serial: serial
            .is_some_and(|serial| !disks.iter().any(|disk| disk.serial == serial)),
        images,
        binding,
    }
}

/// The binding that a form says. A parameter that is left empty has its preset.
fn binding(snapshot: &Snapshot, fields: &Fields) -> Binding {
    let plan = fields.text("boot_mode").to_owned();
    let parameters =
        snapshot.plan(&plan).map(|plan| plan.declared.parameters.clone()).unwrap_or_default();
    let mut params = Map::new();
    for (name, parameter) in &parameters {
        if let Some(text) = fields.maybe(&format!("param.{name}")) {
            params.insert(name.clone(), typed(parameter.kind, text));
        }
    }
    let label = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    Binding {
        bty_image_ref: fields.maybe("bty_image_ref"),
        labels: fields.text("labels").split(',').filter_map(label).collect(),
        boot_mode: plan,
        sanboot_drive: fields.maybe("sanboot_drive"),
        target_disk_serial: fields
            .maybe("other_serial")
            .or_else(|| fields.maybe("target_disk_serial")),
        params,
        extra_args: fields.text("extra_args").to_owned(),
        netboot_version: fields.text("netboot_version").to_owned(),
    }
}

/// What is no number stays text: the check of the plan says so.
fn typed(kind: Kind, text: String) -> Value {
    match kind {
        Kind::Int => text.parse::<i64>().map_or(Value::String(text), Value::from),
        Kind::Bool if text == "true" || text == "false" => Value::Bool(text == "true"),
        _ => Value::String(text),
    }
}

async fn simulate(
    app: &Arc<App>,
    who: &ClientContext,
    frame: &Frame,
    mac: &Mac,
    binding: Option<Binding>,
) -> Result<Vec<Step>> {
    let suppose = api::plans::Suppose { binding, ..Default::default() };
    let by = frame.principal.clone().unwrap_or(guard::Principal::Everybody);
    let simulating = api::plans::Simulating { who: who.clone(), by, gone: CancelToken::new() };
    api::plans::simulate_one(app, mac.as_str(), simulating, suppose).await
}

/// Draws the parameters and the next boots anew for a form that is being edited.
pub async fn preview(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    who: ClientContext,
    frame: Frame,
    headers: axum::http::HeaderMap,
    fields: Fields,
) -> Result<Response> {
    let mac = mac(&path)?;
    let snapshot = app.snapshot();
    let binding = binding(&snapshot, &fields);
    if !headers.contains_key("hx-request") || headers.contains_key("hx-boosted") {
        return show(&app, frame, &who, mac, Some(binding), None, None).await;
    }
    let Known { machine, lshw, images, .. } = known(&app, &mac).await?;
    let hardware = Hardware::read(lshw.as_ref().map(|(text, _)| text.as_str()), &mac);
    let disks = machine
        .as_ref()
        .map(|machine| disks(machine, &hardware, &snapshot.names))
        .unwrap_or_default();
    let next = match check(&app, &mac, &binding).await {
        Ok(()) => simulate(&app, &who, &frame, &mac, Some(binding.clone())).await,
        // what cannot be saved does nothing
        Err(error) => Err(error),
    };
    let (steps, problem) = match next {
        Ok(steps) => (steps, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    render(&Preview { form: form(&snapshot, binding, images, &disks), steps, problem })
}

async fn check(app: &Arc<App>, mac: &Mac, binding: &Binding) -> Result<()> {
    let binding = binding.clone();
    app.read_machine(mac, move |look| api::machines::check(look, &binding).map(drop)).await?
}

/// Saves a binding. One that leads to a write, or whose plan may write at some later time, is shown
/// first, with all that it will do.
pub async fn save(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    who: ClientContext,
    frame: Frame,
    fields: Fields,
) -> Result<Response> {
    let mac = mac(&path)?;
    let wanted = if fields.has("again") || fields.has("inventory") {
        kept(&app, &mac, fields.has("inventory")).await?
    } else {
        binding(&app.snapshot(), &fields)
    };
    if let Err(error) = check(&app, &mac, &wanted).await {
        return show(&app, frame, &who, mac, Some(wanted), Some(error), None).await;
    }
    let steps = simulate(&app, &who, &frame, &mac, Some(wanted.clone())).await?;
    let writes: Vec<u32> =
        steps.iter().filter(|step| step.writes()).map(|step| step.boot).collect();
    let may_write =
        app.snapshot().plan(&wanted.boot_mode).is_some_and(Plan::may_write) || !writes.is_empty();
    if may_write && fields.text("confirmed") != confirmed(&wanted) {
        let confirm = confirm(&app, &mac, &wanted, writes, &steps).await?;
        return show(&app, frame, &who, mac, Some(wanted), None, Some(confirm)).await;
    }
    let to = format!("/ui/machines/{}", mac.hyphens());
    let before = known(&app, &mac).await?.machine;
    let saved = api::machines::put(
        State(Arc::clone(&app)),
        PathText(path),
        who.clone(),
        Json(wanted.clone()),
    )
    .await;
    match saved {
        Ok(_) => {
            let after = known(&app, &mac).await?.machine.map(Box::new);
            let undo =
                Undo::Machine { mac: mac.clone(), before: before.map(Box::new), lshw: None, after };
            Ok(redirect_with_notice(
                &app,
                &to,
                Notice::done(format!("{mac} is saved: the plan is {}.", wanted.boot_mode)).or(undo),
            ))
        }
        Err(error) => show(&app, frame, &who, mac, Some(wanted), Some(error), None).await,
    }
}

/// The binding as it is, to order it again, or to take the inventory.
async fn kept(app: &App, mac: &Mac, is_inventory: bool) -> Result<Binding> {
    let machine = known(app, mac).await?.machine.ok_or_else(|| Error::not_found(mac))?;
    let mut binding = Binding::of(&machine);
    if is_inventory {
        binding.boot_mode = bundled::INVENTORY.to_owned();
        binding.params.clear();
    }
    Ok(binding)
}

/// What a confirmation is for: another image or disk than was shown is not confirmed.
fn confirmed(binding: &Binding) -> String {
    bty::Digest::of(serde_json::to_string(binding).unwrap_or_default().as_bytes()).to_string()
}

async fn confirm(
    app: &App,
    mac: &Mac,
    wanted: &Binding,
    writes: Vec<u32>,
    steps: &[Step],
) -> Result<Confirm> {
    let Known { machine, images, .. } = known(app, mac).await?;
    let image = wanted
        .bty_image_ref
        .as_ref()
        .and_then(|of| images.iter().find(|image| image.bty_image_ref == *of));
    let first = steps.iter().find(|step| step.writes());
    let serial = first
        .and_then(|step| step.disk.clone())
        .or(wanted.target_disk_serial.clone())
        .unwrap_or_default();
    let disks = machine
        .as_ref()
        .map(|machine| disks(machine, &Hardware::default(), &HashMap::new()))
        .unwrap_or_default();
    let disk = disks.iter().find(|disk| disk.serial == serial.trim());
    let name =
        first.and_then(|step| step.image.clone()).or_else(|| image.map(|image| image.name.clone()));
    let mut fields = vec![
        ("boot_mode".to_owned(), wanted.boot_mode.clone()),
        ("bty_image_ref".to_owned(), wanted.bty_image_ref.clone().unwrap_or_default()),
        ("target_disk_serial".to_owned(), wanted.target_disk_serial.clone().unwrap_or_default()),
        ("labels".to_owned(), wanted.labels.join(", ")),
        ("sanboot_drive".to_owned(), wanted.sanboot_drive.clone().unwrap_or_default()),
        ("extra_args".to_owned(), wanted.extra_args.clone()),
        ("netboot_version".to_owned(), wanted.netboot_version.clone()),
        ("confirmed".to_owned(), confirmed(wanted)),
    ];
    for (name, value) in &wanted.params {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        fields.push((format!("param.{name}"), text));
    }
    Ok(Confirm {
        image: name.unwrap_or_else(|| "what the plan chooses".into()),
        image_size: image
            .and_then(|image| image.size_bytes)
            .map_or_else(String::new, bty::size::human),
        disk: match (disk, serial.is_empty()) {
            (Some(disk), _) => disk.about(),
            (None, true) => "what the plan chooses".into(),
            (None, false) => "a disk that the inventory does not have".into(),
        },
        is_sure: !writes.is_empty(),
        serial,
        when: when(&writes),
        fields,
    })
}

/// At which of its next boots a disk is written.
fn when(writes: &[u32]) -> String {
    let numbers: Vec<String> = writes.iter().map(u32::to_string).collect();
    match writes {
        [] => "when the plan says so; at none of its next network boots, as things are now".into(),
        [1] => "at its next network boot".into(),
        [1, ..] => format!(
            "at its next network boot, and again: of the next ones at {}",
            numbers.join(", ")
        ),
        _ => format!("at network boot {} from now", numbers.join(", ")),
    }
}

/// Deletes the machine.
pub async fn delete(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    who: ClientContext,
    _fields: Fields,
) -> Result<Response> {
    let mac = mac(&path)?;
    let Known { machine, lshw, .. } = known(&app, &mac).await?;
    let before =
        machine.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{mac} is not known")))?;
    let deleted = api::machines::delete(State(Arc::clone(&app)), PathText(path), who).await;
    let undo =
        Undo::Machine { mac: mac.clone(), before: Some(Box::new(before)), lshw, after: None };
    let notice = deleted.map(|_| Notice::done(format!("{mac} is deleted.")).or(undo));
    Ok(redirect_with_result(&app, "/ui/machines", notice))
}
