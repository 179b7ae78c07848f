//! A change to many machines that is not yet decided: which machines, and what happens to them.

use std::collections::HashMap;

use super::report::SkippedMachine;
use crate::domain::error::{Error, Result};
use crate::domain::mac::Mac;
use crate::domain::machine::bulk::BulkAction;
use crate::domain::machine::search::MachineSearch;
use crate::domain::machine::table::TableRow;
use crate::domain::machine::{ClientContext, Machine};
use crate::store::{self, Connection};

/// Maximum number of machines in one change, which are all in memory at once.
const MACHINES_MAX: usize = 5000;

/// Which machines are selected.
#[derive(Clone, Debug)]
pub(super) enum BulkSelection {
    Search(MachineSearch),
    Macs(Vec<Mac>),
}

/// What happens to the selected machines.
#[derive(Clone, Debug)]
pub(super) enum BulkChange {
    Action(BulkAction),
    Table { rows: HashMap<Mac, TableRow>, replace: bool },
}

/// A change that is not yet decided.
#[derive(Clone, Debug)]
pub(super) struct BulkJob {
    pub(super) selection: BulkSelection,
    pub(super) change: BulkChange,
    /// What was left out while the request was read.
    pub(super) skipped: Vec<SkippedMachine>,
    pub(super) who: ClientContext,
}

impl BulkSelection {
    /// Returns the selected machines, sorted by address; `None` for those that are unknown.
    pub(super) fn read(&self, conn: &Connection) -> Result<Vec<(Mac, Option<Machine>)>> {
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

/// Returns the change that a table asks for.
pub(super) fn table_job(rows: Vec<TableRow>, replace: bool, who: ClientContext) -> BulkJob {
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
