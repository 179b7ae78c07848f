//! What is decided about machines: the list that an operator confirms, and what is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::job::{BulkChange, BulkJob};
use super::report::{BulkItem, BulkReport, SkippedMachine};
use crate::domain::error::Result;
use crate::domain::event::NewEvent;
use crate::domain::mac::Mac;
use crate::domain::machine::Machine;
use crate::domain::machine::save::Assignment;
use crate::services::snapshot::Snapshot;
use crate::store;

/// What is decided about a machine.
#[derive(Clone, Debug)]
pub(super) enum Decided {
    Unchanged,
    AtWork,
    Skipped(String),
    Changed(Box<MachineEffect>),
}

/// What becomes of a machine.
#[derive(Clone, Debug)]
pub(super) struct MachineEffect {
    pub(super) item: BulkItem,
    /// Its assignment afterwards; `None` if it is deleted.
    pub(super) assignment: Option<Assignment>,
    pub(super) write: BulkWrite,
}

/// What is written for a machine.
#[derive(Clone, Debug)]
pub(super) enum BulkWrite {
    Save(Box<Machine>, Vec<NewEvent>),
    Acknowledge(Vec<i64>),
    Delete(NewEvent),
}

/// The decisions about all selected machines, with the state that they depend on.
pub(super) struct BulkDecisions {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) machines: BTreeMap<Mac, (Option<Machine>, Decided)>,
}

impl Decided {
    pub(super) fn is_about_events(&self) -> bool {
        matches!(self, Self::Changed(effect) if matches!(effect.write, BulkWrite::Acknowledge(_)))
    }
}

impl BulkDecisions {
    pub(super) fn report(&self, job: &BulkJob) -> BulkReport {
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

    pub(super) fn into_writes(self) -> Vec<(Mac, BulkWrite)> {
        let write = |(mac, (_, decided))| match decided {
            Decided::Changed(effect) => Some((mac, effect.write)),
            _ => None,
        };
        self.machines.into_iter().filter_map(write).collect()
    }
}

impl BulkWrite {
    pub(super) fn events(&self) -> &[NewEvent] {
        match self {
            Self::Save(_, events) => events,
            Self::Delete(event) => std::slice::from_ref(event),
            Self::Acknowledge(_) => &[],
        }
    }

    pub(super) fn failures(&self) -> &[i64] {
        match self {
            Self::Acknowledge(ids) => ids,
            _ => &[],
        }
    }

    pub(super) fn apply(&self, transaction: &store::Transaction<'_>, mac: &Mac) -> Result<()> {
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
