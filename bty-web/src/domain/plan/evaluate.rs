//! Asking a plan, and what becomes of it when it fails.

use std::collections::HashMap;

use bty_script::decide::{Decision, MachineFacts, PlanCall};
use bty_script::{Cause, ScriptError};
use serde_json::{Value, json};

use super::{Declared, Plan};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::machine::{ClientContext, Machine};
use crate::domain::time::Time;

/// Answers questions to plans: worker processes, or an engine in this one.
pub type PlanEvaluator<'a> =
    dyn Fn(&PlanCall<'_>) -> Result<Decision, ScriptError> + Send + Sync + 'a;

/// What decides about a machine, besides the machine.
#[derive(Clone, Copy)]
pub struct DecisionContext<'a> {
    /// Its plan; the failure of looking for it.
    pub plan: Option<&'a Plan>,
    /// The catalog as TOML.
    pub catalog: &'a str,
    /// Where the bytes of an image are now, by its reference: for tags, what the tag meant when it
    /// was last looked at.
    pub resolved: &'a HashMap<String, String>,
    /// Whether the image of the order goes through a cache host; none where nobody has asked.
    pub bytes: Option<&'a crate::services::image_route::ImageRoute>,
    /// Names of images, by their references.
    pub names: &'a HashMap<String, String>,
    /// Who answers.
    pub decide: &'a PlanEvaluator<'a>,
    /// For so long, in milliseconds, a contact without a nonce is taken for a repetition of the one
    /// before.
    pub window_ms: i64,
    /// After as many boots in which the live environment did not start, the machine boots its disk;
    /// 0 for never.
    pub silent_boots_max: u32,
    /// The zone of the server's clock.
    pub zone: &'a jiff::tz::TimeZone,
    /// A new token.
    pub token: &'a (dyn Fn() -> String + Send + Sync),
}

/// What a plan answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluation {
    /// This.
    Value(Value),
    /// It has no such function.
    Undefined,
    /// It failed: why, and the event that tells of it.
    Failed(String, Box<NewEvent>),
}

impl DecisionContext<'_> {
    pub(crate) fn declared(&self) -> Declared {
        self.plan.map(|plan| plan.declared.clone()).unwrap_or_default()
    }

    /// Asks `function` of the plan of `machine`, whose state changes with the answer, and only with
    /// an answer.
    pub(crate) fn ask(
        &self,
        machine: &mut Machine,
        who: &ClientContext,
        function: &str,
        args: Vec<Value>,
    ) -> Evaluation {
        let Some(plan) = self.plan else {
            return Evaluation::Failed(
                format!("there is no plan {}", machine.plan),
                Box::new(failure(
                    machine,
                    who,
                    function,
                    &json!({ "reason": "the plan does not exist" }),
                    "does not exist",
                )),
            );
        };
        let facts = self.facts(machine, who);
        let question = PlanCall {
            name: &format!("{}.rhai", plan.name),
            text: &plan.source,
            function,
            machine: Some(&facts),
            args,
            catalog: self.catalog,
        };
        match (self.decide)(&question) {
            Ok(Decision { is_defined: false, .. }) => Evaluation::Undefined,
            Ok(decision) if !decision.state.is_object() => {
                let why = "state must be a map";
                Evaluation::Failed(
                    why.into(),
                    Box::new(failure(machine, who, function, &json!({ "reason": why }), why)),
                )
            }
            Ok(decision) if decision.state.to_string().len() > STATE_BYTES_MAX => {
                let why = "the state has grown beyond 16 KiB";
                Evaluation::Failed(
                    why.into(),
                    Box::new(failure(machine, who, function, &json!({ "reason": why }), why)),
                )
            }
            Ok(decision) => {
                machine.state = decision.state;
                Evaluation::Value(decision.value)
            }
            Err(error) => {
                let details = explain(&error, plan, function);
                Evaluation::Failed(
                    error.message.clone(),
                    Box::new(failure(machine, who, function, &details, &error.message)),
                )
            }
        }
    }

    /// A value that is not what the function is for.
    pub(crate) fn nonsense(
        &self,
        machine: &Machine,
        who: &ClientContext,
        function: &str,
        why: &str,
    ) -> (String, Box<NewEvent>) {
        let revision = self.plan.map(|plan| plan.revision);
        let details = json!({ "function": function, "reason": why, "plan": machine.plan, "revision": revision });
        (why.to_owned(), Box::new(failure(machine, who, function, &details, why)))
    }

    fn facts(&self, machine: &Machine, who: &ClientContext) -> MachineFacts {
        let mut params = self.declared().presets();
        params.extend(machine.params.clone());
        MachineFacts {
            mac: machine.mac.to_string(),
            labels: machine.labels.clone(),
            plan: machine.plan.clone(),
            params: params.into(),
            state: machine.state.clone(),
            image_ref: machine.image_ref.clone(),
            target_serial: machine.target_serial.clone(),
            disks: machine.disks.clone().unwrap_or_else(|| Value::Array(Vec::new())),
            hardware: machine.hardware.clone(),
            flashed: machine.flashed.as_ref().map_or(Value::Null, |flashed| {
                json!({ "at": flashed.at.seconds(), "image": flashed.image, "sha256": flashed.sha256, "serial": flashed.serial })
            }),
            history: machine.history.iter().map(|h| json!({ "at": h.at, "kind": h.kind })).collect(),
            discovered_at: machine.discovered_at.unwrap_or(machine.created_at).seconds(),
            inventory_at: machine.disks_at.map(Time::seconds),
            now: who.now.seconds(),
            clock: clock(who.now, self.zone),
            server: who.base.clone(),
        }
    }
}

/// A plan that remembers more than this, as JSON, is taken for one that never forgets.
const STATE_BYTES_MAX: usize = 16 << 10;

fn clock(now: Time, zone: &jiff::tz::TimeZone) -> Value {
    let local = now.timestamp().to_zoned_datetime(zone.clone());
    json!({
        "year": local.year(), "month": local.month(), "day": local.day(), "hour": local.hour(),
        "minute": local.minute(), "weekday": local.weekday().to_monday_one_offset(),
    })
}

fn explain(error: &ScriptError, plan: &Plan, function: &str) -> Value {
    let place = error.place.as_ref();
    json!({
        "plan": plan.name, "revision": plan.revision, "function": function, "reason": error.message,
        "kind": error.kind(), "hint": error.hint, "line": place.map(|p| p.line), "column": place.map(|p| p.column),
        "source": place.map(|p| p.text.trim()), "is_throw": error.cause == Cause::Throw,
    })
}

fn failure(
    machine: &Machine,
    who: &ClientContext,
    function: &str,
    details: &Value,
    why: &str,
) -> NewEvent {
    let summary = format!("{}: the plan {} failed in {function}: {why}", machine.mac, machine.plan);
    let mut details = details.clone();
    details["mac"] = machine.mac.as_str().into();
    NewEvent::new("plan.failed", machine.plan.clone(), summary)
        .by(Actor::PxeClient, who.ip.as_deref())
        .about("machine", machine.mac.as_str())
        .with(details)
}
