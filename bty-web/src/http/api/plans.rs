//! Plans: looked at, saved, rolled back, simulated.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use bty::CancelToken;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::blocking::blocking;
use crate::domain::error::{Error, ErrorKind, Problem, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::machine::{ClientContext, Machine};
use crate::domain::plan::evaluate::PlanEvaluator;
use crate::domain::plan::simulate::{BOOTS_MAX, Step, simulate};
use crate::domain::plan::{self, Plan, Summary, bundled, examine};
use crate::http::error::ErrorBody;
use crate::http::extract::{ClientGone, Json, Params, PathText, mac};
use crate::http::guard;
use crate::services::app::{App, Snapshot};
use crate::services::auth::Scope;
use crate::store::{self, plans::Revision};

/// All plans, bundled ones first.
#[utoipa::path(get, path = "/plans", tag = "plans", responses((status = 200, body = Vec<Summary>), (status = 401, body = ErrorBody)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<axum::Json<Vec<Summary>>> {
    let counts = app.db.read(store::machines::count_by_plan).await?;
    let snapshot = app.snapshot();
    let mut own: Vec<&Plan> = snapshot.plans.values().map(Arc::as_ref).collect();
    own.sort_by(|a, b| a.name.cmp(&b.name));
    let all = bundled::all().iter().chain(own).map(|plan| Summary {
        name: plan.name.clone(),
        title: plan.title().to_owned(),
        revision: plan.revision,
        is_bundled: plan.is_bundled,
        machines: counts.iter().find(|(name, _)| *name == plan.name).map_or(0, |(_, n)| *n),
    });
    Ok(axum::Json(all.collect()))
}

#[derive(Deserialize)]
pub(crate) struct Which {
    pub(crate) revision: Option<i64>,
}

/// A plan with its source: the newest revision, or the one that is asked for.
#[utoipa::path(get, path = "/plans/{name}", tag = "plans", params(("name" = String, Path), ("revision" = Option<i64>, Query)),
    responses((status = 200, body = Plan), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    PathText(name): PathText,
    Params(which): Params<Which>,
) -> Result<axum::Json<Plan>> {
    find(&app, &name, which.revision).await.map(axum::Json)
}

async fn find(app: &App, name: &str, revision: Option<i64>) -> Result<Plan> {
    let found = match revision {
        None => app.snapshot().plan(name).cloned(),
        Some(0) => bundled::find(name).cloned(),
        Some(revision) => {
            let name = name.to_owned();
            app.db.read(move |conn| store::plans::revision(conn, &name, revision)).await?
        }
    };
    found.ok_or_else(|| Error::not_found(format!("the plan {}", short(name))))
}

fn short(name: &str) -> String {
    name.chars().take(64).collect()
}

