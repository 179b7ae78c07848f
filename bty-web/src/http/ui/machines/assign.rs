//! Assigning an image, a disk and a plan to machines: one form for one machine or for many, and
//! its confirmation.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::confirmation::{ChangePage, ShownChange};
use super::disk_choice::{DiskChoice, MachineDisks};
use super::image_choice::{IMAGES_SHOWN, ImageChoice, ImageTarget, choices};
use super::selection::{FormSender, TickedMachines, list_of};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::mac::Mac;
use crate::domain::machine::architecture::mismatch;
use crate::domain::machine::save::Assignment;
use crate::domain::machine::table::TableRow;
use crate::domain::machine::{ClientContext, Machine};
use crate::domain::plan::params::Need;
use crate::domain::plan::simulate::Step;
use crate::domain::plan::{Plan, bundled};
use crate::http::extract::{ClientGone, parse_mac};
use crate::http::state::service_group;
use crate::http::ui::form::Fields;
use crate::http::ui::frame::Frame;
use crate::http::ui::notice::{Notice, Notices};
use crate::http::ui::render::{count, render};
use crate::services::access::Principal;
use crate::services::bulk_edits::{BulkEdits, BulkReport, SkippedMachine, TableRequest};
use crate::services::image_catalog::ImageCatalog;
use crate::services::machine_reads::MachineReads;
use crate::services::plan_simulation::{PlanSimulator, Scenario};
use crate::services::power::Power;
use crate::services::snapshot::{Snapshot, Snapshots};
use crate::services::undo::Undo;

/// The plan that is chosen unless an operator chooses another one.
const PLAN: &str = "bty-flash-once";

/// Maximum number of machines of one form.
const MACHINES_MAX: usize = 500;

/// The form.
#[derive(Template)]
#[template(path = "machines_assign.html")]
struct AssignPage {
    frame: Frame,
    title: String,
    back: String,
    hidden: Vec<(String, String)>,
    machines: Vec<AssignedMachine>,
    images: Vec<ImageChoice>,
    /// Number of further images that the search finds.
    more_images: usize,
    /// Number of images in the catalog.
    all_images: usize,
    find: String,
    /// Names and titles of the plans, and whether each is chosen.
    plans: Vec<(String, String, bool)>,
    /// True if another plan than [`PLAN`] is chosen.
    is_other_plan: bool,
    /// True if machines can be made to boot from the network at once.
    has_power: bool,
    is_now: bool,
    problem: Option<Error>,
}

/// A machine of the form.
struct AssignedMachine {
    mac: String,
    hyphens: String,
    name: String,
    disks: Vec<DiskChoice>,
    /// The serial number that the operator has entered, if there is no inventory.
    entered: String,
    is_at_work: bool,
}

/// What an operator has chosen so far.
struct AssignInput {
    image: String,
    plan: String,
    find: String,
    is_now: bool,
}

impl AssignInput {
    fn of_fields(fields: &Fields) -> Self {
        Self {
            image: fields.text("image").to_owned(),
            plan: fields.optional("plan").unwrap_or_else(|| PLAN.into()),
            find: fields.text("find").to_owned(),
            is_now: fields.text("when") == "now",
        }
    }
}

/// The services of the form.
pub struct AssignServices {
    reads: MachineReads,
    images: ImageCatalog,
    snapshots: Arc<Snapshots>,
    bulk: BulkEdits,
    power: Power,
    simulator: PlanSimulator,
}

service_group!(AssignServices { reads, images, snapshots, bulk, power, simulator });

/// A form that was sent.
struct AssignRequest {
    sender: FormSender,
    ticked: TickedMachines,
    macs: Vec<Mac>,
    input: AssignInput,
    fields: Fields,
}

/// Shows the form for one machine.
pub async fn one(
    State(services): State<AssignServices>,
    Path(path): Path<String>,
    frame: Frame,
) -> Result<Response> {
    let mac = parse_mac(&path)?;
    let machine = services.reads.get(&mac).await?;
    let ticked = TickedMachines::one(machine.mac.as_str(), &machine.mac.hyphens());
    let fields = Fields::default();
    let input = AssignInput::of_fields(&fields);
    services.form(frame, ticked, &[machine.mac], &input, &fields, None).await
}

