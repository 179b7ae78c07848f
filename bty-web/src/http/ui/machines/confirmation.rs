//! The page on which an operator confirms a change of several machines.

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use super::disk_choice::MachineDisks;
use crate::domain::error::{Error, Result};
use crate::domain::mac::Mac;
use crate::domain::plan::simulate::Step;
use crate::http::ui::frame::Frame;
use crate::http::ui::render::{count, render};
use crate::services::bulk_edits::{BulkItem, BulkReport, SkippedMachine};
use crate::services::machine_reads::MachineReads;
use crate::services::snapshot::Snapshot;

/// Maximum number of machines that are shown.
const ITEMS_SHOWN: usize = 200;

/// The page with a change to confirm, or with a field for what is missing.
#[derive(Template)]
#[template(path = "machines_change.html")]
pub(super) struct ChangePage {
    pub(super) frame: Frame,
    pub(super) title: String,
    /// Path to which the form is sent.
    pub(super) action: &'static str,
    /// URL of the page that the operator came from.
    pub(super) back: String,
    pub(super) hidden: Vec<(String, String)>,
    /// The label of the field for what is missing, and what is in it.
    pub(super) field: Option<(&'static str, String)>,
    pub(super) button: String,
    pub(super) is_alarm: bool,
    pub(super) problem: Option<Error>,
    pub(super) change: Option<ShownChange>,
    /// The next network boots of the only machine.
    pub(super) steps: Vec<Step>,
}

/// A change that is shown before it is made.
pub(super) struct ShownChange {
    pub(super) digest: String,
    pub(super) items: Vec<ChangeItem>,
    /// Number of further machines that change.
    pub(super) more: usize,
    /// Number of machines whose next boot writes.
    pub(super) writes: usize,
    pub(super) unchanged: usize,
    pub(super) at_work: Vec<String>,
    pub(super) skipped: Vec<SkippedMachine>,
}

/// A machine that changes.
pub(super) struct ChangeItem {
    pub(super) hyphens: String,
    /// What its disk is, and what is on it; empty if its next boot does not write.
    pub(super) disk: String,
    pub(super) item: BulkItem,
}

impl ShownChange {
    pub(super) async fn read(
        reads: &MachineReads,
        snapshot: &Snapshot,
        report: BulkReport,
    ) -> Result<Self> {
        let writes = report.machines.iter().filter(|item| item.writes).count();
        let more = report.machines.len().saturating_sub(ITEMS_SHOWN);
        let shown: Vec<BulkItem> = report.machines.into_iter().take(ITEMS_SHOWN).collect();
        let writing = shown.iter().filter(|item| item.writes);
        let macs: Vec<Mac> = writing.filter_map(|item| item.mac.parse().ok()).collect();
        let disks = MachineDisks::read(reads, &macs).await?;
        let item = |item: BulkItem| ChangeItem {
            hyphens: item.mac.replace(':', "-"),
            disk: match &item.disk {
                Some(serial) if item.writes => disks.describe(&item.mac, serial, &snapshot.names),
                _ => String::new(),
            },
            item,
        };
        Ok(Self {
            digest: report.digest,
            items: shown.into_iter().map(item).collect(),
            more,
            writes,
            unchanged: report.unchanged,
            at_work: report.at_work,
            skipped: report.skipped,
        })
    }

    /// Number of machines that change.
    pub(super) fn total(&self) -> usize {
        self.items.len() + self.more
    }

    /// Returns the words of the button that makes the change, which begin with `verb`.
    pub(super) fn button(&self, verb: &str) -> String {
        let writes = match self.writes {
            0 => String::new(),
            1 if self.total() == 1 => ": overwrite its disk".to_owned(),
            n => format!(": overwrite the disks of {n}"),
        };
        format!("{verb} {}{writes}", count(self.total(), "machine"))
    }
}

impl ChangePage {
    /// True if the operator can go on: something is missing, or something changes.
    fn has_button(&self) -> bool {
        self.field.is_some() || self.change.as_ref().is_some_and(|change| change.total() > 0)
    }

    /// Renders the page, as invalid input if there is a problem.
    pub(super) fn respond(&self) -> Result<Response> {
        let mut response = render(self)?;
        if self.problem.is_some() {
            *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
        }
        Ok(response)
    }
}