/// The revisions of a plan, the newest first; also of a deleted one.
#[utoipa::path(get, path = "/plans/{name}/revisions", tag = "plans", params(("name" = String, Path)),
    responses((status = 200, body = Vec<Revision>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn revisions(
    State(app): State<Arc<App>>,
    PathText(name): PathText,
) -> Result<axum::Json<Vec<Revision>>> {
    let wanted = name.clone();
    let found = app.db.read(move |conn| store::plans::revisions(conn, &wanted)).await?;
    if found.is_empty() && bundled::find(&name).is_none() {
        return Err(Error::not_found(format!("the plan {}", short(&name))));
    }
    Ok(axum::Json(found))
}

#[derive(Deserialize)]
pub(crate) struct Between {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// What has changed between two revisions, as a unified diff.
#[utoipa::path(get, path = "/plans/{name}/diff", tag = "plans",
    params(("name" = String, Path), ("from" = i64, Query), ("to" = i64, Query)),
    responses((status = 200, body = String, content_type = "text/plain"), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn diff(
    State(app): State<Arc<App>>,
    PathText(name): PathText,
    Params(between): Params<Between>,
) -> Result<String> {
    let before = find(&app, &name, Some(between.from)).await?;
    let after = find(&app, &name, Some(between.to)).await?;
    Ok(plan::diff::lines(&before.source, &after.source))
}

/// A script that is to become a plan.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Script {
    /// The script.
    pub(crate) source: String,
    /// What it is saved for.
    #[serde(default)]
    pub(crate) note: String,
    /// The revision that it was made from; refused with 409 when there is a newer one. Zero for a
    /// new plan.
    #[serde(default)]
    pub(crate) base_revision: Option<i64>,
}

/// What is wrong with a script, and what it declares.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Report {
    pub(crate) problems: Vec<Problem>,
    pub(crate) declared: plan::Declared,
}

/// Looks at a script without saving it.
#[utoipa::path(post, path = "/plans/check", tag = "plans", request_body = Script,
    responses((status = 200, body = Report), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn check(Json(script): Json<Script>) -> Result<axum::Json<Report>> {
    let examined = blocking(move || examine("plan", &script.source)).await?;
    Ok(axum::Json(Report { problems: problems(&examined), declared: examined.declared }))
}

fn problems(examined: &plan::Examined) -> Vec<Problem> {
    let problem = |finding: &bty_script::check::Finding| {
        let at = finding
            .place
            .as_ref()
            .map_or_else(|| "script".to_owned(), |p| format!("line {}:{}", p.line, p.column));
        Problem { at, message: finding.message.clone(), hint: finding.hint.clone() }
    };
    examined.findings.iter().map(problem).collect()
}

/// Saves a plan as a new revision. A script with anything wrong in it is refused, with all of it.
#[utoipa::path(put, path = "/plans/{name}", tag = "plans", params(("name" = String, Path)), request_body = Script,
    responses((status = 200, body = Plan), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 409, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    PathText(name): PathText,
    who: ClientContext,
    by: guard::Principal,
    Json(script): Json<Script>,
) -> Result<axum::Json<Plan>> {
    save(&app, &name, script, &who, &by, "plan.saved").await.map(axum::Json)
}

async fn save(
    app: &Arc<App>,
    name: &str,
    script: Script,
    who: &ClientContext,
    by: &guard::Principal,
    kind: &'static str,
) -> Result<Plan> {
    plan::check_name(name).map_err(Error::invalid)?;
    if bundled::find(name).is_some() {
        let detail =
            format!("{name} is bundled, and cannot be changed: save it under another name");
        return Err(Error::new(ErrorKind::Conflict, detail));
    }
    if script.note.chars().count() > 500 || script.note.chars().any(char::is_control) {
        return Err(Error::invalid("note is one line of at most 500 characters"));
    }
    let (file, source) = (name.to_owned(), script.source.clone());
    let examined = blocking(move || examine(&file, &source)).await?;
    let found = problems(&examined);
    if !found.is_empty() {
        return Err(Error::invalid("the plan is not saved: something is wrong with it")
            .with_problems(found));
    }
    let (name, by, ip, now) = (name.to_owned(), by.name(), who.ip.clone(), who.now);
    let saved = app
        .db
        .write(move |transaction| {
            let newest = store::plans::newest(transaction, &name)?;
            let current =
                newest.filter(|(_, is_deleted)| !is_deleted).map_or(0, |(revision, _)| revision);
            if script.base_revision.is_some_and(|base| base != current) {
                let detail =
                    format!("{name} has been saved meanwhile: it is at revision {current}");
                return Err(Error::new(ErrorKind::Conflict, detail));
            }
            let plan = Plan {
                revision: newest.map_or(0, |(revision, _)| revision) + 1,
                source: script.source,
                declared: examined.declared,
                is_bundled: false,
                saved_at: Some(now),
                note: script.note,
                name,
            };
            store::plans::put(transaction, &plan, &by, now)?;
            let kind = if plan.revision == 1 { "plan.created" } else { kind };
            let event = NewEvent::new(
                kind,
                plan.name.clone(),
                format!("{} is at revision {}", plan.name, plan.revision),
            );
            let details = json!({ "revision": plan.revision, "note": plan.note, "saved_by": by });
            transaction.record(&event.by(Actor::Operator, ip.as_deref()).with(details))?;
            Ok(plan)
        })
        .await?;
    app.refresh().await?;
    Ok(saved)
}

/// Which revision to go back to.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Back {
    pub(crate) revision: i64,
}

/// Saves an earlier revision as the newest one.
#[utoipa::path(post, path = "/plans/{name}/roll-back", tag = "plans", params(("name" = String, Path)), request_body = Back,
    responses((status = 200, body = Plan), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn roll_back(
    State(app): State<Arc<App>>,
    PathText(name): PathText,
    who: ClientContext,
    by: guard::Principal,
    Json(back): Json<Back>,
) -> Result<axum::Json<Plan>> {
    let earlier = find(&app, &name, Some(back.revision)).await?;
    let note = format!("as revision {}", back.revision);
    let script = Script { source: earlier.source, note, base_revision: None };
    save(&app, &name, script, &who, &by, "plan.rolled_back").await.map(axum::Json)
}

/// Deletes a plan that no machine is bound to. Its revisions stay.
#[utoipa::path(delete, path = "/plans/{name}", tag = "plans", params(("name" = String, Path)),
    responses((status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    PathText(name): PathText,
    who: ClientContext,
) -> Result<StatusCode> {
    if bundled::find(&name).is_some() {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("{name} is bundled, and cannot be deleted"),
        ));
    }
    if app.snapshot().settings.get("plans.default") == name {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("{name} is the plan of machines that are not known"),
        ));
    }
    let _held = app.lock_all().await;
    app.db
        .write(move |transaction| {
            let bound = store::machines::count_by_plan(transaction)?
                .into_iter()
                .find(|(plan, _)| *plan == name);
            if let Some((_, machines)) = bound {
                let detail = format!(
                    "{machines} machines are bound to {name}: bind them to another plan first"
                );
                return Err(Error::new(ErrorKind::Conflict, detail));
            }
            if !store::plans::delete(transaction, &name, who.now)? {
                return Err(Error::not_found(format!("the plan {}", short(&name))));
            }
            let event = NewEvent::new("plan.deleted", name.clone(), format!("{name} was deleted"));
            transaction.record(&event.by(Actor::Operator, who.ip.as_deref())).map(drop)
        })
        .await?;
    app.refresh().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is simulated; what is left out is as it is.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Suppose {
    /// So many network boots, at most 50.
    #[serde(default)]
    pub(crate) boots: Option<u32>,
    /// The machine is saved with this binding first.
    #[serde(default)]
    pub(crate) binding: Option<crate::domain::machine::save::Binding>,
    /// Machines with this plan get this script instead.
    #[serde(default)]
    pub(crate) plan: Option<String>,
    /// The script.
    #[serde(default)]
    pub(crate) source: Option<String>,
    /// Another catalog, as TOML.
    #[serde(default)]
    pub(crate) catalog: Option<String>,
}

const BOOTS: u32 = 4;

impl Suppose {
    /// Everything that decides, as it would be.
    fn snapshot(&self, now: &Snapshot) -> Result<Snapshot> {
        let mut snapshot = now.clone();
        if let Some(source) = &self.source {
            let name = self.plan.clone().unwrap_or_else(|| "supposed".into());
            let examined = examine(&name, source);
            let found = problems(&examined);
            if !found.is_empty() {
                return Err(
                    Error::invalid("something is wrong with the script").with_problems(found)
                );
            }
            let plan = Plan {
                name: name.clone(),
                revision: -1,
                source: source.clone(),
                declared: examined.declared,
                is_bundled: false,
                saved_at: None,
                note: String::new(),
            };
            snapshot.plans.insert(name, Arc::new(plan));
        }
        if let Some(catalog) = &self.catalog {
            bty::catalog::Catalog::parse(catalog.as_bytes())?;
            snapshot.catalog = catalog.as_str().into();
            snapshot.resolved = Arc::default();
        }
        Ok(snapshot)
    }

    fn boots(&self) -> u32 {
        self.boots.unwrap_or(BOOTS).clamp(1, BOOTS_MAX)
    }
}

/// The plan of a machine in a supposed world: a script that is supposed stands before a bundled one
/// of its name.
fn supposed<'a>(snapshot: &'a Snapshot, name: &str, suppose: &Suppose) -> Option<&'a Plan> {
    let own = suppose.source.as_ref().and_then(|_| snapshot.plans.get(name)).map(Arc::as_ref);
    own.or_else(|| snapshot.plan(name))
}

