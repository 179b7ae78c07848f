//! Changes that operators make to machines: save, patch, delete, and the checks before them.

use std::sync::Arc;

use bty_script::AssignedDisk;
use serde_json::Value;

use crate::config::Config;
use crate::domain::error::{Error, ErrorKind, Problem, Result};
use crate::domain::event::NewEvent;
use crate::domain::mac::Mac;
use crate::domain::machine::architecture::mismatch;
use crate::domain::machine::bulk::MachineChanges;
use crate::domain::machine::save::{Assignment, apply_assignment};
use crate::domain::machine::{ClientContext, Machine, Outcome};
use crate::domain::plan::params::Need;
use crate::domain::power::is_at_work;
use crate::services::machines::{MachineView, Machines};
use crate::services::metrics::Metrics;
use crate::services::netboot::NetbootVersion;
use crate::store::{self, Database};

/// Operators' changes to machines.
#[derive(Clone)]
pub struct MachineEdits {
    machines: Arc<Machines>,
    db: Database,
    metrics: Arc<Metrics>,
    config: Arc<Config>,
}

impl MachineEdits {
    pub(crate) fn new(
        machines: Arc<Machines>,
        db: Database,
        metrics: Arc<Metrics>,
        config: Arc<Config>,
    ) -> Self {
        Self { machines, db, metrics, config }
    }

    /// Assigns plan, image, disk and parameters to a machine. Omitted fields get their defaults.
    /// Adds an unknown machine. Saving gives a new order even if nothing has changed, but not if
    /// only the name, labels, drive, kernel arguments or the version of the live environment have changed.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) with all problems when the
    /// assignment cannot work.
    pub async fn save(
        &self,
        who: ClientContext,
        mac: &Mac,
        assignment: Assignment,
    ) -> Result<Machine> {
        self.check_netboot_version(&assignment.netboot_version)?;
        let new_mac = mac.clone();
        let decide = move |view: &MachineView<'_>| {
            let new = Machine::new(new_mac, &assignment.boot_mode, who.now);
            check_view(view, &assignment)?;
            let context = view.context(&assignment.boot_mode);
            Ok(apply_assignment(view.machine.as_ref(), new, &context, &who, &assignment))
        };
        let ((), machine) = self.machines.update(mac, decide, |_, _| Ok(())).await?;
        Ok(machine)
    }

    /// Changes a known machine. A request without changes gives no new order.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`](crate::domain::error::ErrorKind::NotFound) when the machine is
    ///   unknown.
    /// - [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) with all problems when
    ///   the changed assignment cannot work.
    pub async fn patch(
        &self,
        who: ClientContext,
        mac: &Mac,
        changes: MachineChanges,
    ) -> Result<Machine> {
        self.check_netboot_version(changes.netboot_version.as_deref().unwrap_or_default())?;
        let wanted_mac = mac.clone();
        let decide = move |view: &MachineView<'_>| {
            let machine = view
                .machine
                .clone()
                .ok_or_else(|| Error::not_found(format!("the machine {wanted_mac}")))?;
            let before = Assignment::of(&machine);
            // labels in another order are no change, and must not become a new order
            let assignment = changes.apply(before.clone());
            if assignment == before {
                return Ok(Outcome { machine, events: Vec::new(), answer: () });
            }
            check_view(view, &assignment)?;
            let context = view.context(&assignment.boot_mode);
            Ok(apply_assignment(Some(&machine), machine.clone(), &context, &who, &assignment))
        };
        let ((), machine) = self.machines.update(mac, decide, |_, _| Ok(())).await?;
        Ok(machine)
    }

    /// Gives a known machine its order again, as it is assigned. Refuses to do so while the machine
    /// is carrying out an order, unless `is_forced`.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`](crate::domain::error::ErrorKind::NotFound) when the machine is
    ///   unknown.
    /// - [`ErrorKind::Conflict`](crate::domain::error::ErrorKind::Conflict) when it is carrying out
    ///   an order.
    /// - [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) with all problems when
    ///   the assignment can no longer work.
    pub async fn order_again(
        &self,
        who: &ClientContext,
        mac: &Mac,
        is_forced: bool,
    ) -> Result<Machine> {
        let (wanted_mac, who) = (mac.clone(), who.clone());
        let decide = move |view: &MachineView<'_>| {
            let known = view.machine.as_ref();
            let machine =
                known.ok_or_else(|| Error::not_found(format!("the machine {wanted_mac}")))?;
            if !is_forced && is_at_work(machine) {
                let detail = format!("{wanted_mac} is carrying out an order; wait for its report");
                return Err(Error::new(ErrorKind::Conflict, detail));
            }
            let assignment = Assignment::of(machine);
            check_view(view, &assignment)?;
            let context = view.context(&assignment.boot_mode);
            Ok(apply_assignment(Some(machine), machine.clone(), &context, &who, &assignment))
        };
        let ((), machine) = self.machines.update(mac, decide, |_, _| Ok(())).await?;
        Ok(machine)
    }

    /// Deletes a machine. If it boots from the network again, the server treats it as a new
    /// machine.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::domain::error::ErrorKind::NotFound) when the machine is
    /// unknown.
    pub async fn delete(&self, who: &ClientContext, mac: Mac) -> Result<()> {
        // a contact of the machine that is under way would write it back
        let _held = self.machines.lock_all().await;
        let author = who.author();
        let deleted = self
            .db
            .write(move |transaction| {
                let found = store::machines::get(transaction, &mac)?;
                let machine =
                    found.ok_or_else(|| Error::not_found(format!("the machine {mac}")))?;
                store::machines::delete(transaction, &mac)?;
                let event =
                    NewEvent::new("machine.deleted", mac.as_str(), format!("{mac}: deleted"));
                transaction.record(&event.caused_by(&author))?;
                Ok(machine)
            })
            .await?;
        self.metrics.event("machine.deleted");
        self.machines.refresh_cards(&deleted).await
    }

    /// Checks an assignment for a machine without saving it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) with all problems.
    pub async fn check(&self, mac: &Mac, assignment: &Assignment) -> Result<()> {
        let assignment = assignment.clone();
        self.machines.read(mac, move |view| check_view(view, &assignment)).await?
    }

    /// Refuses a version of the live environment with missing files, because otherwise the machine
    /// would fail only when it boots.
    pub(super) fn check_netboot_version(&self, version: &str) -> Result<()> {
        if version.is_empty() || NetbootVersion::of(&self.config, version).is_complete() {
            return Ok(());
        }
        let detail = format!(
            "netboot_version: files of version {version:?} are missing; fetch that \
             release first, or \
             choose another version"
        );
        Err(Error::invalid(detail))
    }
}

