//! One machine: its state and hardware, its assignment, its next boots, its history.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bty::CancelToken;

use super::form::Fields;
use super::frame::Frame;
use super::notice::{Notice, Notices};
use super::progress::{Progress, progress};
use super::render::render;
use super::state_label::state_label;
use crate::domain::error::{Error, Result};
use crate::domain::event::Event;
use crate::domain::mac::Mac;
use crate::domain::machine::save::Binding;
use crate::domain::machine::{ClientContext, Machine, Phase};
use crate::domain::plan::params::{Kind, Need};
use crate::domain::plan::simulate::Step;
use crate::domain::plan::{Plan, bundled};
use crate::http::extract::parse_mac;
use crate::services::access::Principal;
use crate::services::app::App;
use crate::services::machine_edits;
use crate::services::machine_reads::{self, MachineDetails};
use crate::services::plan_simulation::{Scenario, SimulationRequest, simulate_machine};
use crate::services::undo::Undo;

mod confirmation;
mod form;
mod hardware;

use confirmation::Confirmation;
use form::{Form, form};
use hardware::{Disk, Hardware, disks};

#[derive(Template)]
#[template(path = "machine.html")]
struct Page {
    frame: Frame,
    mac: Mac,
    hyphens: String,
    machine: Machine,
    /// True for an unknown machine, which saving adds.
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
    confirmation: Option<Confirmation>,
    events: Vec<Event>,
    /// True if the plan writes to disks, so that the operator can request another flash.
    can_flash: bool,
}

/// The parts of the page that are updated while the form is edited.
#[derive(Template)]
#[template(path = "machine_preview.html")]
struct Preview {
    form: Form,
    steps: Vec<Step>,
    problem: Option<Error>,
}

/// Unsaved input that the page shows instead of the saved machine.
#[derive(Default)]
struct Draft {
    /// The submitted assignment.
    binding: Option<Binding>,
    /// Why it cannot be saved.
    problem: Option<Error>,
    /// What must be confirmed before it is saved.
    confirmation: Option<Confirmation>,
}

/// Shows the machine.
pub async fn page(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    who: ClientContext,
    frame: Frame,
) -> Result<Response> {
    show(&app, frame, &who, parse_mac(&path)?, Draft::default()).await
}

async fn show(
    app: &Arc<App>,
    frame: Frame,
    who: &ClientContext,
    mac: Mac,
    draft: Draft,
) -> Result<Response> {
    let MachineDetails { machine, lshw, images, events } =
        machine_reads::details(app, &mac).await?;
    let snapshot = app.snapshot();
    let is_new = machine.is_none();
    let machine = machine.unwrap_or_else(|| Machine::new(mac.clone(), bundled::IPXE_EXIT, who.now));
    let binding = draft.binding.clone().unwrap_or_else(|| Binding::of(&machine));
    // simulate a known machine without a draft as it is: a save could change its next boots
    let supposed = draft.binding.or(is_new.then(|| binding.clone()));
    let (steps, problem) = match draft.problem {
        None => split(simulate(app, who, &frame, &mac, supposed).await),
        Some(problem) => (Vec::new(), Some(problem)),
    };
    let hardware = Hardware::read(lshw.as_ref().map(|(text, _)| text.as_str()), &mac);
    let disks = disks(&machine, &hardware, &snapshot.names);
    let machine_status = machine.status();
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let page = Page {
        hyphens: mac.hyphens(),
        phase: machine_status.phase(),
        state: state_label(&machine_status),
        image: image_name(&snapshot.names, machine.image_ref.as_deref()),
        progress: progress(app, &machine),
        form: form(&snapshot, binding, images, &disks),
        can_flash: form::needs(&snapshot, &machine.plan).contains(&Need::Disk) && !is_new,
        mac,
        machine,
        is_new,
        hardware,
        disks,
        steps,
        problem,
        confirmation: draft.confirmation,
        events,
        frame,
    };
    let mut response = render(&page)?;
    *response.status_mut() = status;
    Ok(response)
}

/// Splits the result of a simulation into its steps and its error. An assignment that cannot be
/// saved has no steps.
fn split(simulated: Result<Vec<Step>>) -> (Vec<Step>, Option<Error>) {
    match simulated {
        Ok(steps) => (steps, None),
        Err(error) => (Vec::new(), Some(error)),
    }
}

fn image_name(names: &HashMap<String, String>, image: Option<&str>) -> String {
    match image {
        Some(image) => {
            names.get(image).cloned().unwrap_or_else(|| format!("{image} (not in the catalog)"))
        }
        None => String::new(),
    }
}

