//! One plan: its source and revisions, and the editor.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use bty::{CancelToken, Digest};
use serde::Deserialize;

use super::form::Fields;
use super::notice::{Notice, Undo, redirect_with_notice, redirect_with_result};
use super::{Frame, highlight, render};
use crate::domain::error::{Error, Problem, Result};
use crate::domain::machine::ClientContext;
use crate::domain::plan::{Declared, Plan};
use crate::http::api;
use crate::http::api::plans::{Back, Between, FleetReport, Script, Suppose, Which};
use crate::http::extract::{Json, Params, PathText};
use crate::http::guard;
use crate::services::app::App;
use crate::store::{self, plans::Revision};

/// What is asked of the page of a plan.
#[derive(Deserialize)]
pub struct PlanQuery {
    revision: Option<i64>,
    /// What has changed since this revision.
    since: Option<i64>,
}

#[derive(Template)]
#[template(path = "plan.html")]
struct Page {
    frame: Frame,
    plan: Plan,
    lines: Vec<String>,
    revisions: Vec<Revision>,
    /// The newest revision is shown.
    is_newest: bool,
    /// The revision before, the changes since it.
    diff: Option<(i64, Vec<DiffLine>)>,
    machines: i64,
}

struct DiffLine {
    class: &'static str,
    text: String,
}

/// The page.
pub async fn page(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    frame: Frame,
    Params(asked): Params<PlanQuery>,
) -> Result<Response> {
    let state = || State(Arc::clone(&app));
    let which = Params(Which { revision: asked.revision });
    let axum::Json(plan) = api::plans::get(state(), PathText(name.clone()), which).await?;
    let axum::Json(revisions) = api::plans::revisions(state(), PathText(name.clone())).await?;
    let axum::Json(all) = api::plans::list(state()).await?;
    let diff = match asked.since {
        Some(from) => {
            let between = Params(Between { from, to: plan.revision });
            let text = api::plans::diff(state(), PathText(name.clone()), between).await?;
            Some((from, text.lines().map(diff_line).collect()))
        }
        None => None,
    };
    let page = Page {
        lines: highlight::lines(plan.source.trim_end_matches('\n')),
        is_newest: revisions.first().is_none_or(|newest| newest.revision == plan.revision),
        machines: all.iter().find(|known| known.name == name).map_or(0, |known| known.machines),
        plan,
        revisions,
        diff,
        frame,
    };
    render(&page)
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

/// The editor.
#[derive(Template)]
#[template(path = "plan_edit.html")]
struct Edit {
    frame: Frame,
    name: String,
    /// It is to be a plan of its own: its name is still to be chosen.
    is_new: bool,
    source: String,
    note: String,
    base_revision: i64,
    checked: Checked,
    /// So many machines follow the script as soon as it is saved, and this stands for the script
    /// that is confirmed.
    asks: Option<(i64, String)>,
    /// What would change for the fleet, when that was asked for or is asked.
    report: Option<FleetReport>,
    error: Option<Error>,
}

/// What is wrong with a script, and what it declares.
#[derive(Template)]
#[template(path = "plan_problems.html")]
struct Checked {
    problems: Vec<Finding>,
    declared: Declared,
}

/// Something wrong at a line.
struct Finding {
    line: Option<u32>,
    at: String,
    message: String,
    hint: String,
    /// The line as it is.
    quoted: String,
}

impl Finding {
    fn new(problem: Problem, source: &str) -> Self {
        let line: Option<u32> =
            problem.at.strip_prefix("line ").and_then(|at| at.split(':').next()?.parse().ok());
        let quoted =
            line.and_then(|line| source.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?));
        Self {
            quoted: quoted.unwrap_or_default().trim().chars().take(200).collect(),
            line,
            at: problem.at,
            message: problem.message,
            hint: problem.hint.unwrap_or_default(),
        }
    }
}

async fn examine(source: &str) -> Result<Checked> {
    let script = Script { source: source.to_owned(), note: String::new(), base_revision: None };
    let axum::Json(report) = api::plans::check(Json(script)).await?;
    let problems =
        report.problems.into_iter().map(|problem| Finding::new(problem, source)).collect();
    Ok(Checked { problems, declared: report.declared })
}

/// Which plan a new one begins with.
#[derive(Deserialize)]
pub struct Begin {
    from: Option<String>,
}

/// A new plan starts as a copy of one that works.
pub async fn new(
    State(app): State<Arc<App>>,
    frame: Frame,
    Params(begin): Params<Begin>,
) -> Result<Response> {
    let snapshot = app.snapshot();
    let from = begin.from.as_deref().unwrap_or("bty-flash-once");
    let plan = snapshot.plan(from).ok_or_else(|| Error::not_found(format!("the plan {from}")))?;
    let checked = examine(&plan.source).await?;
    let edit = Edit {
        frame,
        name: String::new(),
        is_new: true,
        source: plan.source.clone(),
        note: String::new(),
        base_revision: 0,
        checked,
        asks: None,
        report: None,
        error: None,
    };
    render(&edit)
}

