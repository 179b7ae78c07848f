//! Simulates the next network boots of one machine, or of the whole fleet before and after a
//! change. Changes no state.

use std::sync::Arc;

use bty::CancelToken;
use serde::{Deserialize, Serialize};

use crate::domain::error::{Error, Result};
use crate::domain::mac::Mac;
use crate::domain::machine::save::{Assignment, apply_assignment};
use crate::domain::machine::{ClientContext, Machine};
use crate::domain::plan::evaluate::PlanEvaluator;
use crate::domain::plan::simulate::{BOOTS_MAX, Step, simulate};
use crate::domain::plan::{Plan, examine};
use crate::services::access::Principal;
use crate::services::auth::Scope;
use crate::services::plan_edits::problems;
use crate::services::simulations::Simulations;
use crate::services::snapshot::{Snapshot, Snapshots};
use crate::store::{self, Database};

/// The assumptions of a simulation. Omitted fields keep the current state.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Number of network boots: 1 to 50, by default 4.
    #[serde(default)]
    pub boots: Option<u32>,
    /// Save this assignment to the machine first.
    #[serde(default, rename = "binding")]
    pub assignment: Option<Assignment>,
    /// Name of the plan that `source` replaces.
    #[serde(default)]
    pub plan: Option<String>,
    /// The script.
    #[serde(default)]
    pub source: Option<String>,
    /// Another catalog, as TOML.
    #[serde(default)]
    pub catalog: Option<String>,
}

const BOOTS_DEFAULT: u32 = 4;

/// Name for a script if the scenario names no plan.
const UNNAMED: &str = "supposed";

impl Scenario {
    /// Returns plans, catalog and settings as the scenario assumes them.
    fn apply(&self, now: &Snapshot) -> Result<Snapshot> {
        let mut snapshot = now.clone();
        if let Some(source) = &self.source {
            let name = self.plan.clone().unwrap_or_else(|| UNNAMED.into());
            let examined = examine(&name, source);
            let found = problems(&examined);
            if !found.is_empty() {
                return Err(Error::invalid("the script has errors").with_problems(found));
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
        self.boots.unwrap_or(BOOTS_DEFAULT).clamp(1, BOOTS_MAX)
    }

    /// Returns the plan `name` in this scenario, whose script can replace a bundled plan too.
    fn plan<'a>(&self, snapshot: &'a Snapshot, name: &str) -> Option<&'a Plan> {
        let replaced = self.source.as_ref().and_then(|_| snapshot.plans.get(name));
        replaced.map(Arc::as_ref).or_else(|| snapshot.plan(name))
    }

    /// Simulates the next boots of `machine`.
    fn steps(
        &self,
        snapshot: &Snapshot,
        decide: &PlanEvaluator<'_>,
        machine: &Machine,
        who: &ClientContext,
    ) -> Vec<Step> {
        let plan = self.plan(snapshot, &machine.plan);
        simulate(machine, &snapshot.context(plan, decide), who, self.boots())
    }
}

/// The client and limits of a simulation.
pub struct SimulationRequest {
    /// The client.
    pub who: ClientContext,
    /// The principal, which can run one simulation at a time.
    pub principal: Principal,
    /// Cancelled when the client disconnects, which stops the simulation.
    pub gone: CancelToken,
}

impl SimulationRequest {
    /// Requires the scope to save plans if the scenario has a script, because the script runs on
    /// the server.
    fn check(&self, scenario: &Scenario) -> Result<()> {
        if scenario.source.is_some() { self.principal.require(Scope::Plans) } else { Ok(()) }
    }
}

/// Simulates plans for machines of the fleet.
#[derive(Clone)]
pub struct PlanSimulator {
    db: Database,
    snapshots: Arc<Snapshots>,
    simulations: Arc<Simulations>,
}

impl PlanSimulator {
    pub(crate) fn new(
        db: Database,
        snapshots: Arc<Snapshots>,
        simulations: Arc<Simulations>,
    ) -> Self {
        Self { db, snapshots, simulations }
    }

