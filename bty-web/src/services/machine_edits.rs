//! Changes that operators make to machines: save, patch, delete, and the checks before them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::Config;
use crate::domain::error::{Error, Problem, Result};
use crate::domain::event::NewEvent;
use crate::domain::mac::Mac;
use crate::domain::machine::save::{Assignment, apply_assignment};
use crate::domain::machine::{ClientContext, Machine, Outcome};
use crate::domain::plan::params::Need;
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
    /// only labels, drive, kernel arguments or the version of the live environment have changed.
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
            let mut assignment = before.clone();
            changes.apply(&mut assignment);
            // labels in another order are no change, and must not become a new order
            let assignment = assignment.normalized();
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
    fn check_netboot_version(&self, version: &str) -> Result<()> {
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

/// Changes to a machine. Omitted fields keep their values.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MachineChanges {
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    bty_image_ref: Option<Option<String>>,
    labels: Option<Vec<String>>,
    boot_mode: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    sanboot_drive: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    target_disk_serial: Option<Option<String>>,
    #[schema(value_type = Option<Object>)]
    params: Option<Map<String, Value>>,
    extra_args: Option<String>,
    netboot_version: Option<String>,
}

impl MachineChanges {
    fn apply(self, assignment: &mut Assignment) {
        if let Some(image) = self.bty_image_ref {
            assignment.bty_image_ref = image;
        }
        if let Some(drive) = self.sanboot_drive {
            assignment.sanboot_drive = drive;
        }
        if let Some(serial) = self.target_disk_serial {
            assignment.target_disk_serial = serial;
        }
        if let Some(labels) = self.labels {
            assignment.labels = labels;
        }
        if let Some(plan) = self.boot_mode {
            assignment.boot_mode = plan;
        }
        if let Some(params) = self.params {
            assignment.params = params;
        }
        if let Some(extra_args) = self.extra_args {
            assignment.extra_args = extra_args;
        }
        if let Some(version) = self.netboot_version {
            assignment.netboot_version = version;
        }
    }
}

/// Distinguishes `null`, which clears a field, from an omitted field.
fn nullable<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn check_view(view: &MachineView<'_>, assignment: &Assignment) -> Result<()> {
    let mut problems: Vec<Problem> =
        assignment.problems().into_iter().map(|(field, why)| Problem::new(field, why)).collect();
    problems.extend(plan_problems(view, assignment));
    let catalog =
        bty::catalog::Catalog::parse(view.snapshot.catalog.as_bytes()).unwrap_or_default();
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
    problems.extend(missing_needs(view, assignment));
    problems.extend(disk_problems(view, assignment, image.flatten().as_ref()));
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

/// Returns what the plan needs and the assignment lacks: an image, a disk.
fn missing_needs(view: &MachineView<'_>, assignment: &Assignment) -> Vec<Problem> {
    let needs =
        view.snapshot.plan(&assignment.boot_mode).map_or(&[][..], |plan| &plan.declared.needs);
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
    let (Some(disks), Some(serial)) = (disks, &assignment.target_disk_serial) else {
        return Vec::new();
    };
    let has_serial = |disk: &&Value| disk["serial"].as_str().map(str::trim) == Some(serial.trim());
    let Some(disk) = disks.iter().find(has_serial) else { return Vec::new() };
    let mut problems = Vec::new();
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
            format!("the image needs {needed}, but the disk has only {size}"),
        ));
    }
    problems
}
