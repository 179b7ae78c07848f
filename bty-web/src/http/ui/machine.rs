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
use crate::domain::error::{Error, Result};
use crate::domain::event::Event;
use crate::domain::mac::Mac;
use crate::domain::machine::save::Assignment;
use crate::domain::machine::state_label::state_label;
use crate::domain::machine::{ClientContext, Machine, Phase};
use crate::domain::plan::params::{Need, ParameterKind};
use crate::domain::plan::simulate::Step;
use crate::domain::plan::{Plan, bundled};
use crate::http::extract::parse_mac;
use crate::http::state::service_group;
use crate::services::access::Principal;
use crate::services::machine_edits::MachineEdits;
use crate::services::machine_reads::{MachineDetails, MachineReads};
use crate::services::plan_simulation::{PlanSimulator, Scenario, SimulationRequest};
use crate::services::rates::Rates;
use crate::services::snapshot::Snapshots;
use crate::services::undo::Undo;

mod confirmation;
mod form;
mod hardware;

use confirmation::Confirmation;
use form::{Form, form};
use hardware::{Disk, Hardware, disks};

#[derive(Template)]
#[template(path = "machine.html")]
struct MachinePage {
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
struct MachineDraft {
    /// The submitted assignment.
    assignment: Option<Assignment>,
    /// Why it cannot be saved.
    problem: Option<Error>,
    /// What must be confirmed before it is saved.
    confirmation: Option<Confirmation>,
}

/// The services of the page.
pub struct MachineServices {
    reads: MachineReads,
    edits: MachineEdits,
    snapshots: Arc<Snapshots>,
    simulator: PlanSimulator,
    rates: Arc<Rates>,
}

service_group!(MachineServices { reads, edits, snapshots, simulator, rates });

/// Shows the machine.
pub async fn page(
    State(pages): State<MachineServices>,
    Path(path): Path<String>,
    who: ClientContext,
    frame: Frame,
) -> Result<Response> {
    show(&pages, frame, &who, parse_mac(&path)?, MachineDraft::default()).await
}

async fn show(
    pages: &MachineServices,
    frame: Frame,
    who: &ClientContext,
    mac: Mac,
    draft: MachineDraft,
) -> Result<Response> {
    let MachineDetails { machine, lshw, images, events } = pages.reads.details(&mac).await?;
    let snapshot = pages.snapshots.current();
    let is_new = machine.is_none();
    let machine = machine.unwrap_or_else(|| Machine::new(mac.clone(), bundled::IPXE_EXIT, who.now));
    let assignment = draft.assignment.clone().unwrap_or_else(|| Assignment::of(&machine));
    // simulate a known machine without a draft as it is: a save could change its next boots
    let supposed = draft.assignment.or(is_new.then(|| assignment.clone()));
    let (steps, problem) = match draft.problem {
        None => split(simulate(pages, who, &frame, &mac, supposed).await),
        Some(problem) => (Vec::new(), Some(problem)),
    };
    let hardware = Hardware::read(lshw.as_ref().map(|(text, _)| text.as_str()), &mac);
    let disks = disks(&machine, &hardware, &snapshot.names);
    let machine_status = machine.status();
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let page = MachinePage {
        hyphens: mac.hyphens(),
        phase: machine_status.phase(),
        state: state_label(&machine_status),
        image: image_name(&snapshot.names, machine.image_ref.as_deref()),
        progress: progress(&pages.rates, &machine),
        form: form(&snapshot, assignment, images, &disks),
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
    pages: &MachineServices,
    who: &ClientContext,
    frame: &Frame,
    mac: &Mac,
    assignment: Option<Assignment>,
) -> Result<Vec<Step>> {
    let principal = frame.principal.clone().unwrap_or(Principal::Everybody);
    let request = SimulationRequest { who: who.clone(), principal, gone: CancelToken::new() };
    let scenario = Scenario { assignment, ..Scenario::default() };
    pages.simulator.simulate_machine(mac.clone(), request, scenario).await
}

/// Renders the parameters and the next boots of a form that is being edited. Without scripts,
/// renders the whole page.
pub async fn preview(
    State(pages): State<MachineServices>,
    Path(path): Path<String>,
    who: ClientContext,
    frame: Frame,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response> {
    let mac = parse_mac(&path)?;
    let snapshot = pages.snapshots.current();
    let assignment = form::assignment(&snapshot, &fields);
    if !headers.contains_key("hx-request") || headers.contains_key("hx-boosted") {
        let draft = MachineDraft { assignment: Some(assignment), ..MachineDraft::default() };
        return show(&pages, frame, &who, mac, draft).await;
    }
    let MachineDetails { machine, lshw, images, .. } = pages.reads.details(&mac).await?;
    let hardware = Hardware::read(lshw.as_ref().map(|(text, _)| text.as_str()), &mac);
    let disks = machine
        .as_ref()
        .map(|machine| disks(machine, &hardware, &snapshot.names))
        .unwrap_or_default();
    let simulated = match pages.edits.check(&mac, &assignment).await {
        Ok(()) => simulate(&pages, &who, &frame, &mac, Some(assignment.clone())).await,
        Err(error) => Err(error),
    };
    let (steps, problem) = split(simulated);
    render(&Preview { form: form(&snapshot, assignment, images, &disks), steps, problem })
}

/// Saves an assignment. If it leads to a write, or if its plan may write at some later time,
/// requires a confirmation first.
pub async fn save(
    State(pages): State<MachineServices>,
    Path(path): Path<String>,
    who: ClientContext,
    notices: Notices,
    frame: Frame,
    fields: Fields,
) -> Result<Response> {
    let mac = parse_mac(&path)?;
    let assignment = match (fields.has("again"), fields.has("inventory")) {
        (_, true) => inventory_assignment(&pages, &mac).await?,
        (true, _) => Assignment::of(&pages.reads.get(&mac).await?),
        _ => form::assignment(&pages.snapshots.current(), &fields),
    };
    let rejected = |problem| MachineDraft {
        assignment: Some(assignment.clone()),
        problem: Some(problem),
        ..MachineDraft::default()
    };
    if let Err(problem) = pages.edits.check(&mac, &assignment).await {
        return show(&pages, frame, &who, mac, rejected(problem)).await;
    }
    let steps = simulate(&pages, &who, &frame, &mac, Some(assignment.clone())).await?;
    let may_write =
        pages.snapshots.current().plan(&assignment.boot_mode).is_some_and(Plan::may_write)
            || steps.iter().any(Step::writes);
    if may_write && fields.text("confirmed") != confirmation::digest(&assignment) {
        let confirmation = Some(Confirmation::new(&pages.reads, &mac, &assignment, &steps).await?);
        let draft = MachineDraft { assignment: Some(assignment), problem: None, confirmation };
        return show(&pages, frame, &who, mac, draft).await;
    }
    let before = pages.reads.find(&mac).await?.map(Box::new);
    match pages.edits.save(who.clone(), &mac, assignment.clone()).await {
        Ok(after) => {
            let after = Some(Box::new(after));
            let undo = Undo::Machine { mac: mac.clone(), before, lshw: None, after };
            let text = format!("{mac} is saved with the plan {}.", assignment.boot_mode);
            let to = format!("/ui/machines/{}", mac.hyphens());
            Ok(notices.redirect(&to, Notice::success(text).with_undo(undo)))
        }
        Err(problem) => show(&pages, frame, &who, mac, rejected(problem)).await,
    }
}

/// Returns the assignment of the machine, changed to the plan that only takes the inventory.
async fn inventory_assignment(pages: &MachineServices, mac: &Mac) -> Result<Assignment> {
    let mut assignment = Assignment::of(&pages.reads.get(mac).await?);
    assignment.boot_mode = bundled::INVENTORY.to_owned();
    assignment.params.clear();
    Ok(assignment)
}

/// Deletes the machine.
pub async fn delete(
    State(pages): State<MachineServices>,
    Path(path): Path<String>,
    who: ClientContext,
    notices: Notices,
    _fields: Fields,
) -> Result<Response> {
    let mac = parse_mac(&path)?;
    let MachineDetails { machine, lshw, .. } = pages.reads.details(&mac).await?;
    let before =
        Some(Box::new(machine.ok_or_else(|| Error::not_found(format!("the machine {mac}")))?));
    let deleted = pages.edits.delete(&who, mac.clone()).await;
    let notice = deleted.map(|()| {
        let text = format!("{mac} is deleted.");
        Notice::success(text).with_undo(Undo::Machine { mac, before, lshw, after: None })
    });
    Ok(notices.redirect("/ui/machines", notice))
}
