//! Changes of the ticked machines: shown with their effects first, then confirmed.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::confirmation::{ChangePage, ShownChange};
use super::selection::{FormSender, TickedMachines, list_of};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::machine::ClientContext;
use crate::domain::machine::bulk::BulkAction;
use crate::http::extract::ClientGone;
use crate::http::state::service_group;
use crate::http::ui::form::Fields;
use crate::http::ui::frame::Frame;
use crate::http::ui::notice::{Notice, Notices};
use crate::http::ui::render::count;
use crate::services::access::Principal;
use crate::services::bulk_edits::{BulkEdits, BulkReport, BulkRequest};
use crate::services::machine_reads::MachineReads;
use crate::services::snapshot::Snapshots;

/// A button of the list.
struct ListAction {
    /// Its value.
    act: &'static str,
    /// The first words of the button that confirms it.
    verb: &'static str,
    /// Label of the text that it needs.
    field: Option<&'static str>,
    /// What has been done to machines then.
    done: &'static str,
}

static ACTIONS: [ListAction; 7] = [
    ListAction { act: "again", verb: "Order again for", field: None, done: "Ordered again" },
    ListAction {
        act: "acknowledge",
        verb: "Acknowledge the failures of",
        field: None,
        done: "Failures acknowledged",
    },
    ListAction {
        act: "hold",
        verb: "Put on hold",
        field: Some("Reason of the hold"),
        done: "Put on hold",
    },
    ListAction { act: "release", verb: "Release", field: None, done: "Released" },
    ListAction {
        act: "label",
        verb: "Label",
        field: Some("Labels to add, separated by commas"),
        done: "Labeled",
    },
    ListAction {
        act: "unlabel",
        verb: "Remove labels from",
        field: Some("Labels to remove, separated by commas"),
        done: "Labels removed",
    },
    ListAction { act: "delete", verb: "Delete", field: None, done: "Deleted" },
];

impl ListAction {
    fn find(act: &str) -> Result<&'static Self> {
        let known = ACTIONS.iter().find(|action| action.act == act);
        known.ok_or_else(|| Error::invalid("unknown action: choose one of the buttons of the list"))
    }

    fn action(&self, text: &str) -> BulkAction {
        let labels = || {
            let labels = text.split(',').map(str::trim).filter(|label| !label.is_empty());
            labels.map(str::to_owned).collect()
        };
        match self.act {
            "again" => BulkAction::OrderAgain,
            "acknowledge" => BulkAction::Acknowledge,
            "hold" => BulkAction::Hold(text.to_owned()),
            "release" => BulkAction::Release,
            "label" => BulkAction::Label(labels()),
            "unlabel" => BulkAction::Unlabel(labels()),
            _ => BulkAction::Delete,
        }
    }
}

/// The services of changes.
pub struct ChangeServices {
    reads: MachineReads,
    snapshots: Arc<Snapshots>,
    bulk: BulkEdits,
}

service_group!(ChangeServices { reads, snapshots, bulk });

/// Shows what an action does to the ticked machines; with the digest of that, does it.
pub async fn submit(
    State(services): State<ChangeServices>,
    who: ClientContext,
    principal: Principal,
    gone: ClientGone,
    notices: Notices,
    frame: Frame,
    fields: Fields,
) -> Result<Response> {
    let ticked = match TickedMachines::read(&services.reads, &fields).await {
        Ok(ticked) => ticked,
        Err(error) => return Ok(notices.redirect(&list_of(&fields), error)),
    };
    let action = ListAction::find(fields.text("act"))?;
    let sender = FormSender { who, principal, gone };
    let mut problem = None;
    if let Some(digest) = fields.optional("digest") {
        let changed = services.change(&sender, &ticked, action, &fields, Some(digest)).await;
        match changed {
            Ok(report) => return Ok(notices.redirect(&ticked.back, success(action, &report))),
            // show what it would do now
            Err(error) if error.kind == ErrorKind::Conflict => problem = Some(error),
            Err(error) => return Ok(notices.redirect(&ticked.back, error)),
        }
    }
    services.show(frame, &sender, ticked, action, &fields, problem).await
}

fn success(action: &ListAction, report: &BulkReport) -> Notice {
    Notice::success(format!("{}: {}.", action.done, count(report.machines.len(), "machine")))
}

impl ChangeServices {
    async fn change(
        &self,
        sender: &FormSender,
        ticked: &TickedMachines,
        action: &ListAction,
        fields: &Fields,
        digest: Option<String>,
    ) -> Result<BulkReport> {
        let request = BulkRequest {
            filter: None,
            macs: Some(ticked.macs.clone()),
            action: action.action(fields.text("text")),
            dry_run: digest.is_none(),
            digest,
        };
        self.bulk.change(sender.request(), request).await
    }

    async fn show(
        &self,
        frame: Frame,
        sender: &FormSender,
        ticked: TickedMachines,
        action: &ListAction,
        fields: &Fields,
        mut problem: Option<Error>,
    ) -> Result<Response> {
        let is_missing = action.field.is_some() && !fields.has("text");
        let mut change = None;
        if !is_missing {
            match self.change(sender, &ticked, action, fields, None).await {
                Ok(report) => {
                    let snapshot = self.snapshots.current();
                    change = Some(ShownChange::read(&self.reads, &snapshot, report).await?);
                }
                Err(error) => problem = Some(error),
            }
        }
        let text = fields.text("text").to_owned();
        let mut hidden = ticked.hidden;
        hidden.push(("act".to_owned(), action.act.to_owned()));
        if change.is_some() {
            hidden.push(("text".to_owned(), text.clone()));
        }
        let page = ChangePage {
            title: format!("{} {}", action.verb, count(ticked.macs.len(), "machine")),
            action: "/ui/machines/change",
            back: ticked.back,
            hidden,
            field: action.field.filter(|_| change.is_none()).map(|label| (label, text)),
            button: change
                .as_ref()
                .map_or_else(|| "Continue".to_owned(), |change| change.button(action.verb)),
            is_alarm: action.act == "delete"
                || change.as_ref().is_some_and(|change| change.writes > 0),
            problem,
            change,
            steps: Vec::new(),
            frame,
        };
        page.respond()
    }
}
