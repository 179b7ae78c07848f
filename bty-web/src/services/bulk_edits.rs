//! Changes to many machines at once, by an action or by a table.
//!
//! A change is decided first, without a lock: for each machine, what it becomes and what its next
//! boot does. The digest of that list is what an operator confirms. Then, with all machines locked,
//! the decisions about machines that have changed meanwhile are made again, and everything is
//! written in one transaction if the digest is still the confirmed one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bty::catalog::Catalog;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::blocking::blocking;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::NewEvent;
use crate::domain::mac::Mac;
use crate::domain::machine::bulk::{BulkAction, MachineChanges};
use crate::domain::machine::save::{Assignment, apply_assignment};
use crate::domain::machine::search::MachineSearch;
use crate::domain::machine::table::{TableFormat, TableRow};
use crate::domain::machine::{ClientContext, Machine, Outcome};
use crate::domain::plan::evaluate::PlanEvaluator;
use crate::domain::plan::simulate::next_boot;
use crate::services::machine_edits::{MachineEdits, check_assignment};
use crate::services::machine_reads::MachineReads;
use crate::services::machines::{MachineView, Machines};
use crate::services::metrics::Metrics;
use crate::services::plan_simulation::SimulationRequest;
use crate::services::simulations::Simulations;
use crate::services::snapshot::{Snapshot, Snapshots};
use crate::store::{self, Connection, Database};

/// Maximum number of machines in one change, which are all in memory at once.
const MACHINES_MAX: usize = 5000;

/// Number of threads that decide about machines.
const THREADS: usize = 4;

/// A change to many machines.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkRequest {
    /// A search that selects the machines; empty for all machines.
    #[serde(default)]
    pub filter: Option<String>,
    /// The MAC addresses of the machines, instead of a search.
    #[serde(default)]
    pub macs: Option<Vec<String>>,
    /// What to do with them.
    pub action: BulkAction,
    /// True to change nothing, and to return the list and the digest that confirms it.
    #[serde(default)]
    pub dry_run: bool,
    /// The digest of a dry run. The change is refused if it would no longer do the same.
    #[serde(default)]
    pub digest: Option<String>,
}

/// A table of machines to import.
pub struct TableRequest {
    /// The rows.
    pub rows: Vec<TableRow>,
    /// True to change machines that are here already.
    pub replace: bool,
    /// True to change nothing, and to return the list and its digest.
    pub dry_run: bool,
    /// The digest of a dry run, if the import is to be refused unless it does the same.
    pub digest: Option<String>,
}

/// A change to many machines: what it does, or what it has done.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct BulkReport {
    /// Identifies the list of machines and what happens to each. Send it to confirm the list.
    pub digest: String,
    /// True if nothing was changed.
    pub dry_run: bool,
    /// The machines that change, sorted by MAC address.
    pub machines: Vec<BulkItem>,
    /// Number of selected machines for which nothing changes.
    pub unchanged: usize,
    /// Selected machines that are left out because their boot cycles are open.
    pub at_work: Vec<String>,
    /// Selected machines that are left out for another reason.
    pub skipped: Vec<SkippedMachine>,
}

/// A machine that changes.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct BulkItem {
    /// MAC address.
    pub mac: String,
    /// Its name; empty for none.
    pub name: String,
    /// True if it is added.
    pub is_new: bool,
    /// Name of its plan.
    pub plan: String,
    /// Name of its image, or of the one that its next boot writes.
    pub image: Option<String>,
    /// SHA-256 of the image that its next boot writes, if known.
    pub sha256: Option<String>,
    /// Serial number of its disk, or of the one that its next boot writes.
    pub disk: Option<String>,
    /// What its next boot does, in words.
    pub next_boot: String,
    /// True if its next boot writes to a disk, or runs a script that may.
    pub writes: bool,
}

/// A machine that is left out.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct SkippedMachine {
    /// MAC address, as it was given.
    pub mac: String,
    /// Why.
    pub reason: String,
}

