//! The plan editor. It checks the script during editing, and shows what it would change for the
//! fleet before it is saved.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use bty::{CancelToken, Digest};
use serde::Deserialize;

use super::form::Fields;
use super::frame::Frame;
use super::notice::{Notice, Notices};
use super::render::render;
use crate::domain::error::{Error, Problem, Result};
use crate::domain::machine::ClientContext;
use crate::domain::plan::{Declared, Plan};
use crate::http::extract::Params;
use crate::services::access::Principal;
use crate::services::plan_edits::{PlanEdits, PlanScript};
use crate::services::plan_simulation::{FleetReport, PlanSimulator, Scenario, SimulationRequest};
use crate::services::undo::Undo;

#[derive(Template)]
#[template(path = "plan_edit.html")]
struct Editor {
    frame: Frame,
    draft: PlanDraft,
    checked: Checked,
    /// Set if the save must be confirmed: the number of machines assigned to the plan, and a digest
    /// of the script to confirm.
    confirmation: Option<(i64, String)>,
    /// What would change for the fleet.
    report: Option<FleetReport>,
    error: Option<Error>,
}

impl Editor {
    async fn new(plans: &PlanEdits, frame: Frame, draft: PlanDraft) -> Result<Self> {
        let checked = Checked::new(plans, &draft.source).await?;
        Ok(Self { frame, draft, checked, confirmation: None, report: None, error: None })
    }
}

/// A plan that is being edited.
struct PlanDraft {
    /// Empty if a new plan has no name yet.
    name: String,
    is_new: bool,
    source: String,
    note: String,
    /// The revision on which the draft is based; 0 for a new plan.
    base_revision: i64,
}

impl PlanDraft {
    fn of_fields(fields: &Fields) -> Self {
        Self {
            name: fields.text("name").to_owned(),
            is_new: fields.has("is_new"),
            source: source(fields),
            note: fields.text("note").to_owned(),
            base_revision: fields.text("base_revision").parse().unwrap_or_default(),
        }
    }

    fn script(&self) -> PlanScript {
        PlanScript {
            source: self.source.clone(),
            note: self.note.clone(),
            base_revision: Some(self.base_revision),
        }
    }
}

/// Normalizes line endings, which browsers change.
fn source(fields: &Fields) -> String {
    fields.raw("source").replace("\r\n", "\n")
}

/// The result of a check, with links to lines.
#[derive(Template)]
#[template(path = "plan_problems.html")]
struct Checked {
    problems: Vec<LineProblem>,
    declared: Declared,
}

impl Checked {
    async fn new(plans: &PlanEdits, source: &str) -> Result<Self> {
        let check = plans.check(source).await?;
        let problems = check.problems.into_iter();
        Ok(Self {
            problems: problems.map(|problem| LineProblem::new(problem, source)).collect(),
            declared: check.declared,
        })
    }
}

struct LineProblem {
    line: Option<u32>,
    at: String,
    message: String,
    hint: String,
    /// The text of the affected line.
    quoted: String,
}

const QUOTED_CHARS_MAX: usize = 200;

impl LineProblem {
    fn new(problem: Problem, source: &str) -> Self {
        let line: Option<u32> =
            problem.at.strip_prefix("line ").and_then(|at| at.split(':').next()?.parse().ok());
        let quoted =
            line.and_then(|line| source.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?));
        Self {
            quoted: quoted.unwrap_or_default().trim().chars().take(QUOTED_CHARS_MAX).collect(),
            line,
            at: problem.at,
            message: problem.message,
            hint: problem.hint.unwrap_or_default(),
        }
    }
}

/// The query of the editor of a new plan.
#[derive(Deserialize)]
pub struct NewQuery {
    /// The plan to copy.
    from: Option<String>,
}

/// Shows the editor with a new plan, which starts as a copy of another one.
pub async fn new(
    State(plans): State<PlanEdits>,
    frame: Frame,
    Params(query): Params<NewQuery>,
) -> Result<Response> {
    let from = query.from.as_deref().unwrap_or("bty-flash-once");
    let source = plans.get(from, None).await?.source;
    let (name, note) = (String::new(), String::new());
    let draft = PlanDraft { name, is_new: true, source, note, base_revision: 0 };
    render(&Editor::new(&plans, frame, draft).await?)
}

/// Shows the editor with a saved plan. A bundled plan is copied into a new one.
pub async fn edit(
    State(plans): State<PlanEdits>,
    Path(name): Path<String>,
    frame: Frame,
) -> Result<Response> {
    let plan = plans.get(&name, None).await?;
    if plan.is_bundled {
        return Ok(Redirect::to(&format!("/ui/plans/new?from={name}")).into_response());
    }
    let (note, base_revision) = (String::new(), plan.revision);
    let draft = PlanDraft { name, is_new: false, source: plan.source, note, base_revision };
    render(&Editor::new(&plans, frame, draft).await?)
}

/// Checks a script during editing.
pub async fn check(State(plans): State<PlanEdits>, fields: Fields) -> Result<Response> {
    render(&Checked::new(&plans, &source(&fields)).await?)
}

/// Saves the script, or shows what it would change for the fleet. If machines are assigned to the
/// plan, requires a confirmation first.
pub async fn save(
    State(plans): State<PlanEdits>,
    State(simulator): State<PlanSimulator>,
    who: ClientContext,
    principal: Principal,
    notices: Notices,
    frame: Frame,
    fields: Fields,
) -> Result<Response> {
    let draft = PlanDraft::of_fields(&fields);
    let machines = plans.count_machines(&draft.name).await?;
    let digest = Digest::of(draft.source.as_bytes()).to_string();
    let needs_confirmation = machines > 0 && fields.text("confirmed") != digest;
    let (mut report, mut error) = (None, None);
    if fields.has("simulate") || needs_confirmation {
        let request = SimulationRequest { who, principal, gone: CancelToken::new() };
        match simulate(&simulator, request, &draft).await {
            Ok(simulated) => report = Some(simulated),
            Err(failed) => error = Some(failed),
        }
    } else {
        match plans.put(&who, &principal, &draft.name, draft.script()).await {
            Ok(plan) => return Ok(saved(&notices, &plan, draft.base_revision)),
            Err(failed) => error = Some(failed),
        }
    }
    let status = error.as_ref().map_or(StatusCode::OK, |error| error.kind.status());
    let mut editor = Editor::new(&plans, frame, draft).await?;
    editor.confirmation = (needs_confirmation && error.is_none()).then_some((machines, digest));
    editor.report = report;
    if !editor.checked.problems.is_empty() {
        // the problems are already shown at their lines
        error = error.map(|error| Error { problems: Vec::new(), ..error });
    }
    editor.error = error;
    let mut response = render(&editor)?;
    *response.status_mut() = status;
    Ok(response)
}

async fn simulate(
    simulator: &PlanSimulator,
    request: SimulationRequest,
    draft: &PlanDraft,
) -> Result<FleetReport> {
    let scenario = Scenario {
        plan: Some(draft.name.clone()),
        source: Some(draft.source.clone()),
        ..Scenario::default()
    };
    simulator.simulate_fleet(request, scenario).await
}

fn saved(notices: &Notices, plan: &Plan, base_revision: i64) -> Response {
    let Plan { name, revision, .. } = plan;
    let text = format!(
        "{name} is saved as revision {revision}. Machines with this plan use it from their next \
         boot on."
    );
    let undo = Undo::Plan { name: name.clone(), revision: base_revision };
    notices.redirect(&format!("/ui/plans/{name}"), Notice::success(text).with_undo(undo))
}