fn check_view(view: &MachineView<'_>, assignment: &Assignment) -> Result<()> {
    let catalog =
        bty::catalog::Catalog::parse(view.snapshot.catalog.as_bytes()).unwrap_or_default();
    check_assignment(view, &catalog, assignment)
}

/// Checks an assignment for the machine of `view`. `catalog` is that of its snapshot.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) with all problems.
pub(super) fn check_assignment(
    view: &MachineView<'_>,
    catalog: &bty::catalog::Catalog,
    assignment: &Assignment,
) -> Result<()> {
    let mut problems: Vec<Problem> =
        assignment.problems().into_iter().map(|(field, why)| Problem::new(field, why)).collect();
    problems.extend(plan_problems(view, assignment));
    let image = assignment
        .bty_image_ref
        .as_ref()
        .map(|image| image.parse().ok().and_then(|reference| catalog.by_ref(&reference).cloned()));
    if let Some(None) = image {
        problems.push(with_hint(
            "bty_image_ref",
            "the catalog has no image with this reference",
            "choose an image in the catalog, or add it",
        ));
    }
    let image = image.flatten();
    problems.extend(missing_needs(view, assignment));
    problems.extend(disk_problems(view, assignment, image.as_ref()));
    if needs(view, assignment).contains(&Need::Architecture)
        && let Some(machine) = &view.machine
    {
        let why = architecture_mismatch(machine, image.as_ref());
        problems.extend(why.map(|why| with_hint("bty_image_ref", why, "choose another image")));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::invalid("invalid assignment").with_problems(problems))
}