/// The editor of a plan that is there.
pub async fn edit(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    frame: Frame,
) -> Result<Response> {
    let snapshot = app.snapshot();
    let plan = snapshot.plan(&name).ok_or_else(|| Error::not_found(format!("the plan {name}")))?;
    if plan.is_bundled {
        return Ok(Redirect::to(&format!("/ui/plans/new?from={name}")).into_response());
    }
    let checked = examine(&plan.source).await?;
    let edit = Edit {
        frame,
        name,
        is_new: false,
        source: plan.source.clone(),
        note: String::new(),
        base_revision: plan.revision,
        checked,
        asks: None,
        report: None,
        error: None,
    };
    render(&edit)
}

/// What is wrong with a script that is being written.
pub async fn check(fields: Fields) -> Result<Response> {
    render(&examine(&source(&fields)).await?)
}

/// Browsers send line ends of another kind than they were given.
fn source(fields: &Fields) -> String {
    fields.raw("source").replace("\r\n", "\n")
}

/// Machines that are bound to the plan.
async fn followers(app: &App, name: &str) -> Result<i64> {
    let counts = app.db.read(store::machines::count_by_plan).await?;
    Ok(counts.into_iter().find(|(plan, _)| plan == name).map_or(0, |(_, machines)| machines))
}

/// Saves the script, or shows what it would change for the fleet. A script that machines follow at
/// once is shown so first.
pub async fn save(
    State(app): State<Arc<App>>,
    who: ClientContext,
    by: guard::Principal,
    frame: Frame,
    fields: Fields,
) -> Result<Response> {
    let (name, source, note) =
        (fields.text("name").to_owned(), source(&fields), fields.text("note").to_owned());
    let base_revision: i64 = fields.text("base_revision").parse().unwrap_or_default();
    let is_new = fields.has("is_new");
    let mut report = None;
    let mut error = None;
    let followers = followers(&app, &name).await?;
    let confirmation = Digest::of(source.as_bytes()).to_string();
    let is_asked = followers > 0 && fields.text("confirmed") != confirmation;
    if fields.has("simulate") || is_asked {
        let suppose = Suppose {
            plan: Some(name.clone()),
            source: Some(source.clone()),
            ..Suppose::default()
        };
        let simulating = api::plans::Simulating { who, by, gone: CancelToken::new() };
        match api::plans::simulate_all(&app, simulating, suppose).await {
            Ok(found) => report = Some(found),
            Err(wrong) => error = Some(wrong),
        }
    } else {
        let script = Script {
            source: source.clone(),
            note: note.clone(),
            base_revision: Some(base_revision),
        };
        match api::plans::put(
            State(Arc::clone(&app)),
            PathText(name.clone()),
            who,
            by,
            Json(script),
        )
        .await
        {
            Ok(axum::Json(plan)) => return Ok(saved(&app, &plan, base_revision)),
            Err(wrong) => error = Some(wrong),
        }
    }
    let asks = (is_asked && error.is_none()).then_some((followers, confirmation));
    let checked = examine(&source).await?;
    let status = error.as_ref().map_or(StatusCode::OK, |error| error.kind.status());
    // problems of the script are shown at their lines
    let error = error.map(|error| {
        if checked.problems.is_empty() { error } else { Error { problems: Vec::new(), ..error } }
    });
    let mut response = render(&Edit {
        frame,
        name,
        is_new,
        source,
        note,
        base_revision,
        checked,
        asks,
        report,
        error,
    })?;
    *response.status_mut() = status;
    Ok(response)
}

fn saved(app: &App, plan: &Plan, base_revision: i64) -> Response {
    let Plan { name, revision, .. } = plan;
    let undo = Undo::Plan { name: name.clone(), revision: base_revision };
    let text = format!(
        "{name} is saved as revision {revision}. Machines with this plan follow it from their next boot on."
    );
    redirect_with_notice(app, &format!("/ui/plans/{name}"), Notice::done(text).or(undo))
}

/// Saves an earlier revision as the newest one.
pub async fn roll_back(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    who: ClientContext,
    by: guard::Principal,
    fields: Fields,
) -> Result<Response> {
    let revision =
        fields.text("key").parse().map_err(|_| Error::invalid("a revision is a number"))?;
    let before = app.snapshot().plan(&name).map_or(0, |plan| plan.revision);
    let back = Json(Back { revision });
    let rolled =
        api::plans::roll_back(State(Arc::clone(&app)), PathText(name.clone()), who, by, back).await;
    let notice = rolled.map(|axum::Json(plan)| {
        let undo = Undo::Plan { name: name.clone(), revision: before };
        Notice::done(format!(
            "{name} is as revision {revision} again, which is now revision {}.",
            plan.revision
        ))
        .or(undo)
    });
    Ok(redirect_with_result(&app, &format!("/ui/plans/{name}"), notice))
}

/// Deletes a plan that no machine is bound to.
pub async fn delete(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    who: ClientContext,
    _fields: Fields,
) -> Response {
    let before = app.snapshot().plan(&name).map_or(0, |plan| plan.revision);
    match api::plans::delete(State(Arc::clone(&app)), PathText(name.clone()), who).await {
        Ok(_) => {
            let undo = Undo::Plan { name: name.clone(), revision: before };
            redirect_with_notice(
                &app,
                "/ui/plans",
                Notice::done(format!("{name} is deleted. Its revisions are kept.")).or(undo),
            )
        }
        Err(error) => redirect_with_notice(&app, &format!("/ui/plans/{name}"), error),
    }
}
