//! The order of a boot cycle: what the live environment has to do.

use bty_script::AssignedDisk;
use serde_json::{Value, json};

use super::contact::{evaluate_boot, hold, open_cycle};
use super::pin::Pin;
use super::{ClientContext, Machine, OrderSummary, Outcome, Stage};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::image_route::ImageRoute;
use crate::domain::plan::evaluate::{DecisionContext, Evaluation};

/// What a live environment has to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// The kind of work.
    pub mode: Mode,
    /// The value of `plan(m)`, with which the live environment calls `run(p)`.
    pub value: Value,
    /// Token of the boot cycle; empty for clients that must not learn it.
    pub token: String,
    /// Why the order differs from the plan's value.
    pub reason: Option<String>,
}

impl Order {
    /// The disk to write, if the order names one.
    #[must_use]
    pub fn disk(&self) -> Option<AssignedDisk> {
        AssignedDisk::from_plan(&self.value["disk"]).ok().flatten()
    }
}

/// The kind of work in a live environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Write an image to a disk.
    Flash,
    /// Ask a person what to do.
    Interactive,
    /// Post the inventory, then reboot.
    Inventory,
    /// Reboot without other work.
    Exit,
    /// Run the plan's `run(p)`, which does something else.
    Script,
}

impl Mode {
    /// The name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flash => "flash",
            Self::Interactive => "interactive",
            Self::Inventory => "inventory",
            Self::Exit => "exit",
            Self::Script => "script",
        }
    }
}

/// Decides what the live environment of `machine` has to do. `token` comes from its kernel command
/// line, if it has one.
#[must_use]
pub fn decide_order(
    machine: &Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    token: Option<&str>,
) -> Outcome<Order> {
    let mut machine = machine.clone();
    machine.mark_seen(client);
    let mut events = Vec::new();
    let answer = match cycle_match(&machine, token) {
        CycleMatch::Open => evaluate_order(&mut machine, context, client, token, &mut events),
        CycleMatch::None => match open_cycle_by_plan(&mut machine, context, client, &mut events) {
            true => evaluate_order(&mut machine, context, client, None, &mut events),
            false => empty_order(Mode::Exit, None),
        },
        // repeating an order for an inventory is harmless: the machine reboots
        CycleMatch::Done | CycleMatch::Failed if is_inventory(&machine) => {
            empty_order(Mode::Inventory, None)
        }
        CycleMatch::Done => {
            empty_order(Mode::Exit, Some("this boot's order has already been carried out".into()))
        }
        CycleMatch::Failed => interactive_order(
            client,
            "this boot's order has already failed; the next network boot tries again".into(),
        ),
        CycleMatch::Foreign => interactive_order(
            client,
            "this boot is over: the machine has booted again since".into(),
        ),
    };
    machine.close_after_inventory();
    for event in &events {
        machine.remember_event(client.now, event.kind);
    }
    events.push(order_event(&machine, client, &answer));
    Outcome { machine, events, answer }
}

fn is_inventory(machine: &Machine) -> bool {
    machine
        .cycle
        .as_ref()
        .and_then(|cycle| cycle.order.as_ref())
        .is_some_and(|order| order.mode == "inventory")
}

/// How a request relates to the machine's boot cycle.
enum CycleMatch {
    /// It belongs to the open cycle.
    Open,
    /// It belongs to no cycle: no contact has sent the machine to the live environment, or an
    /// operator has saved it since.
    None,
    /// It belongs to a completed cycle.
    Done,
    /// It belongs to a failed cycle.
    Failed,
    /// It belongs to a cycle other than the machine's.
    Foreign,
}

fn cycle_match(machine: &Machine, token: Option<&str>) -> CycleMatch {
    let Some(cycle) = &machine.cycle else {
        return if token.is_some() { CycleMatch::Foreign } else { CycleMatch::None };
    };
    match token {
        Some(token) if !crate::domain::secret::is_same(token, &cycle.token) => CycleMatch::Foreign,
        Some(_) => match cycle.stage {
            Stage::Done => CycleMatch::Done,
            Stage::Failed => CycleMatch::Failed,
            Stage::Lost | Stage::Stalled => CycleMatch::Foreign,
            Stage::Superseded => CycleMatch::None,
            _ => CycleMatch::Open,
        },
        None if cycle.stage.is_open() => CycleMatch::Open,
        None => CycleMatch::None,
    }
}

