//! Evaluates the functions of a plan and records their failures.

use std::collections::HashMap;

use bty_script::decide::{Decision, MachineFacts, PlanCall};
use bty_script::{Cause, ScriptError};
use serde_json::{Value, json};

use super::{Declared, Plan};
use crate::domain::catalog_image::CatalogImage;
use crate::domain::event::{Actor, NewEvent};
use crate::domain::machine::pin::{Pin, pin};
use crate::domain::machine::{ClientContext, Machine};
use crate::domain::time::Time;

/// Evaluates a function of a plan, in a worker process or in an engine of this process.
pub type PlanEvaluator<'a> =
    dyn Fn(&PlanCall<'_>) -> Result<Decision, ScriptError> + Send + Sync + 'a;

/// The input of decisions about a machine, besides its own state.
#[derive(Clone, Copy)]
pub struct DecisionContext<'a> {
    /// The plan of the machine; `None` when it does not exist.
    pub plan: Option<&'a Plan>,
    /// The catalog as TOML.
    pub catalog: &'a str,
    /// Resolved URLs of images, by their references: the target of a tag at the last refresh.
    pub resolved: &'a HashMap<String, String>,
    /// Names of images, by their references.
    pub names: &'a HashMap<String, String>,
    /// Images of the catalog, by their references.
    pub images: &'a HashMap<String, CatalogImage>,
    /// True if machines keep the version of their image that was assigned, unless their plan says
    /// otherwise.
    pub pins_images: bool,
    /// Evaluates the functions of the plan.
    pub evaluator: &'a PlanEvaluator<'a>,
    /// How long a contact without a nonce counts as a repetition of the previous one, in
    /// milliseconds.
    pub window_ms: i64,
    /// Number of consecutive boots without a start of the live environment after which a machine is
    /// stalled; 0 for never.
    pub silent_boots_max: u32,
    /// True if a delta flash of a disk that has passed a full proof may read back only a sample of
    /// what it has kept.
    pub allows_sample_proof: bool,
    /// The time zone of the clock that plans see.
    pub zone: &'a jiff::tz::TimeZone,
    /// Generates the token of a boot cycle.
    pub token: &'a (dyn Fn() -> String + Send + Sync),
}

/// The result of evaluating a function of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluation {
    /// The value of the function.
    Value(Value),
    /// The plan does not define the function.
    Undefined,
    /// The function failed, with the reason and the event that records it.
    Failed(String, Box<NewEvent>),
}