    /// Simulates the next network boots of a machine, assuming that all of them succeed.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`](crate::domain::error::ErrorKind::NotFound) when the machine is
    ///   unknown and the scenario has no assignment.
    /// - [`ErrorKind::Forbidden`](crate::domain::error::ErrorKind::Forbidden) when the scenario has
    ///   a script and the principal lacks the scope `plans`.
    /// - [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) when the script or the
    ///   catalog is invalid, or the simulation takes too long.
    /// - [`ErrorKind::Throttled`](crate::domain::error::ErrorKind::Throttled) when too many
    ///   simulations are running.
    pub async fn simulate_machine(
        &self,
        mac: Mac,
        request: SimulationRequest,
        scenario: Scenario,
    ) -> Result<Vec<Step>> {
        request.check(&scenario)?;
        let (service, who) = (self.clone(), request.who);
        let work = move |decide: &PlanEvaluator<'_>| {
            let known = service.db.read_blocking(|conn| store::machines::find(conn, &mac))?;
            let snapshot = scenario.apply(&service.snapshots.current())?;
            let machine = match (&scenario.assignment, known) {
                (None, known) => {
                    known.ok_or_else(|| Error::not_found(format!("the machine {mac}")))?
                }
                (Some(assignment), known) => {
                    let plan = scenario.plan(&snapshot, &assignment.boot_mode);
                    let new = Machine::new(mac, &assignment.boot_mode, who.now);
                    let context = snapshot.context(plan, decide);
                    apply_assignment(known.as_ref(), new, &context, &who, assignment).machine
                }
            };
            Ok(scenario.steps(&snapshot, decide, &machine, &who))
        };
        self.simulations.run(request.principal.key(), request.gone, work).await
    }

    /// Compares the next boots of every machine in the current state and in the scenario.
    ///
    /// # Errors
    /// The errors of [`simulate_machine`](Self::simulate_machine).
    pub async fn simulate_fleet(
        &self,
        request: SimulationRequest,
        scenario: Scenario,
    ) -> Result<FleetReport> {
        request.check(&scenario)?;
        let (service, who) = (self.clone(), request.who);
        let work = move |decide: &PlanEvaluator<'_>| service.compare(decide, &who, &scenario);
        self.simulations.run(request.principal.key(), request.gone, work).await
    }

    /// Simulates every machine in the current state and in the scenario.
    fn compare(
        &self,
        decide: &PlanEvaluator<'_>,
        who: &ClientContext,
        scenario: &Scenario,
    ) -> Result<FleetReport> {
        let machines = self.db.read_blocking(store::machines::all)?;
        let now = self.snapshots.current();
        let then = scenario.apply(&now)?;
        let mut report =
            FleetReport { machines: machines.len(), unchanged: 0, changed: Vec::new() };
        let as_is = Scenario { boots: scenario.boots, ..Scenario::default() };
        for machine in machines {
            let is_affected = scenario.catalog.is_some()
                || scenario.plan.as_ref().is_none_or(|plan| machine.plan == *plan);
            if !is_affected {
                report.unchanged += 1;
                continue;
            }
            let before = as_is.steps(&now, decide, &machine, who);
            let after = scenario.steps(&then, decide, &machine, who);
            if before == after {
                report.unchanged += 1;
                continue;
            }
            let summary = summary(&before, &after);
            let (mac, plan) = (machine.mac.to_string(), machine.plan);
            report.changed.push(MachineComparison { mac, plan, summary, now: before, then: after });
        }
        Ok(report)
    }
}

/// Effects of a scenario on the fleet.
#[derive(Serialize, utoipa::ToSchema)]
pub struct FleetReport {
    /// Number of machines that were simulated.
    pub machines: usize,
    /// Number of machines for which nothing changes.
    pub unchanged: usize,
    /// Machines whose next boots would differ.
    pub changed: Vec<MachineComparison>,
}

/// Effects of a scenario on one machine.
#[derive(Serialize, utoipa::ToSchema)]
pub struct MachineComparison {
    /// MAC address.
    pub mac: String,
    /// Name of its plan.
    pub plan: String,
    /// The first difference, in one sentence.
    pub summary: String,
    /// Its next boots in the current state.
    pub now: Vec<Step>,
    /// Its next boots in the scenario.
    pub then: Vec<Step>,
}

fn summary(before: &[Step], after: &[Step]) -> String {
    let Some((now, then)) = before.iter().zip(after).find(|(now, then)| now != then) else {
        return "no difference".into();
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