/// A simulation: who wants it, and whether somebody still does.
pub(crate) struct Simulating {
    pub(crate) who: ClientContext,
    pub(crate) by: guard::Principal,
    pub(crate) gone: CancelToken,
}

impl Simulating {
    /// Refuses a script of whoever may not save one: it runs all the same.
    fn check(&self, suppose: &Suppose) -> Result<()> {
        if suppose.source.is_some() { self.by.require(Scope::Plans) } else { Ok(()) }
    }
}

fn steps(
    snapshot: &Snapshot,
    decide: &PlanEvaluator<'_>,
    machine: &Machine,
    who: &ClientContext,
    suppose: &Suppose,
) -> Vec<Step> {
    let plan = supposed(snapshot, &machine.plan, suppose);
    simulate(machine, &snapshot.context(plan, decide), who, suppose.boots())
}

/// What a machine would do at its next network boots, if each of them ended as it should. Changes
/// nothing. A script of one's own needs the scope `plans`.
#[utoipa::path(post, path = "/machines/{mac}/simulate", tag = "plans", params(("mac" = String, Path)), request_body = Suppose,
    responses((status = 200, body = Vec<Step>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody), (status = 429, body = ErrorBody)))]
pub(crate) async fn simulate_machine(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    who: ClientContext,
    by: guard::Principal,
    gone: ClientGone,
    Json(suppose): Json<Suppose>,
) -> Result<axum::Json<Vec<Step>>> {
    simulate_one(&app, &path, Simulating { who, by, gone: gone.0 }, suppose).await.map(axum::Json)
}

