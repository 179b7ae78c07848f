//! Plans: list, read, check, save, roll back, delete, simulate.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use crate::domain::error::Result;
use crate::domain::machine::ClientContext;
use crate::domain::plan::simulate::Step;
use crate::domain::plan::{Plan, PlanSummary};
use crate::http::error::ErrorBody;
use crate::http::extract::{ClientGone, Json, Params, PathText, parse_mac};
use crate::services::access::Principal;
use crate::services::plan_edits::{PlanCheck, PlanEdits, PlanScript, Revision};
use crate::services::plan_simulation::{FleetReport, PlanSimulator, Scenario, SimulationRequest};

/// Lists all plans, bundled ones first.
#[utoipa::path(
    get, path = "/plans", tag = "plans",
    responses((status = 200, body = Vec<PlanSummary>), (status = 401, body = ErrorBody)),
)]
pub(crate) async fn list(State(plans): State<PlanEdits>) -> Result<axum::Json<Vec<PlanSummary>>> {
    plans.list().await.map(axum::Json)
}

#[derive(Deserialize)]
pub(crate) struct RevisionQuery {
    revision: Option<i64>,
}

/// Returns a plan with its source, at the given revision or at the newest one.
#[utoipa::path(
    get, path = "/plans/{name}", tag = "plans",
    params(
        ("name" = String, Path),
        ("revision" = Option<i64>, Query, description = "by default the newest"),
    ),
    responses(
        (status = 200, body = Plan), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn get(
    State(plans): State<PlanEdits>,
    PathText(name): PathText,
    Params(query): Params<RevisionQuery>,
) -> Result<axum::Json<Plan>> {
    plans.get(&name, query.revision).await.map(axum::Json)
}

/// Lists the revisions of a plan, newest first.
///
/// The revisions of a deleted plan remain available.
#[utoipa::path(
    get, path = "/plans/{name}/revisions", tag = "plans", params(("name" = String, Path)),
    responses(
        (status = 200, body = Vec<Revision>), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub(crate) async fn revisions(
    State(plans): State<PlanEdits>,
    PathText(name): PathText,
) -> Result<axum::Json<Vec<Revision>>> {
    plans.revisions(&name).await.map(axum::Json)
}

#[derive(Deserialize)]
pub(crate) struct DiffQuery {
    from: i64,
    to: i64,
}

/// Returns the differences between two revisions as a unified diff.
#[utoipa::path(
    get, path = "/plans/{name}/diff", tag = "plans",
    params(
        ("name" = String, Path),
        ("from" = i64, Query, description = "the earlier revision"),
        ("to" = i64, Query, description = "the later revision"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn diff(
    State(plans): State<PlanEdits>,
    PathText(name): PathText,
    Params(query): Params<DiffQuery>,
) -> Result<String> {
    plans.diff(&name, query.from, query.to).await
}

/// Checks a script without saving it.
#[utoipa::path(
    post, path = "/plans/check", tag = "plans", request_body = PlanScript,
    responses(
        (status = 200, body = PlanCheck), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn check(
    State(plans): State<PlanEdits>,
    Json(script): Json<PlanScript>,
) -> Result<axum::Json<PlanCheck>> {
    plans.check(&script.source).await.map(axum::Json)
}

/// Saves a script as the newest revision of a plan.
///
/// If the script has problems, the server refuses it and reports all of them.
#[utoipa::path(
    put, path = "/plans/{name}", tag = "plans", params(("name" = String, Path)),
    request_body = PlanScript,
    responses(
        (status = 200, body = Plan), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn put(
    State(plans): State<PlanEdits>,
    PathText(name): PathText,
    who: ClientContext,
    principal: Principal,
    Json(script): Json<PlanScript>,
) -> Result<axum::Json<Plan>> {
    plans.put(&who, &principal, &name, script).await.map(axum::Json)
}

/// The revision to restore.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollBack {
    revision: i64,
}

/// Saves an earlier revision as the newest one.
#[utoipa::path(
    post, path = "/plans/{name}/roll-back", tag = "plans", params(("name" = String, Path)),
    request_body = RollBack,
    responses(
        (status = 200, body = Plan), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn roll_back(
    State(plans): State<PlanEdits>,
    PathText(name): PathText,
    who: ClientContext,
    principal: Principal,
    Json(body): Json<RollBack>,
) -> Result<axum::Json<Plan>> {
    plans.roll_back(&who, &principal, &name, body.revision).await.map(axum::Json)
}

/// Deletes a plan that is assigned to no machine.
///
/// Its revisions remain.
#[utoipa::path(
    delete, path = "/plans/{name}", tag = "plans", params(("name" = String, Path)),
    responses(
        (status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody),
    ),
)]
pub(crate) async fn delete(
    State(plans): State<PlanEdits>,
    PathText(name): PathText,
    who: ClientContext,
) -> Result<StatusCode> {
    plans.delete(&who, name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Simulates the next network boots of a machine, assuming that all of them succeed.
///
/// Changes nothing. A `source` requires the scope `plans`.
#[utoipa::path(
    post, path = "/machines/{mac}/simulate", tag = "plans", params(("mac" = String, Path)),
    request_body = Scenario,
    responses(
        (status = 200, body = Vec<Step>), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody), (status = 429, body = ErrorBody),
    ),
)]
pub(crate) async fn simulate_machine(
    State(simulator): State<PlanSimulator>,
    PathText(path): PathText,
    who: ClientContext,
    principal: Principal,
    ClientGone(gone): ClientGone,
    Json(scenario): Json<Scenario>,
) -> Result<axum::Json<Vec<Step>>> {
    let request = SimulationRequest { who, principal, gone };
    let steps = simulator.simulate_machine(parse_mac(&path)?, request, scenario);
    steps.await.map(axum::Json)
}

/// Simulates what would change for every machine with another plan or another catalog.
///
/// Changes nothing. A `source` requires the scope `plans`.
#[utoipa::path(
    post, path = "/simulate", tag = "plans", request_body = Scenario,
    responses(
        (status = 200, body = FleetReport), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody),
        (status = 429, body = ErrorBody),
    ),
)]
pub(crate) async fn simulate_fleet(
    State(simulator): State<PlanSimulator>,
    who: ClientContext,
    principal: Principal,
    ClientGone(gone): ClientGone,
    Json(scenario): Json<Scenario>,
) -> Result<axum::Json<FleetReport>> {
    let request = SimulationRequest { who, principal, gone };
    simulator.simulate_fleet(request, scenario).await.map(axum::Json)
}