impl SkippedMachine {
    fn new(mac: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { mac: mac.into(), reason: reason.into() }
    }
}

/// Changes many machines.
#[derive(Clone)]
pub struct BulkEdits {
    db: Database,
    machines: Arc<Machines>,
    reads: MachineReads,
    edits: MachineEdits,
    snapshots: Arc<Snapshots>,
    simulations: Arc<Simulations>,
    metrics: Arc<Metrics>,
}

/// Which machines are selected.
#[derive(Clone, Debug)]
enum BulkSelection {
    Search(MachineSearch),
    Macs(Vec<Mac>),
}

/// What happens to the selected machines.
#[derive(Clone, Debug)]
enum BulkChange {
    Action(BulkAction),
    Table { rows: HashMap<Mac, TableRow>, replace: bool },
}

/// A change that is not yet decided.
#[derive(Clone, Debug)]
struct BulkJob {
    selection: BulkSelection,
    change: BulkChange,
    /// What was left out while the request was read.
    skipped: Vec<SkippedMachine>,
    who: ClientContext,
}

/// What is decided about a machine.
#[derive(Clone, Debug)]
enum Decided {
    Unchanged,
    AtWork,
    Skipped(String),
    Changed(Box<MachineEffect>),
}

/// What becomes of a machine.
#[derive(Clone, Debug)]
struct MachineEffect {
    item: BulkItem,
    /// Its assignment afterwards; `None` if it is deleted.
    assignment: Option<Assignment>,
    write: BulkWrite,
}

/// What is written for a machine.
#[derive(Clone, Debug)]
enum BulkWrite {
    Save(Box<Machine>, Vec<NewEvent>),
    Acknowledge(Vec<i64>),
    Delete(NewEvent),
}

/// The decisions about all selected machines, with the state that they depend on.
struct BulkDecisions {
    snapshot: Arc<Snapshot>,
    machines: BTreeMap<Mac, (Option<Machine>, Decided)>,
}

impl BulkEdits {
    pub(crate) fn new(
        db: Database,
        machines: Arc<Machines>,
        reads: MachineReads,
        edits: MachineEdits,
        snapshots: Arc<Snapshots>,
        simulations: Arc<Simulations>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { db, machines, reads, edits, snapshots, simulations, metrics }
    }

    /// Changes the selected machines in one transaction, or returns what that would do.
    ///
    /// # Errors
    /// - [`ErrorKind::Invalid`] when the request is incomplete, or selects too many machines.
    /// - [`ErrorKind::Conflict`] when the change would do something else than what the digest
    ///   confirms. Then nothing is changed.
    /// - [`ErrorKind::Throttled`] when too many simulations are running.
    pub async fn change(&self, caller: SimulationRequest, bulk: BulkRequest) -> Result<BulkReport> {
        let BulkRequest { dry_run, digest, .. } = &bulk;
        let (dry_run, digest) = (*dry_run, digest.clone());
        if !dry_run && digest.is_none() {
            return Err(Error::invalid(
                "digest: a change of many machines must be confirmed; send it with dry_run first, \
                 and repeat it with the digest of the answer",
            ));
        }
        let job = self.job(bulk, caller.who.clone())?;
        self.run(caller, job, dry_run, digest).await
    }

    /// Adds and changes the machines of a table in one transaction, or returns what that would do.
    ///
    /// # Errors
    /// The errors of [`change`](Self::change).
    pub async fn import(
        &self,
        caller: SimulationRequest,
        table: TableRequest,
    ) -> Result<BulkReport> {
        let TableRequest { rows, replace, dry_run, digest } = table;
        let job = table_job(rows, replace, caller.who.clone());
        self.run(caller, job, dry_run, digest).await
    }