/// The same for pages.
pub(crate) async fn simulate_one(
    app: &Arc<App>,
    path: &str,
    simulating: Simulating,
    suppose: Suppose,
) -> Result<Vec<Step>> {
    simulating.check(&suppose)?;
    let (mac, shared, who) = (mac(path)?, Arc::clone(app), simulating.who);
    let work = move |decide: &PlanEvaluator<'_>| {
        let known = shared.db.read_blocking(|conn| store::machines::get(conn, &mac))?;
        let snapshot = suppose.snapshot(&shared.snapshot())?;
        let machine = match (&suppose.binding, known) {
            (None, known) => known.ok_or_else(|| Error::not_found(&mac))?,
            (Some(binding), known) => {
                let plan = supposed(&snapshot, &binding.boot_mode, &suppose);
                let fresh = Machine::new(mac, &binding.boot_mode, who.now);
                let rules = snapshot.context(plan, decide);
                crate::domain::machine::save::apply_binding(
                    known.as_ref(),
                    fresh,
                    &rules,
                    &who,
                    binding,
                )
                .machine
            }
        };
        Ok(steps(&snapshot, decide, &machine, &who, &suppose))
    };
    app.simulations.run(simulating.by.key(), simulating.gone, work).await
}

/// What would change for the fleet.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct FleetReport {
    /// Machines that were simulated.
    pub(crate) machines: usize,
    /// Machines for which nothing changes.
    pub(crate) unchanged: usize,
    /// The others.
    pub(crate) changed: Vec<Changed>,
}

/// What would change for one machine.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Changed {
    pub(crate) mac: String,
    pub(crate) plan: String,
    /// One sentence.
    pub(crate) summary: String,
    pub(crate) now: Vec<Step>,
    pub(crate) then: Vec<Step>,
}

/// What would change for every machine with another plan or another catalog. Changes nothing. A
/// script of one's own needs the scope `plans`.
#[utoipa::path(post, path = "/simulate", tag = "plans", request_body = Suppose,
    responses((status = 200, body = FleetReport), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody), (status = 429, body = ErrorBody)))]
pub(crate) async fn simulate_fleet(
    State(app): State<Arc<App>>,
    who: ClientContext,
    by: guard::Principal,
    gone: ClientGone,
    Json(suppose): Json<Suppose>,
) -> Result<axum::Json<FleetReport>> {
    simulate_all(&app, Simulating { who, by, gone: gone.0 }, suppose).await.map(axum::Json)
}

/// The same for pages.
pub(crate) async fn simulate_all(
    app: &Arc<App>,
    simulating: Simulating,
    suppose: Suppose,
) -> Result<FleetReport> {
    simulating.check(&suppose)?;
    let (shared, who) = (Arc::clone(app), simulating.who);
    let work = move |decide: &PlanEvaluator<'_>| compare(&shared, decide, &who, &suppose);
    app.simulations.run(simulating.by.key(), simulating.gone, work).await
}

/// Simulates every machine as it is, and as it would be.
fn compare(
    app: &App,
    decide: &PlanEvaluator<'_>,
    who: &ClientContext,
    suppose: &Suppose,
) -> Result<FleetReport> {
    let machines = app.db.read_blocking(store::machines::all)?;
    let now = app.snapshot();
    let then = suppose.snapshot(&now)?;
    let mut report = FleetReport { machines: machines.len(), unchanged: 0, changed: Vec::new() };
    let nothing = Suppose { boots: suppose.boots, ..Suppose::default() };
    for machine in machines {
        let is_meant = suppose.catalog.is_some()
            || suppose.plan.as_ref().is_none_or(|plan| machine.plan == *plan);
        let before =
            if is_meant { steps(&now, decide, &machine, who, &nothing) } else { Vec::new() };
        let after =
            if is_meant { steps(&then, decide, &machine, who, suppose) } else { Vec::new() };
        if before == after {
            report.unchanged += 1;
            continue;
        }
        let summary = summary(&before, &after);
        let (mac, plan) = (machine.mac.to_string(), machine.plan);
        report.changed.push(Changed { mac, plan, summary, now: before, then: after });
    }
    Ok(report)
}

fn summary(before: &[Step], after: &[Step]) -> String {
    let Some((now, then)) = before.iter().zip(after).find(|(now, then)| now != then) else {
        return "the same".into();
    };
    let shown = |step: &Step| match (step.mode, &step.image, &step.reason) {
        (Some("flash"), Some(image), _) => format!("flash {image}"),
        (Some(mode), ..) => mode.to_owned(),
        (None, _, Some(reason)) => format!("{} ({reason})", step.offer),
        (None, ..) => step.offer.to_owned(),
    };
    match (shown(now), shown(then)) {
        (a, b) if a == b => format!("boot {}: {a}, with other details", now.boot),
        (a, b) => format!("boot {}: {b} instead of {a}", now.boot),
    }
}