/// Handles a live environment that no contact has started: opens a cycle if the plan would have
/// sent the machine to it. Returns true if it did.
fn open_cycle_by_plan(
    machine: &mut Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    events: &mut Vec<NewEvent>,
) -> bool {
    let (boot, failure) = evaluate_boot(machine, context, client);
    events.extend(failure);
    open_cycle(machine, client, &boot, Stage::Booting)
}

fn evaluate_order(
    machine: &mut Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    token: Option<&str>,
    events: &mut Vec<NewEvent>,
) -> Order {
    if let Some(why) = machine.open_cycle().and_then(|cycle| cycle.fallback.clone()) {
        // do not evaluate plan(m): after boot(m) has failed, nothing may be written
        return attach_to_cycle(machine, client, token, interactive_order(client, why));
    }
    let before = machine.state.clone();
    let (order, failure) = match context.evaluate(machine, client, "plan", Vec::new()) {
        Evaluation::Value(value) => {
            match parse_order(value, context).and_then(|order| check_disk(machine, order)) {
                Ok(mut order) => {
                    mark_proven_disk(machine, context, &mut order);
                    keep_version(machine, context, client, order)
                }
                Err(why) => {
                    machine.state = before;
                    let (reason, event) = context.invalid_value(machine, client, "plan", &why);
                    (interactive_order(client, reason), Some(event))
                }
            }
        }
        Evaluation::Undefined => (empty_order(Mode::Exit, None), None),
        Evaluation::Failed(reason, event) => (interactive_order(client, reason), Some(event)),
    };
    events.extend(failure.map(|event| *event));
    attach_to_cycle(machine, client, token, order)
}

/// Tells the live environment that the disk of the order has passed a full proof, if the operator
/// allows a shorter proof of such disks.
fn mark_proven_disk(machine: &Machine, context: &DecisionContext<'_>, order: &mut Order) {
    let has_proven =
        |serial: &str| machine.flashed.as_ref().is_some_and(|flashed| flashed.has_proven(serial));
    let is_proven = order.value["disk"]["serial"].as_str().is_some_and(has_proven);
    if context.allows_sample_proof && is_proven && order.value["image"].is_object() {
        order.value["image"]["proven_disk"] = true.into();
    }
}

/// Orders the version of the image that the machine keeps. If that version is no longer available,
/// puts the machine on hold and orders nothing.
fn keep_version(
    machine: &mut Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    mut order: Order,
) -> (Order, Option<Box<NewEvent>>) {
    let image = &order.value["image"]["ref"];
    let is_assigned = machine.image_ref.is_some() && machine.image_ref.as_deref() == image.as_str();
    match context.pin(machine).filter(|_| is_assigned && order.mode == Mode::Flash) {
        None => (order, None),
        Some(Pin { src: Some(src), sha256, .. }) => {
            order.value["image"]["src"] = src.into();
            order.value["image"]["sha256"] = sha256.into();
            (order, None)
        }
        Some(Pin { reason, .. }) => {
            let event = hold(machine, client, reason.clone());
            (empty_order(Mode::Exit, Some(reason)), Some(Box::new(event)))
        }
    }
}

/// Records the order in the cycle, and adds the token for clients that may learn it.
fn attach_to_cycle(
    machine: &mut Machine,
    client: &ClientContext,
    token: Option<&str>,
    mut order: Order,
) -> Order {
    let Some(cycle) = machine.cycle.as_mut() else { return order };
    cycle.stage = Stage::Working;
    cycle.hear(client.now);
    cycle.order = Some(summarize(&order));
    let is_opener = cycle.opened_by == client.ip;
    // only a client that already has the token or opened the cycle gets it
    if token.is_some() || is_opener {
        order.token.clone_from(&cycle.token);
    }
    order
}

fn summarize(order: &Order) -> OrderSummary {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    OrderSummary {
        mode: order.mode.as_str().to_owned(),
        image_ref: text(&order.value["image"]["ref"]),
        image_name: text(&order.value["image"]["name"]),
        sha256: text(&order.value["image"]["sha256"]),
        index_sha256: text(&order.value["image"]["index_sha256"]),
        serial: order.disk().map(|disk| disk.to_string()),
    }
}

/// Refuses an order whose disk cannot be told from another one of the last inventory: the machine
/// would refuse it.
fn check_disk(machine: &Machine, order: Order) -> Result<Order, String> {
    match (order.disk(), &machine.disks) {
        (Some(disk), Some(disks)) if disk.count_in(disks) > 1 => Err(format!(
            "{} disks of this machine match {disk}; assign the disk by wwn:, by-path: or where:",
            disk.count_in(disks)
        )),
        _ => Ok(order),
    }
}

fn empty_order(mode: Mode, reason: Option<String>) -> Order {
    Order { mode, value: json!({}), token: String::new(), reason }
}

