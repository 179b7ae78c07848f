//! One plan: its source, its revisions, and the changes between them.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Deserialize;

use super::form::Fields;
use super::frame::Frame;
use super::highlight;
use super::notice::{Notice, Notices};
use super::render::render;
use crate::domain::error::{Error, Result};
use crate::domain::machine::ClientContext;
use crate::domain::plan::Plan;
use crate::http::extract::Params;
use crate::services::access::Principal;
use crate::services::plan_edits::{PlanEdits, Revision};
use crate::services::snapshot::Snapshots;
use crate::services::undo::Undo;

/// The query of the page.
#[derive(Deserialize)]
pub struct PlanQuery {
    /// The revision to show; the newest by default.
    revision: Option<i64>,
    /// Show the changes since this revision.
    since: Option<i64>,
}

#[derive(Template)]
#[template(path = "plan.html")]
struct PlanPage {
    frame: Frame,
    plan: Plan,
    lines: Vec<String>,
    revisions: Vec<Revision>,
    /// True if the newest revision is shown.
    is_newest: bool,
    /// An earlier revision, and the changes since it.
    diff: Option<(i64, Vec<DiffLine>)>,
    /// Number of machines assigned to the plan.
    machines: i64,
}

struct DiffLine {
    class: &'static str,
    text: String,
}

/// Shows the plan.
pub async fn page(
    State(plans): State<PlanEdits>,
    Path(name): Path<String>,
    frame: Frame,
    Params(query): Params<PlanQuery>,
) -> Result<Response> {
    let plan = plans.get(&name, query.revision).await?;
    let revisions = plans.revisions(&name).await?;
    let diff = match query.since {
        Some(from) => {
            let text = plans.diff(&name, from, plan.revision).await?;
            Some((from, text.lines().map(diff_line).collect()))
        }
        None => None,
    };
    render(&PlanPage {
        lines: highlight::lines(plan.source.trim_end_matches('\n')),
        is_newest: revisions.first().is_none_or(|newest| newest.revision == plan.revision),
        machines: plans.count_machines(&name).await?,
        plan,
        revisions,
        diff,
        frame,
    })
}

fn diff_line(line: &str) -> DiffLine {
    let class = match line.chars().next() {
        Some('+') => "added",
        Some('-') => "gone",
        Some('@') => "at",
        _ => "",
    };
    DiffLine { class, text: line.to_owned() }
}

/// Saves an earlier revision as the newest one.
pub async fn roll_back(
    State(plans): State<PlanEdits>,
    State(snapshots): State<Arc<Snapshots>>,
    Path(name): Path<String>,
    who: ClientContext,
    principal: Principal,
    notices: Notices,
    fields: Fields,
) -> Result<Response> {
    let revision =
        fields.text("key").parse().map_err(|_| Error::invalid("the revision must be a number"))?;
    let before = current_revision(&snapshots, &name);
    let saved = plans.roll_back(&who, &principal, &name, revision).await;
    let notice = saved.map(|plan| {
        let text = format!(
            "{name} is rolled back to revision {revision}, saved as revision {}.",
            plan.revision
        );
        Notice::success(text).with_undo(Undo::Plan { name: name.clone(), revision: before })
    });
    Ok(notices.redirect(&format!("/ui/plans/{name}"), notice))
}

/// Deletes a plan that is assigned to no machine.
pub async fn delete(
    State(plans): State<PlanEdits>,
    State(snapshots): State<Arc<Snapshots>>,
    Path(name): Path<String>,
    who: ClientContext,
    notices: Notices,
    _fields: Fields,
) -> Response {
    let before = current_revision(&snapshots, &name);
    match plans.delete(&who, name.clone()).await {
        Ok(()) => {
            let notice = Notice::success(format!("{name} is deleted. Its revisions are kept."));
            notices.redirect("/ui/plans", notice.with_undo(Undo::Plan { name, revision: before }))
        }
        Err(error) => notices.redirect(&format!("/ui/plans/{name}"), error),
    }
}

fn current_revision(snapshots: &Snapshots, name: &str) -> i64 {
    snapshots.current().plan(name).map_or(0, |plan| plan.revision)
}