/// Shows the form for the ticked machines; then what the choice does to them; with the digest of
/// that, assigns it.
pub async fn submit(
    State(services): State<AssignServices>,
    who: ClientContext,
    principal: Principal,
    gone: ClientGone,
    notices: Notices,
    frame: Frame,
    fields: Fields,
) -> Result<Response> {
    let ticked = TickedMachines::read(&services.reads, &fields).await;
    let ticked = match ticked.and_then(check_count) {
        Ok(ticked) => ticked,
        Err(error) => return Ok(notices.redirect(&list_of(&fields), error)),
    };
    let macs = ticked.macs.iter().map(|mac| parse_mac(mac)).collect::<Result<Vec<_>>>()?;
    let input = AssignInput::of_fields(&fields);
    let sender = FormSender { who, principal, gone };
    let request = AssignRequest { sender, ticked, macs, input, fields };
    match (request.fields.optional("digest"), request.fields.text("step")) {
        (Some(digest), _) => services.commit(request, frame, notices, digest).await,
        (None, "review") => services.review(request, frame, None).await,
        _ => {
            let AssignRequest { ticked, macs, input, fields, .. } = request;
            services.form(frame, ticked, &macs, &input, &fields, None).await
        }
    }
}

fn check_count(ticked: TickedMachines) -> Result<TickedMachines> {
    if ticked.macs.len() > MACHINES_MAX {
        return Err(Error::invalid(format!(
            "{} are selected; assign at most {MACHINES_MAX} at a time, or import a table",
            count(ticked.macs.len(), "machine")
        )));
    }
    Ok(ticked)
}

impl AssignServices {
    async fn form(
        &self,
        frame: Frame,
        ticked: TickedMachines,
        macs: &[Mac],
        input: &AssignInput,
        fields: &Fields,
        problem: Option<Error>,
    ) -> Result<Response> {
        let snapshot = self.snapshots.current();
        let disks = MachineDisks::read(&self.reads, macs).await?;
        let known = macs.iter().filter_map(|mac| disks.machine(mac.as_str()));
        let machines: Vec<AssignedMachine> =
            known.map(|machine| assigned(machine, &disks, &snapshot, fields)).collect();
        let entries = self.images.entries().await?;
        let targets: Vec<ImageTarget<'_>> =
            machines.iter().filter_map(|machine| target(machine, &disks)).collect();
        let preset = preset_image(&machines, &disks, input);
        let mut images = choices(&entries, &targets, &input.find, &preset);
        let more_images = images.len().saturating_sub(IMAGES_SHOWN);
        images.truncate(IMAGES_SHOWN);
        let status =
            if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
        let page = AssignPage {
            title: title(&machines),
            back: ticked.back,
            hidden: ticked.hidden,
            images,
            more_images,
            all_images: entries.len(),
            find: input.find.clone(),
            plans: plans(&snapshot, &input.plan),
            is_other_plan: input.plan != PLAN,
            has_power: self.power.has_hook(),
            is_now: input.is_now,
            problem,
            machines,
            frame,
        };
        let mut response = render(&page)?;
        *response.status_mut() = status;
        Ok(response)
    }

    /// Shows what the choice does, for the operator to confirm.
    async fn review(
        &self,
        request: AssignRequest,
        frame: Frame,
        problem: Option<Error>,
    ) -> Result<Response> {
        let report = match self.import(&request, None).await {
            Ok(report) => report,
            Err(error) => {
                let AssignRequest { ticked, macs, input, fields, .. } = request;
                return self.form(frame, ticked, &macs, &input, &fields, Some(error)).await;
            }
        };
        let snapshot = self.snapshots.current();
        let change = ShownChange::read(&self.reads, &snapshot, report).await?;
        let steps = self.simulate(&request).await?;
        let mut hidden = request.ticked.hidden;
        hidden.extend(choice_fields(&request.fields));
        let when = if request.input.is_now { "restart now" } else { "at the next network boot" };
        let page = ChangePage {
            title: format!("Assign {}: {when}", count(request.macs.len(), "machine")),
            action: "/ui/machines/assign",
            back: request.ticked.back,
            hidden,
            field: None,
            button: change.button("Assign"),
            is_alarm: change.writes > 0,
            problem,
            change: Some(change),
            steps,
            frame,
        };
        page.respond()
    }

    /// Simulates the next network boots of the machine, if it is the only one.
    async fn simulate(&self, request: &AssignRequest) -> Result<Vec<Step>> {
        let [mac] = &request.macs[..] else { return Ok(Vec::new()) };
        let mut assignment = Assignment::of(&self.reads.get(mac).await?);
        request.input.plan.clone_into(&mut assignment.boot_mode);
        assignment.bty_image_ref = request.fields.optional("image");
        assignment.target_disk_serial = chosen_disk(&request.fields, mac);
        if let Some(plan) = self.snapshots.current().plan(&assignment.boot_mode) {
            assignment.params.retain(|name, _| plan.declared.parameters.contains_key(name));
        }
        let scenario = Scenario { assignment: Some(assignment), ..Scenario::default() };
        self.simulator.simulate_machine(mac.clone(), request.sender.request(), scenario).await
    }