impl DecisionContext<'_> {
    pub(crate) fn declared(&self) -> Declared {
        self.plan.map(|plan| plan.declared.clone()).unwrap_or_default()
    }

    /// Returns the version of its image that `machine` keeps; `None` if it writes the one in the
    /// catalog.
    pub(crate) fn pin(&self, machine: &Machine) -> Option<Pin> {
        pin(machine, self.images, &self.declared(), self.pins_images)
    }

    /// Evaluates `function` of the plan. The plan's state in `machine` changes only if the function
    /// returns a value.
    pub(crate) fn evaluate(
        &self,
        machine: &mut Machine,
        client: &ClientContext,
        function: &str,
        args: Vec<Value>,
    ) -> Evaluation {
        let Some(plan) = self.plan else {
            return Evaluation::Failed(
                format!("the plan {} does not exist", machine.plan),
                Box::new(failure_event(
                    machine,
                    client,
                    function,
                    &json!({ "reason": "the plan does not exist" }),
                    "does not exist",
                )),
            );
        };
        let facts = self.facts(machine, client);
        let question = PlanCall {
            name: &format!("{}.rhai", plan.name),
            text: &plan.source,
            function,
            machine: Some(&facts),
            args,
            catalog: self.catalog,
        };
        match (self.evaluator)(&question) {
            Ok(Decision { is_defined: false, .. }) => Evaluation::Undefined,
            Ok(decision) if !decision.state.is_object() => {
                let why = "m.state must be a map";
                Evaluation::Failed(
                    why.into(),
                    Box::new(failure_event(
                        machine,
                        client,
                        function,
                        &json!({ "reason": why }),
                        why,
                    )),
                )
            }
            Ok(decision) if decision.state.to_string().len() > STATE_BYTES_MAX => {
                let why = "m.state is larger than 16 KiB";
                Evaluation::Failed(
                    why.into(),
                    Box::new(failure_event(
                        machine,
                        client,
                        function,
                        &json!({ "reason": why }),
                        why,
                    )),
                )
            }
            Ok(decision) => {
                machine.state = decision.state;
                Evaluation::Value(decision.value)
            }
            Err(error) => {
                let details = error_details(&error, plan, function);
                Evaluation::Failed(
                    error.message.clone(),
                    Box::new(failure_event(machine, client, function, &details, &error.message)),
                )
            }
        }
    }

    /// Returns the reason and the event for a function that returned an invalid value.
    pub(crate) fn invalid_value(
        &self,
        machine: &Machine,
        client: &ClientContext,
        function: &str,
        why: &str,
    ) -> (String, Box<NewEvent>) {
        let revision = self.plan.map(|plan| plan.revision);
        let details = json!({
            "function": function, "reason": why, "plan": machine.plan, "revision": revision,
        });
        (why.to_owned(), Box::new(failure_event(machine, client, function, &details, why)))
    }

    fn facts(&self, machine: &Machine, client: &ClientContext) -> MachineFacts {
        let mut params = self.declared().presets();
        params.extend(machine.params.clone());
        MachineFacts {
            mac: machine.mac.to_string(),
            labels: machine.labels.clone(),
            plan: machine.plan.clone(),
            params: params.into(),
            state: machine.state.clone(),
            image_ref: machine.image_ref.clone(),
            image_sha256: self.pin(machine).map(|pin| pin.sha256),
            target_serial: machine.target_serial.clone(),
            disks: machine.disks.clone().unwrap_or_else(|| Value::Array(Vec::new())),
            hardware: machine.hardware.clone(),
            flashed: machine.flashed.as_ref().map_or(Value::Null, |flashed| {
                json!({
                    "at": flashed.at.seconds(), "image": flashed.image, "sha256": flashed.sha256,
                    "serial": flashed.serial,
                })
            }),
            history: machine
                .history
                .iter()
                .map(|h| json!({ "at": h.at, "kind": h.kind }))
                .collect(),
            discovered_at: machine.discovered_at.unwrap_or(machine.created_at).seconds(),
            inventory_at: machine.disks_at.map(Time::seconds),
            now: client.now.seconds(),
            clock: clock(client.now, self.zone),
            server: client.base.clone(),
        }
    }
}

/// Maximum size of a plan's state as JSON. A plan that exceeds it probably only ever adds to its
/// state.
const STATE_BYTES_MAX: usize = 16 << 10;

fn clock(now: Time, zone: &jiff::tz::TimeZone) -> Value {
    let local = now.timestamp().to_zoned_datetime(zone.clone());
    json!({
        "year": local.year(), "month": local.month(), "day": local.day(), "hour": local.hour(),
        "minute": local.minute(), "weekday": local.weekday().to_monday_one_offset(),
    })
}

fn error_details(error: &ScriptError, plan: &Plan, function: &str) -> Value {
    let place = error.place.as_ref();
    json!({
        "plan": plan.name, "revision": plan.revision, "function": function, "reason": error.message,
        "kind": error.kind(), "hint": error.hint, "line": place.map(|p| p.line),
        "column": place.map(|p| p.column),
        "source": place.map(|p| p.text.trim()), "is_throw": error.cause == Cause::Throw,
    })
}

fn failure_event(
    machine: &Machine,
    client: &ClientContext,
    function: &str,
    details: &Value,
    why: &str,
) -> NewEvent {
    let summary = format!("{}: the plan {} failed in {function}: {why}", machine.mac, machine.plan);
    let mut details = details.clone();
    details["mac"] = machine.mac.as_str().into();
    NewEvent::new("plan.failed", machine.plan.clone(), summary)
        .by(Actor::PxeClient, client.ip.as_deref())
        .about("machine", machine.mac.as_str())
        .with(details)
}