    /// Returns the machines that a search finds as a table.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the search text is too long.
    pub async fn export(&self, search: &str, format: TableFormat) -> Result<String> {
        let (search, snapshot) = (self.reads.search(search)?, self.snapshots.current());
        let mut rows = Vec::new();
        let list = self.reads.summaries(search).await?;
        for brief in list.found {
            let image =
                brief.image_ref.map(|image| snapshot.names.get(&image).cloned().unwrap_or(image));
            rows.push(TableRow {
                name: Some(brief.name),
                mac: brief.mac,
                plan: Some(brief.plan),
                image: Some(image.unwrap_or_default()),
                disk: Some(brief.serial.unwrap_or_default()),
                labels: Some(brief.labels),
            });
        }
        format.write(rows)
    }

    fn job(&self, bulk: BulkRequest, who: ClientContext) -> Result<BulkJob> {
        if let Some(why) = bulk.action.problem() {
            return Err(Error::invalid(format!("action: {why}")));
        }
        if let BulkAction::Assign(changes) = &bulk.action
            && let Some(version) = &changes.netboot_version
        {
            self.edits.check_netboot_version(version)?;
        }
        let mut skipped = Vec::new();
        let selection = match (bulk.filter, bulk.macs) {
            (Some(filter), None) => BulkSelection::Search(self.reads.search(&filter)?),
            (None, Some(given)) => {
                let mut macs = Vec::with_capacity(given.len());
                for mac in given {
                    match mac.parse::<Mac>() {
                        Ok(mac) => macs.push(mac),
                        Err(e) => skipped.push(SkippedMachine::new(mac, e.to_string())),
                    }
                }
                BulkSelection::Macs(macs)
            }
            _ => {
                return Err(Error::invalid(
                    "select machines with either filter or macs; an empty filter selects all",
                ));
            }
        };
        Ok(BulkJob { selection, change: BulkChange::Action(bulk.action), skipped, who })
    }

    async fn run(
        &self,
        caller: SimulationRequest,
        job: BulkJob,
        dry_run: bool,
        digest: Option<String>,
    ) -> Result<BulkReport> {
        let (service, first) = (self.clone(), job.clone());
        let decide = move |decide: &PlanEvaluator<'_>| service.decide(&first, decide);
        let decisions = self.simulations.run(caller.principal.key(), caller.gone, decide).await?;
        if dry_run {
            let report = decisions.report(&job);
            return check_digest(digest.as_deref(), &report)
                .map(|()| BulkReport { dry_run, ..report });
        }
        self.commit(job, decisions, digest).await
    }