fn interactive_order(client: &ClientContext, reason: String) -> Order {
    let value =
        json!({ "mode": "interactive", "catalog": format!("{}/catalog.toml", client.base) });
    Order { mode: Mode::Interactive, value, token: String::new(), reason: Some(reason) }
}

/// Reads the value of `plan(m)`.
///
/// # Errors
/// What is wrong with it, as one sentence.
pub fn parse_order(mut value: Value, context: &DecisionContext<'_>) -> Result<Order, String> {
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.trim().is_empty());
    let mode = match value["mode"].as_str() {
        Some("interactive") => Mode::Interactive,
        Some("inventory") => Mode::Inventory,
        Some("exit") => Mode::Exit,
        Some(mode) => {
            return Err(format!(
                "plan(m) returned the unknown mode {mode:?}; use interactive, inventory or exit"
            ));
        }
        None if !value.is_object() => return Err("plan(m) must return a map".into()),
        None if value.get("image").is_some() || value.get("disk").is_some() => {
            if !is_text(&value["image"]["src"]) {
                return Err("plan(m) returned no image with a src".into());
            }
            if value["image"]["src"].as_str().is_some_and(bty::redact::has_credentials) {
                return Err(
                    "plan(m) returned an image whose src contains a user name or a password, and \
                     anybody can read a plan"
                        .into(),
                );
            }
            match AssignedDisk::from_plan(&value["disk"]) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    return Err("plan(m) returned no disk with a serial or a selector".into());
                }
                Err(e) => return Err(format!("plan(m) returned an invalid disk: {e}")),
            }
            Mode::Flash
        }
        None if context.plan.is_some_and(|plan| plan.declared.runs) => Mode::Script,
        None => {
            return Err(
                "plan(m) returned neither an image and a disk nor a mode, and run(p) is not defined"
                    .into(),
            );
        }
    };
    if let Some(src) = value["image"]["ref"].as_str().and_then(|image| context.resolved.get(image))
    {
        value["image"]["src"] = src.as_str().into();
    }
    if bty_script::plan::literal(&value).is_err() {
        return Err("plan(m) returned a number that scripts cannot represent".into());
    }
    Ok(Order { mode, value, token: String::new(), reason: None })
}

/// Kind of the event that records an order.
const ORDER_GIVEN: &str = "netboot.pxe.plan";

fn order_event(machine: &Machine, client: &ClientContext, order: &Order) -> NewEvent {
    let kind = match (order.mode, &order.reason) {
        (Mode::Interactive, Some(_)) => "plan:interactive:flash-unresolved".to_owned(),
        (Mode::Interactive, None) => "plan:interactive:tui".to_owned(),
        (Mode::Inventory, _) => "plan:inventory".to_owned(),
        (mode, _) => format!("plan:{}:{}", mode.as_str(), machine.plan),
    };
    let image = &order.value["image"];
    NewEvent::new(ORDER_GIVEN, machine.mac.as_str(), format!("{}: {kind}", machine.mac))
        .by(Actor::PxeClient, client.ip.as_deref())
        .with(json!({
            "boot_mode": machine.plan, "mode": order.mode.as_str(), "plan_kind": kind,
            "reason": order.reason,
            "bty_image_ref": image["ref"], "image_name": image["name"], "image": image["src"],
            "disk_image_sha": image["sha256"],
            "target_disk_serial": order.disk().map(|disk| disk.to_string()),
        }))
}

/// Lets `machine` download the image of its order through `route`, and adds the route to the
/// order's event. Changes nothing if the route is for another image.
///
/// Live environments that do not know packed images ignore the packed form.
pub fn route_image(
    machine: &mut Machine,
    order: &mut Order,
    events: &mut [NewEvent],
    route: &ImageRoute,
) {
    if order.value["image"]["src"] != route.src {
        return;
    }
    if let Some(url) = &route.url {
        order.value["image"]["src"] = url.as_str().into();
    }
    if let Some(packed) = &route.packed {
        order.value["image"]["packed"] = packed.url.as_str().into();
        order.value["image"]["index_sha256"] = packed.index_sha256.as_str().into();
        let summary = machine.cycle.as_mut().and_then(|cycle| cycle.order.as_mut());
        if let Some(summary) = summary {
            summary.index_sha256 = Some(packed.index_sha256.clone());
        }
    }
    if let Some(event) = events.iter_mut().rev().find(|event| event.kind == ORDER_GIVEN) {
        event.details["image"] = order.value["image"]["src"].clone();
        event.details["withcache"] = route.details();
    }
}