fn with_hint(field: &str, message: impl Into<String>, hint: &str) -> Problem {
    Problem { hint: Some(hint.into()), ..Problem::new(field, message) }
}

const PLAN_CHARS_SHOWN: usize = 64;

fn plan_problems(view: &MachineView<'_>, assignment: &Assignment) -> Vec<Problem> {
    match view.snapshot.plan(&assignment.boot_mode) {
        None => {
            let shown: String = assignment.boot_mode.chars().take(PLAN_CHARS_SHOWN).collect();
            let message = format!("the plan {shown:?} does not exist");
            vec![with_hint("boot_mode", message, "choose an existing plan")]
        }
        Some(plan) => {
            let problems = plan.declared.problems(&assignment.params);
            problems.into_iter().map(|why| Problem::new("params", why)).collect()
        }
    }
}

fn needs<'a>(view: &'a MachineView<'_>, assignment: &Assignment) -> &'a [Need] {
    view.snapshot.plan(&assignment.boot_mode).map_or(&[][..], |plan| &plan.declared.needs)
}

/// Returns what the plan needs and the assignment lacks: an image, a disk.
fn missing_needs(view: &MachineView<'_>, assignment: &Assignment) -> Vec<Problem> {
    let needs = needs(view, assignment);
    let mut problems = Vec::new();
    if needs.contains(&Need::Image) && assignment.bty_image_ref.is_none() {
        problems.push(with_hint(
            "bty_image_ref",
            "the plan needs an image, and none is assigned",
            "choose an image in the catalog",
        ));
    }
    if needs.contains(&Need::Disk) && assignment.target_disk_serial.is_none() {
        problems.push(with_hint(
            "target_disk_serial",
            "the plan needs a disk, and none is assigned",
            "choose a disk by its serial number; the machine's inventory lists them",
        ));
    }
    problems
}

/// Returns why the assigned disk cannot hold the image, according to the last inventory.
fn disk_problems(
    view: &MachineView<'_>,
    assignment: &Assignment,
    image: Option<&bty::catalog::Entry>,
) -> Vec<Problem> {
    let disks =
        view.machine.as_ref().and_then(|machine| machine.disks.as_ref()).and_then(Value::as_array);
    let (Some(disks), Some(target)) = (disks, &assignment.target_disk_serial) else {
        return Vec::new();
    };
    // an invalid selector is a problem of its own
    let Ok(assigned) = AssignedDisk::parse(target) else { return Vec::new() };
    let found: Vec<&Value> = disks.iter().filter(|disk| assigned.matches(disk)).collect();
    let disk = match found[..] {
        [] => return Vec::new(),
        [disk] => disk,
        _ => {
            let message = format!("{} disks of the machine match {assigned}", found.len());
            return vec![with_hint("target_disk_serial", message, OTHER_SELECTORS)];
        }
    };
    let mut problems = Vec::new();
    if disk["readonly"] == true {
        problems.push(Problem::new("target_disk_serial", format!("{assigned} is read-only")));
    }
    if let (Some(size), Some(needed)) =
        (disk["size_bytes"].as_u64(), image.and_then(|image| image.size_bytes))
        && needed > size
    {
        let (needed, size) = (bty::size::human(needed), bty::size::human(size));
        problems.push(Problem::new(
            "target_disk_serial",
            format!("the image needs {needed}, but the disk has only {size}"),
        ));
    }
    problems
}

const OTHER_SELECTORS: &str =
    "name the disk by wwn:NAME, by-path:PLACE or where:model=MODEL,size=SIZE instead";

/// Returns why the image does not start on the machine, according to the last inventory.
fn architecture_mismatch(machine: &Machine, image: Option<&bty::catalog::Entry>) -> Option<String> {
    mismatch(image.and_then(|image| image.arch.as_deref()), &machine.hardware)
}