    /// Decides about all selected machines, in several threads.
    fn decide(&self, job: &BulkJob, evaluator: &PlanEvaluator<'_>) -> Result<BulkDecisions> {
        let rows = self.db.read_blocking(|conn| job.selection.read(conn))?;
        let snapshot = self.snapshots.current();
        let decider = Decider { service: self, job, snapshot: &snapshot, evaluator };
        let catalog = decider.catalog();
        let chunk = rows.len().div_ceil(THREADS).max(1);
        let decide_all = |rows: &[(Mac, Option<Machine>)]| -> Result<Vec<Decided>> {
            rows.iter().map(|(mac, row)| decider.decide(&catalog, mac, row.as_ref())).collect()
        };
        let decided: Vec<Decided> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                rows.chunks(chunk).map(|rows| scope.spawn(move || decide_all(rows))).collect();
            let joined = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| Err(Error::internal("a decision panicked")))
            });
            joined.collect::<Result<Vec<_>>>()
        })?
        .into_iter()
        .flatten()
        .collect();
        let machines =
            rows.into_iter().zip(decided).map(|((mac, row), decided)| (mac, (row, decided)));
        Ok(BulkDecisions { machines: machines.collect(), snapshot })
    }

    /// Decides again about machines that have changed since, and writes everything if that does
    /// what `digest` confirms.
    async fn commit(
        &self,
        job: BulkJob,
        decisions: BulkDecisions,
        digest: Option<String>,
    ) -> Result<BulkReport> {
        // nothing else can change a machine until all are written
        let held = self.machines.lock_all().await;
        let service = self.clone();
        let refreshed = blocking(move || {
            let decisions = service.refresh(&job, decisions)?;
            let report = decisions.report(&job);
            check_digest(digest.as_deref(), &report)?;
            Ok::<_, Error>((decisions, report))
        });
        let (decisions, report) = refreshed.await??;
        let writes = decisions.into_writes();
        for event in writes.iter().flat_map(|(_, write)| write.events()) {
            self.metrics.event(event.kind);
        }
        let macs: Vec<Mac> = writes.iter().map(|(mac, _)| mac.clone()).collect();
        let has_deleted = writes.iter().any(|(_, write)| matches!(write, BulkWrite::Delete(_)));
        self.db
            .write(move |t| writes.iter().try_for_each(|(mac, write)| write.apply(t, mac)))
            .await?;
        drop(held);
        if has_deleted {
            // further network cards belong to nobody now
            self.snapshots.refresh().await?;
        }
        macs.into_iter().for_each(|mac| self.machines.notify(mac));
        Ok(report)
    }

    /// Decides again about the machines that have changed since, or about all if the snapshot has
    /// changed.
    fn refresh(&self, job: &BulkJob, mut earlier: BulkDecisions) -> Result<BulkDecisions> {
        let rows = self.db.read_blocking(|conn| job.selection.read(conn))?;
        let (snapshot, evaluator) = (self.snapshots.current(), self.machines.evaluator());
        let decider = Decider { service: self, job, snapshot: &snapshot, evaluator: &*evaluator };
        let is_same_snapshot = Arc::ptr_eq(&snapshot, &earlier.snapshot);
        let catalog = decider.catalog();
        let mut machines = BTreeMap::new();
        for (mac, row) in rows {
            let known = earlier.machines.remove(&mac);
            let known = known.filter(|(before, _)| is_same_snapshot && *before == row);
            let decided = match known {
                // failures come and go without a change of their machine
                Some((_, decided)) if !decided.is_about_events() => decided,
                _ => decider.decide(&catalog, &mac, row.as_ref())?,
            };
            machines.insert(mac, (row, decided));
        }
        Ok(BulkDecisions { machines, snapshot })
    }
}

fn table_job(rows: Vec<TableRow>, replace: bool, who: ClientContext) -> BulkJob {
    let (mut skipped, mut macs, mut by_mac) = (Vec::new(), Vec::new(), HashMap::new());
    for row in rows {
        match row.mac.parse::<Mac>() {
            Err(e) => skipped.push(SkippedMachine::new(row.mac, e.to_string())),
            Ok(mac) if by_mac.contains_key(&mac) => {
                skipped.push(SkippedMachine::new(
                    mac.to_string(),
                    "the table names it twice; the first row counts",
                ));
            }
            Ok(mac) => {
                macs.push(mac.clone());
                by_mac.insert(mac, row);
            }
        }
    }
    let change = BulkChange::Table { rows: by_mac, replace };
    BulkJob { selection: BulkSelection::Macs(macs), change, skipped, who }
}

/// Refuses a change that would do something else than what `digest` confirms.
fn check_digest(digest: Option<&str>, report: &BulkReport) -> Result<()> {
    match digest {
        Some(digest) if digest != report.digest => Err(Error::new(
            ErrorKind::Conflict,
            "the machines, or what would happen to them, have changed since the dry run; nothing \
             was changed; repeat the dry run and confirm its list",
        )),
        _ => Ok(()),
    }
}

impl BulkSelection {
    /// Returns the selected machines, sorted by address; `None` for those that are unknown.
    fn read(&self, conn: &Connection) -> Result<Vec<(Mac, Option<Machine>)>> {
        let mut macs = match self {
            Self::Search(search) => store::search::macs(conn, search)?,
            Self::Macs(macs) => macs.clone(),
        };
        macs.sort();
        macs.dedup();
        if macs.len() > MACHINES_MAX {
            return Err(Error::invalid(format!(
                "{} machines are selected; change at most {MACHINES_MAX} at a time",
                macs.len()
            )));
        }
        let read = |mac: Mac| {
            let machine = store::machines::get(conn, &mac)?;
            Ok((mac, machine))
        };
        macs.into_iter().map(read).collect()
    }
}