    /// Assigns what was confirmed.
    async fn commit(
        &self,
        request: AssignRequest,
        frame: Frame,
        notices: Notices,
        digest: String,
    ) -> Result<Response> {
        let only = request.macs.first().filter(|_| request.macs.len() == 1).cloned();
        let before = self.find(only.as_ref()).await?;
        let report = match self.import(&request, Some(digest)).await {
            Ok(report) => report,
            // show what it would do now
            Err(error) if error.kind == ErrorKind::Conflict => {
                return self.review(request, frame, Some(error)).await;
            }
            Err(error) => return Ok(notices.redirect(&request.ticked.back, error)),
        };
        let text = self.start(&request, &report).await;
        let mut notice = Notice::from(text.map(Notice::success));
        let mut to = request.ticked.back;
        if let Some(mac) = only {
            to = format!("/ui/machines/{}", mac.hyphens());
            if let (false, Some(after)) = (request.input.is_now, self.find(Some(&mac)).await?) {
                let (before, after) = (before.map(Box::new), Some(Box::new(after)));
                notice = notice.with_undo(Undo::Machine { mac, before, lshw: None, after });
            }
        }
        Ok(notices.redirect(&to, notice))
    }

    async fn find(&self, mac: Option<&Mac>) -> Result<Option<Machine>> {
        match mac {
            Some(mac) => self.reads.find(mac).await,
            None => Ok(None),
        }
    }

    /// Lets the machines that were assigned boot from the network, if the operator has chosen so.
    /// Returns what was done, in words.
    async fn start(&self, request: &AssignRequest, report: &BulkReport) -> Result<String> {
        let assigned = count(report.machines.len(), "machine");
        if !request.input.is_now {
            return Ok(format!("Assigned: {assigned}. It takes effect at the next network boot."));
        }
        let macs = report.machines.iter().map(|item| parse_mac(&item.mac));
        let macs = macs.collect::<Result<Vec<_>>>()?;
        let queue = self.power.flash_many(request.sender.who.clone(), macs).await;
        let queue = queue.map_err(|error| Error {
            detail: format!("assigned: {assigned}; cannot restart: {}", error.detail),
            ..error
        })?;
        Ok(format!("Assigned: {assigned}. Booting from the network now: {}.", queue.accepted))
    }

    /// Imports the choice as a table of machines; without a digest, only returns what it would do.
    async fn import(&self, request: &AssignRequest, digest: Option<String>) -> Result<BulkReport> {
        let (rows, skipped) = self.table(request).await?;
        let dry_run = digest.is_none();
        let table = TableRequest { rows, replace: true, dry_run, digest };
        let mut report = self.bulk.import(request.sender.request(), table).await?;
        report.skipped.extend(skipped);
        check_report(report)
    }

    /// Returns the choice as a table, and the machines that are left out.
    async fn table(&self, request: &AssignRequest) -> Result<(Vec<TableRow>, Vec<SkippedMachine>)> {
        let AssignRequest { macs, input, fields, .. } = request;
        let snapshot = self.snapshots.current();
        let needs = snapshot.plan(&input.plan).map_or(&[][..], |plan| &plan.declared.needs);
        let entries = self.images.entries().await?;
        let image = entries.iter().find(|image| image.bty_image_ref == input.image);
        let arch = image.and_then(|image| image.arch.as_deref());
        let disks = MachineDisks::read(&self.reads, macs).await?;
        let (mut rows, mut skipped) = (Vec::new(), Vec::new());
        for machine in macs.iter().filter_map(|mac| disks.machine(mac.as_str())) {
            let disk = chosen_disk(fields, &machine.mac);
            let no_disk = || "no disk is chosen".to_owned();
            let missing = (disk.is_none() && needs.contains(&Need::Disk)).then(no_disk);
            match missing.or_else(|| mismatch(arch, &machine.hardware)) {
                Some(reason) => {
                    skipped.push(SkippedMachine { mac: machine.mac.to_string(), reason });
                }
                None => rows.push(TableRow {
                    mac: machine.mac.to_string(),
                    plan: Some(input.plan.clone()),
                    image: Some(input.image.clone()),
                    disk: Some(disk.unwrap_or_default()),
                    ..TableRow::default()
                }),
            }
        }
        let has_disk = macs.iter().any(|mac| chosen_disk(fields, mac).is_some());
        let lacks_image = input.image.is_empty() && needs.contains(&Need::Image);
        let lacks_disk = !has_disk && needs.contains(&Need::Disk);
        let missing = [
            lacks_image.then_some("an image"),
            lacks_disk.then_some("the disk that may be overwritten"),
        ];
        let missing: Vec<&str> = missing.into_iter().flatten().collect();
        match missing.is_empty() {
            true => Ok((rows, skipped)),
            false => Err(Error::invalid(format!("choose {}", missing.join(" and ")))),
        }
    }
}

