//! The live environment asks for its plan.

use serde_json::{Value, json};

use super::contact::{decide, open_cycle};
use super::{ClientContext, Machine, OrderSummary, Outcome, Stage};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::image_route::ImageRoute;
use crate::domain::plan::evaluate::{DecisionContext, Evaluation};

/// What the live environment is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// `flash`, `interactive`, `inventory` or `exit`.
    pub mode: Mode,
    /// What `plan(m)` gave: what `run(p)` is called with.
    pub value: Value,
    /// Token of the cycle; empty when there is none.
    pub token: String,
    /// Why it is not what the plan says.
    pub reason: Option<String>,
}

/// What is done in the live environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An image is written to a disk.
    Flash,
    /// A person is asked.
    Interactive,
    /// The inventory is posted; then the machine reboots.
    Inventory,
    /// Nothing.
    Exit,
    /// What `run(p)` says, which is none of these.
    Script,
}

impl Mode {
    /// As it is written.
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

/// Decides what the live environment of `machine` is to do. `token` is what it has from its kernel
/// command line.
#[must_use]
pub fn order(
    machine: &Machine,
    rules: &DecisionContext<'_>,
    who: &ClientContext,
    token: Option<&str>,
) -> Outcome<Order> {
    let mut machine = machine.clone();
    machine.seen(who);
    let mut events = Vec::new();
    let answer = match cycle_match(&machine, token) {
        CycleMatch::Open => work(&mut machine, rules, who, token, &mut events),
        CycleMatch::None => match fresh(&mut machine, rules, who, &mut events) {
            true => work(&mut machine, rules, who, None, &mut events),
            false => nothing(Mode::Exit, None),
        },
        // asked again, it is told again what does no harm: the machine reboots
        CycleMatch::Done if is_inventory(&machine) => nothing(Mode::Inventory, None),
        CycleMatch::Done => nothing(Mode::Exit, Some("this boot's order is done".into())),
        CycleMatch::Failed => interactive(
            who,
            "this boot's order has failed already; the next network boot tries again".into(),
        ),
        CycleMatch::Foreign => {
            interactive(who, "this boot is over: the machine has booted again meanwhile".into())
        }
    };
    if machine.has_done_inventory() {
        machine.close_cycle(Stage::Done);
    }
    for event in &events {
        machine.remember(who.now, event.kind);
    }
    events.push(order_event(&machine, who, &answer));
    Outcome { machine, events, answer }
}

fn is_inventory(machine: &Machine) -> bool {
    machine
        .cycle
        .as_ref()
        .and_then(|cycle| cycle.order.as_ref())
        .is_some_and(|order| order.mode == "inventory")
}

/// How who asks stands to the cycle of the machine.
enum CycleMatch {
    /// It is its open cycle.
    Open,
    /// It has none: it was not sent here by a contact, or an operator has saved meanwhile.
    None,
    Done,
    Failed,
    /// It has another one than the machine.
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

/// A live environment that no contact has sent: what would a contact say? True when it says that
/// there is something to do.
fn fresh(
    machine: &mut Machine,
    rules: &DecisionContext<'_>,
    who: &ClientContext,
    events: &mut Vec<NewEvent>,
) -> bool {
    let (boot, failure) = decide(machine, rules, who);
    events.extend(failure);
    open_cycle(machine, who, &boot, Stage::Booting)
}

fn work(
    machine: &mut Machine,
    rules: &DecisionContext<'_>,
    who: &ClientContext,
    token: Option<&str>,
    events: &mut Vec<NewEvent>,
) -> Order {
    if let Some(why) = machine.open_cycle().and_then(|cycle| cycle.fallback.clone()) {
        // whatever plan(m) says: nothing is written after boot(m) has failed
        return with_cycle(machine, who, token, interactive(who, why));
    }
    let before = machine.state.clone();
    let (order, failure) = match rules.ask(machine, who, "plan", Vec::new()) {
        Evaluation::Value(value) => match understand(value, rules) {
            Ok(order) => (order, None),
            Err(why) => {
                machine.state = before;
                let (reason, event) = rules.nonsense(machine, who, "plan", &why);
                (interactive(who, reason), Some(event))
            }
        },
        Evaluation::Undefined => (nothing(Mode::Exit, None), None),
        Evaluation::Failed(reason, event) => (interactive(who, reason), Some(event)),
    };
    events.extend(failure.map(|event| *event));
    with_cycle(machine, who, token, order)
}

/// Takes note of the order in the cycle, and of the cycle in the order.
fn with_cycle(
    machine: &mut Machine,
    who: &ClientContext,
    token: Option<&str>,
    mut order: Order,
) -> Order {
    let Some(cycle) = machine.cycle.as_mut() else { return order };
    cycle.stage = Stage::Working;
    cycle.heard_at = who.now;
    cycle.order = Some(ordered(&order));
    let is_opener = cycle.opened_by == who.ip;
    // the token is for who has it already, and for who opened the cycle
    if token.is_some() || is_opener {
        order.token.clone_from(&cycle.token);
    }
    order
}

fn ordered(order: &Order) -> OrderSummary {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    OrderSummary {
        mode: order.mode.as_str().to_owned(),
        image_ref: text(&order.value["image"]["ref"]),
        image_name: text(&order.value["image"]["name"]),
        sha256: text(&order.value["image"]["sha256"]),
        serial: text(&order.value["disk"]["serial"]),
    }
}

fn nothing(mode: Mode, reason: Option<String>) -> Order {
    Order { mode, value: json!({}), token: String::new(), reason }
}

fn interactive(who: &ClientContext, reason: String) -> Order {
    let value = json!({ "mode": "interactive", "catalog": format!("{}/catalog.toml", who.base) });
    Order { mode: Mode::Interactive, value, token: String::new(), reason: Some(reason) }
}

fn understand(mut value: Value, rules: &DecisionContext<'_>) -> Result<Order, String> {
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.trim().is_empty());
    let mode = match value["mode"].as_str() {
        Some("interactive") => Mode::Interactive,
        Some("inventory") => Mode::Inventory,
        Some("exit") => Mode::Exit,
        Some(mode) => {
            return Err(format!(
                "plan(m) gave the mode {mode:?}; there are interactive, inventory and exit"
            ));
        }
        None if !value.is_object() => return Err("plan(m) must give a map".into()),
        None if value.get("image").is_some() || value.get("disk").is_some() => {
            if !is_text(&value["image"]["src"]) {
                return Err("plan(m) gave no image with a src".into());
            }
            if value["image"]["src"].as_str().is_some_and(bty::redact::has_credentials) {
                return Err(
                    "plan(m) gave an image whose src has a user or a password, and everybody can read a plan".into()
                );
            }
            if !is_text(&value["disk"]["serial"]) {
                return Err("plan(m) gave no disk with a serial".into());
            }
            Mode::Flash
        }
        None if rules.plan.is_some_and(|plan| plan.declared.runs) => Mode::Script,
        None => {
            return Err(
                "plan(m) gave neither an image and a disk nor a mode, and there is no run(p)"
                    .into(),
            );
        }
    };
    if let Some(src) = value["image"]["ref"].as_str().and_then(|image| rules.resolved.get(image)) {
        value["image"]["src"] = src.as_str().into();
    }
    if bty_script::plan::literal(&value).is_err() {
        return Err("plan(m) gave a number that no script can hold".into());
    }
    Ok(Order { mode, value, token: String::new(), reason: None })
}

/// Kind of the event that records an order.
const ORDER_GIVEN: &str = "netboot.pxe.plan";

fn order_event(machine: &Machine, who: &ClientContext, order: &Order) -> NewEvent {
    let kind = match (order.mode, &order.reason) {
        (Mode::Interactive, Some(_)) => "plan:interactive:flash-unresolved".to_owned(),
        (Mode::Interactive, None) => "plan:interactive:tui".to_owned(),
        (Mode::Inventory, _) => "plan:inventory".to_owned(),
        (mode, _) => format!("plan:{}:{}", mode.as_str(), machine.plan),
    };
    let image = &order.value["image"];
    NewEvent::new(ORDER_GIVEN, machine.mac.as_str(), format!("{}: {kind}", machine.mac))
        .by(Actor::PxeClient, who.ip.as_deref())
        .with(json!({
            "boot_mode": machine.plan, "mode": order.mode.as_str(), "plan_kind": kind, "reason": order.reason,
            "bty_image_ref": image["ref"], "image_name": image["name"], "image": image["src"],
            "disk_image_sha": image["sha256"], "target_disk_serial": order.value["disk"]["serial"],
        }))
}

/// Lets the machine download the image of its order by `route`, and notes that in the event of the
/// order. Changes nothing when the image is another one than that of the route.
pub fn route_image(order: &mut Order, events: &mut [NewEvent], route: &ImageRoute) {
    if order.value["image"]["src"] != route.src {
        return;
    }
    if let Some(url) = &route.url {
        order.value["image"]["src"] = url.as_str().into();
    }
    if let Some(event) = events.iter_mut().rev().find(|event| event.kind == ORDER_GIVEN) {
        event.details["image"] = order.value["image"]["src"].clone();
        event.details["withcache"] = route.details();
    }
}