impl Decided {
    fn is_about_events(&self) -> bool {
        matches!(self, Self::Changed(effect) if matches!(effect.write, BulkWrite::Acknowledge(_)))
    }
}

impl BulkDecisions {
    fn report(&self, job: &BulkJob) -> BulkReport {
        let mut report = BulkReport {
            digest: String::new(),
            dry_run: false,
            machines: Vec::new(),
            unchanged: 0,
            at_work: Vec::new(),
            skipped: job.skipped.clone(),
        };
        let mut effects = Vec::new();
        for (mac, (_, decided)) in &self.machines {
            match decided {
                Decided::Unchanged => report.unchanged += 1,
                Decided::AtWork => report.at_work.push(mac.to_string()),
                Decided::Skipped(why) => {
                    report.skipped.push(SkippedMachine::new(mac.to_string(), why));
                }
                Decided::Changed(effect) => {
                    let failures = effect.write.failures();
                    effects.push(json!([effect.item, effect.assignment, failures]));
                    report.machines.push(effect.item.clone());
                }
            }
        }
        let action = match &job.change {
            BulkChange::Action(action) => json!(action),
            BulkChange::Table { .. } => json!("import"),
        };
        report.digest =
            bty::Digest::of(json!([action, effects]).to_string().as_bytes()).to_string();
        report
    }

    fn into_writes(self) -> Vec<(Mac, BulkWrite)> {
        let write = |(mac, (_, decided))| match decided {
            Decided::Changed(effect) => Some((mac, effect.write)),
            _ => None,
        };
        self.machines.into_iter().filter_map(write).collect()
    }
}

impl BulkWrite {
    fn events(&self) -> &[NewEvent] {
        match self {
            Self::Save(_, events) => events,
            Self::Delete(event) => std::slice::from_ref(event),
            Self::Acknowledge(_) => &[],
        }
    }

    fn failures(&self) -> &[i64] {
        match self {
            Self::Acknowledge(ids) => ids,
            _ => &[],
        }
    }

    fn apply(&self, transaction: &store::Transaction<'_>, mac: &Mac) -> Result<()> {
        match self {
            Self::Save(machine, _) => store::machines::put(transaction, machine)?,
            Self::Acknowledge(ids) => {
                store::events::acknowledge_all(transaction, ids, true)?;
            }
            Self::Delete(_) => {
                store::machines::delete(transaction, mac)?;
            }
        }
        self.events().iter().try_for_each(|event| transaction.record(event).map(drop))
    }
}

/// Decides about single machines.
#[derive(Clone, Copy)]
struct Decider<'a> {
    service: &'a BulkEdits,
    job: &'a BulkJob,
    snapshot: &'a Snapshot,
    evaluator: &'a PlanEvaluator<'a>,
}

impl Decider<'_> {
    fn catalog(&self) -> Catalog {
        Catalog::parse(self.snapshot.catalog.as_bytes()).unwrap_or_default()
    }

    fn decide(&self, catalog: &Catalog, mac: &Mac, machine: Option<&Machine>) -> Result<Decided> {
        if machine.is_some_and(|machine| machine.open_cycle().is_some()) {
            return Ok(Decided::AtWork);
        }
        let view = MachineView {
            machine: machine.cloned(),
            snapshot: self.snapshot,
            evaluator: self.evaluator,
            db: &self.service.db,
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
        let assignment = match changes(row, catalog) {
            Ok(changes) => changes.apply(before.clone().unwrap_or_default()),
            Err(why) => return Decided::Skipped(why),
        };
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
        let ids = self.service.db.read_blocking(|conn| store::events::failures_of(conn, mac))?;
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

#[cfg(test)]
mod tests;