/// Refuses a choice that changes no machine.
fn check_report(report: BulkReport) -> Result<BulkReport> {
    if !report.machines.is_empty() || !report.dry_run {
        return Ok(report);
    }
    let skipped = report.skipped.iter();
    let reasons = skipped.map(|skipped| format!("{}: {}", skipped.mac, skipped.reason));
    let at_work = report.at_work.iter().map(|mac| format!("{mac}: it is carrying out an order"));
    let unchanged = (report.unchanged > 0).then(|| {
        let machines = count(report.unchanged, "machine");
        format!("this is assigned to {machines} already: order it again instead")
    });
    let all: Vec<String> = reasons.chain(at_work).chain(unchanged).collect();
    Err(Error::invalid(format!("nothing can be assigned: {}", all.join("; "))))
}

/// Returns the fields of the choice, for the form that confirms it.
fn choice_fields(fields: &Fields) -> impl Iterator<Item = (String, String)> {
    let is_choice =
        |name: &str| matches!(name, "image" | "plan" | "when") || name.starts_with("disk.");
    let chosen = fields.iter().filter(move |(name, _)| is_choice(name));
    chosen.map(|(name, value)| (name.to_owned(), value.to_owned()))
}

fn chosen_disk(fields: &Fields, mac: &Mac) -> Option<String> {
    fields.optional(&format!("disk.{}", mac.hyphens()))
}

fn assigned(
    machine: &Machine,
    disks: &MachineDisks,
    snapshot: &Snapshot,
    fields: &Fields,
) -> AssignedMachine {
    let chosen = chosen_disk(fields, &machine.mac);
    let entered = chosen.clone().or_else(|| machine.target_serial.clone()).unwrap_or_default();
    AssignedMachine {
        mac: machine.mac.to_string(),
        hyphens: machine.mac.hyphens(),
        name: machine.name.clone(),
        disks: disks.choices(machine.mac.as_str(), &snapshot.names, chosen.as_deref()),
        entered,
        is_at_work: machine.open_cycle().is_some(),
    }
}

fn target<'a>(machine: &AssignedMachine, disks: &'a MachineDisks) -> Option<ImageTarget<'a>> {
    let usable = machine.disks.iter().filter(|disk| disk.why_not.is_none());
    let largest_disk = usable.filter_map(|disk| disk.size_bytes).max();
    disks.machine(&machine.mac).map(|machine| ImageTarget { machine, largest_disk })
}

/// Returns the reference of the chosen image; of the assigned one, if nothing is chosen for the
/// only machine.
fn preset_image(machines: &[AssignedMachine], disks: &MachineDisks, input: &AssignInput) -> String {
    let assigned = match machines {
        [only] => disks.machine(&only.mac).and_then(|machine| machine.image_ref.clone()),
        _ => None,
    };
    match (input.image.is_empty(), assigned) {
        (true, Some(image)) => image,
        _ => input.image.clone(),
    }
}

fn title(machines: &[AssignedMachine]) -> String {
    match machines {
        [only] if only.name.is_empty() => format!("Assign {}", only.mac),
        [only] => format!("Assign {}", only.name),
        _ => format!("Assign {}", count(machines.len(), "machine")),
    }
}

/// Returns names and titles of all plans, and whether each is chosen.
fn plans(snapshot: &Snapshot, chosen: &str) -> Vec<(String, String, bool)> {
    let mut own: Vec<&Plan> = snapshot.plans.values().map(Arc::as_ref).collect();
    own.sort_by(|a, b| a.name.cmp(&b.name));
    let choice = |plan: &Plan| (plan.name.clone(), plan.title().to_owned(), plan.name == chosen);
    bundled::all().iter().chain(own).map(choice).collect()
}
