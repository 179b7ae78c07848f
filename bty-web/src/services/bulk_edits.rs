//! Changes to many machines at once, by an action or by a table.
//!
//! A change is decided first, without a lock: for each machine, what it becomes and what its next
//! boot does. The digest of that list is what an operator confirms. Then, with all machines locked,
//! the decisions about machines that have changed meanwhile are made again, and everything is
//! written in one transaction if the digest is still the confirmed one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::blocking::blocking;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::mac::Mac;
use crate::domain::machine::bulk::BulkAction;
use crate::domain::machine::table::{TableFormat, TableRow};
use crate::domain::machine::{ClientContext, Machine};
use crate::domain::plan::evaluate::PlanEvaluator;
use crate::services::machine_edits::MachineEdits;
use crate::services::machine_reads::MachineReads;
use crate::services::machines::Machines;
use crate::services::metrics::Metrics;
use crate::services::plan_simulation::SimulationRequest;
use crate::services::simulations::Simulations;
use crate::services::snapshot::Snapshots;
use crate::store::Database;

mod decider;
mod decision;
mod job;
mod report;

use decider::Decider;
use decision::{BulkDecisions, BulkWrite, Decided};
use job::{BulkChange, BulkJob, BulkSelection, table_job};

pub use report::{BulkItem, BulkReport, SkippedMachine};

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
        let decider = Decider { db: &self.db, job, snapshot: &snapshot, evaluator };
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
        let decider = Decider { db: &self.db, job, snapshot: &snapshot, evaluator: &*evaluator };
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

#[cfg(test)]
mod tests;