async fn simulate(
    app: &Arc<App>,
    who: &ClientContext,
    frame: &Frame,
    mac: &Mac,
    binding: Option<Binding>,
) -> Result<Vec<Step>> {
    let principal = frame.principal.clone().unwrap_or(Principal::Everybody);
    let request = SimulationRequest { who: who.clone(), principal, gone: CancelToken::new() };
    let scenario = Scenario { binding, ..Scenario::default() };
    simulate_machine(app, mac.clone(), request, scenario).await
}

/// Renders the parameters and the next boots of a form that is being edited. Without scripts,
/// renders the whole page.
pub async fn preview(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    who: ClientContext,
    frame: Frame,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response> {
    let mac = parse_mac(&path)?;
    let snapshot = app.snapshot();
    let binding = form::binding(&snapshot, &fields);
    if !headers.contains_key("hx-request") || headers.contains_key("hx-boosted") {
        let draft = Draft { binding: Some(binding), ..Draft::default() };
        return show(&app, frame, &who, mac, draft).await;
    }
    let MachineDetails { machine, lshw, images, .. } = machine_reads::details(&app, &mac).await?;
    let hardware = Hardware::read(lshw.as_ref().map(|(text, _)| text.as_str()), &mac);
    let disks = machine
        .as_ref()
        .map(|machine| disks(machine, &hardware, &snapshot.names))
        .unwrap_or_default();
    let simulated = match machine_edits::check(&app, &mac, &binding).await {
        Ok(()) => simulate(&app, &who, &frame, &mac, Some(binding.clone())).await,
        Err(error) => Err(error),
    };
    let (steps, problem) = split(simulated);
    render(&Preview { form: form(&snapshot, binding, images, &disks), steps, problem })
}

/// Saves an assignment. If it leads to a write, or if its plan may write at some later time,
/// requires a confirmation first.
pub async fn save(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    who: ClientContext,
    notices: Notices,
    frame: Frame,
    fields: Fields,
) -> Result<Response> {
    let mac = parse_mac(&path)?;
    let binding = match (fields.has("again"), fields.has("inventory")) {
        (_, true) => inventory_binding(&app, &mac).await?,
        (true, _) => Binding::of(&machine_reads::get(&app, &mac).await?),
        _ => form::binding(&app.snapshot(), &fields),
    };
    let rejected = |problem| Draft {
        binding: Some(binding.clone()),
        problem: Some(problem),
        ..Draft::default()
    };
    if let Err(problem) = machine_edits::check(&app, &mac, &binding).await {
        return show(&app, frame, &who, mac, rejected(problem)).await;
    }
    let steps = simulate(&app, &who, &frame, &mac, Some(binding.clone())).await?;
    let may_write = app.snapshot().plan(&binding.boot_mode).is_some_and(Plan::may_write)
        || steps.iter().any(Step::writes);
    if may_write && fields.text("confirmed") != confirmation::digest(&binding) {
        let confirmation = Some(Confirmation::new(&app, &mac, &binding, &steps).await?);
        let draft = Draft { binding: Some(binding), problem: None, confirmation };
        return show(&app, frame, &who, mac, draft).await;
    }
    let before = machine_reads::find(&app, &mac).await?.map(Box::new);
    match machine_edits::save(&app, who.clone(), &mac, binding.clone()).await {
        Ok(after) => {
            let after = Some(Box::new(after));
            let undo = Undo::Machine { mac: mac.clone(), before, lshw: None, after };
            let text = format!("{mac} is saved with the plan {}.", binding.boot_mode);
            let to = format!("/ui/machines/{}", mac.hyphens());
            Ok(notices.redirect(&to, Notice::success(text).with_undo(undo)))
        }
        Err(problem) => show(&app, frame, &who, mac, rejected(problem)).await,
    }
}

/// Returns the assignment of the machine, changed to the plan that only takes the inventory.
async fn inventory_binding(app: &App, mac: &Mac) -> Result<Binding> {
    let mut binding = Binding::of(&machine_reads::get(app, mac).await?);
    binding.boot_mode = bundled::INVENTORY.to_owned();
    binding.params.clear();
    Ok(binding)
}

/// Deletes the machine.
pub async fn delete(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    who: ClientContext,
    notices: Notices,
    _fields: Fields,
) -> Result<Response> {
    let mac = parse_mac(&path)?;
    let MachineDetails { machine, lshw, .. } = machine_reads::details(&app, &mac).await?;
    let before =
        Some(Box::new(machine.ok_or_else(|| Error::not_found(format!("the machine {mac}")))?));
    let deleted = machine_edits::delete(&app, &who, mac.clone()).await;
    let notice = deleted.map(|()| {
        let text = format!("{mac} is deleted.");
        Notice::success(text).with_undo(Undo::Machine { mac, before, lshw, after: None })
    });
    Ok(notices.redirect("/ui/machines", notice))
}
