//! Decides what a change to many machines makes of each of them.

use bty::catalog::Catalog;

use super::decision::{BulkWrite, Decided, MachineEffect};
use super::job::{BulkChange, BulkJob};
use super::report::BulkItem;
use crate::domain::error::{Error, Result};
use crate::domain::event::NewEvent;
use crate::domain::mac::Mac;
use crate::domain::machine::bulk::{BulkAction, MachineChanges};
use crate::domain::machine::save::{Assignment, apply_assignment};
use crate::domain::machine::table::TableRow;
use crate::domain::machine::{Machine, Outcome};
use crate::domain::plan::evaluate::PlanEvaluator;
use crate::domain::plan::simulate::next_boot;
use crate::services::machine_edits::check_assignment;
use crate::services::machines::MachineView;
use crate::services::snapshot::Snapshot;
use crate::store::{self, Database};

/// Decides about single machines.
#[derive(Clone, Copy)]
pub(super) struct Decider<'a> {
    pub(super) db: &'a Database,
    pub(super) job: &'a BulkJob,
    pub(super) snapshot: &'a Snapshot,
    pub(super) evaluator: &'a PlanEvaluator<'a>,
}

impl Decider<'_> {
    pub(super) fn catalog(&self) -> Catalog {
        Catalog::parse(self.snapshot.catalog.as_bytes()).unwrap_or_default()
    }

    pub(super) fn decide(
        &self,
        catalog: &Catalog,
        mac: &Mac,
        machine: Option<&Machine>,
    ) -> Result<Decided> {
        if machine.is_some_and(|machine| machine.open_cycle().is_some()) {
            return Ok(Decided::AtWork);
        }
        let view = MachineView {
            machine: machine.cloned(),
            snapshot: self.snapshot,
            evaluator: self.evaluator,
            db: self.db,
        };
        match (&self.job.change, machine) {
            (BulkChange::Action(_), None) => Ok(Decided::Skipped("it is unknown".into())),
            (BulkChange::Action(action), Some(machine)) => {
                self.act(&view, catalog, action, machine)
            }
            (BulkChange::Table { rows, replace }, _) => match rows.get(mac) {
                Some(row) => Ok(self.import(&view, catalog, mac, row, *replace)),
                None => Ok(Decided::Unchanged),
            },
        }
    }

    fn act(
        &self,
        view: &MachineView<'_>,
        catalog: &Catalog,
        action: &BulkAction,
        machine: &Machine,
    ) -> Result<Decided> {
        let who = &self.job.who;
        if let Some(assignment) = action.assignment(Assignment::of(machine)) {
            if let Err(error) = check_assignment(view, catalog, &assignment) {
                return Ok(Decided::Skipped(one_line(&error)));
            }
            let context = view.context(&assignment.boot_mode);
            let saved = action.save(machine, &context, who, &assignment);
            return Ok(saved.map_or(Decided::Unchanged, |outcome| self.saved(view, outcome)));
        }
        match action {
            BulkAction::Acknowledge => self.acknowledge(view, machine),
            BulkAction::Delete => Ok(self.delete(machine)),
            _ => {
                let held = action.hold(machine, who);
                Ok(held.map_or(Decided::Unchanged, |outcome| self.saved(view, outcome)))
            }
        }
    }

    fn import(
        &self,
        view: &MachineView<'_>,
        catalog: &Catalog,
        mac: &Mac,
        row: &TableRow,
        replace: bool,
    ) -> Decided {
        let before = view.machine.as_ref().map(Assignment::of);
        let mut assignment = match changes(row, catalog) {
            Ok(changes) => changes.apply(before.clone().unwrap_or_default()),
            Err(why) => return Decided::Skipped(why),
        };
        // a table has no parameters, and another plan would refuse those of the former one
        if let Some(plan) = self.snapshot.plan(&assignment.boot_mode)
            && before.as_ref().is_some_and(|before| before.boot_mode != assignment.boot_mode)
        {
            assignment.params.retain(|name, _| plan.declared.parameters.contains_key(name));
        }
        if before.as_ref() == Some(&assignment) {
            return Decided::Unchanged;
        }
        if before.is_some() && !replace {
            return Decided::Skipped(
                "it is here already, with another assignment; import with replace to change it"
                    .into(),
            );
        }
        if let Err(error) = check_assignment(view, catalog, &assignment) {
            return Decided::Skipped(one_line(&error));
        }
        let who = &self.job.who;
        let new = Machine::new(mac.clone(), &assignment.boot_mode, who.now);
        let context = view.context(&assignment.boot_mode);
        let known = view.machine.as_ref();
        self.saved(view, apply_assignment(known, new, &context, who, &assignment))
    }

    fn saved(&self, view: &MachineView<'_>, outcome: Outcome<()>) -> Decided {
        let Outcome { machine, events, .. } = outcome;
        let item = self.item(view, &machine);
        let assignment = Some(Assignment::of(&machine));
        let write = BulkWrite::Save(Box::new(machine), events);
        Decided::Changed(Box::new(MachineEffect { item, assignment, write }))
    }

    fn acknowledge(&self, view: &MachineView<'_>, machine: &Machine) -> Result<Decided> {
        let mac = machine.mac.as_str();
        let ids = self.db.read_blocking(|conn| store::events::failures_of(conn, mac))?;
        if ids.is_empty() {
            return Ok(Decided::Unchanged);
        }
        let item = self.item(view, machine);
        let (assignment, write) = (Some(Assignment::of(machine)), BulkWrite::Acknowledge(ids));
        Ok(Decided::Changed(Box::new(MachineEffect { item, assignment, write })))
    }

    fn delete(&self, machine: &Machine) -> Decided {
        let mac = machine.mac.as_str();
        let event = NewEvent::new("machine.deleted", mac, format!("{mac}: deleted"));
        let item = BulkItem {
            next_boot: format!(
                "be a new machine with the plan {}",
                self.snapshot.settings.get("plans.default")
            ),
            ..self.known(machine)
        };
        let write = BulkWrite::Delete(event.caused_by(&self.job.who.author()));
        Decided::Changed(Box::new(MachineEffect { item, assignment: None, write }))
    }

    /// Returns what the list says about `machine` as it will be.
    fn item(&self, view: &MachineView<'_>, machine: &Machine) -> BulkItem {
        let step = next_boot(machine, &view.context(&machine.plan), &self.job.who);
        let known = self.known(machine);
        BulkItem {
            is_new: view.machine.is_none(),
            image: step.image.clone().or(known.image),
            disk: step.disk.clone().or(known.disk),
            sha256: step.sha256.clone(),
            next_boot: step.words(),
            writes: step.writes(),
            ..known
        }
    }

    fn known(&self, machine: &Machine) -> BulkItem {
        let name = |image: &String| self.snapshot.names.get(image).unwrap_or(image).clone();
        BulkItem {
            mac: machine.mac.to_string(),
            name: machine.name.clone(),
            is_new: false,
            plan: machine.plan.clone(),
            image: machine.image_ref.as_ref().map(name),
            sha256: None,
            disk: machine.target_serial.clone(),
            next_boot: String::new(),
            writes: false,
        }
    }
}

/// Returns the changes of a row. An empty plan keeps the plan.
fn changes(row: &TableRow, catalog: &Catalog) -> Result<MachineChanges, String> {
    let some = |text: &String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let image = match row.image.as_ref().map(some) {
        Some(Some(image)) => {
            let entry = catalog.find(&image).map_err(|e| Error::from(e).detail)?;
            Some(Some(entry.image_ref().to_string()))
        }
        Some(None) => Some(None),
        None => None,
    };
    Ok(MachineChanges {
        name: row.name.clone(),
        boot_mode: row.plan.as_ref().and_then(some),
        bty_image_ref: image,
        target_disk_serial: row.disk.as_ref().map(some),
        labels: row.labels.clone(),
        ..MachineChanges::default()
    })
}

fn one_line(error: &Error) -> String {
    let problems: Vec<String> =
        error.problems.iter().map(|p| format!("{}: {}", p.at, p.message)).collect();
    if problems.is_empty() { error.detail.clone() } else { problems.join("; ") }
}
