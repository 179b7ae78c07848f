//! A PXE contact: iPXE on a machine asks what to boot.

use serde_json::{Value, json};

use super::boot::Boot;
use super::cycle::{Cycle, Stage};
use super::pin::Pin;
use super::{ANSWERS_MAX, CachedAnswer, ClientContext, Machine, Outcome};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::plan::bundled;
use crate::domain::plan::evaluate::{DecisionContext, Evaluation};
use crate::domain::plan::params::Need;

/// A contact as the server received it.
#[derive(Clone, Debug, Default)]
pub struct Contact {
    /// Identifies this boot of the machine, if iPXE ran the bootstrap script.
    pub nonce: Option<String>,
    /// True if the machine would boot the reference's live environment, which cannot send tokens.
    pub is_tokenless: bool,
    /// True if as many machines are in the live environment as the operator allows. The machine
    /// then waits.
    pub is_full: bool,
}

/// Decides what a machine boots. A repeated contact during the same boot gets the same answer and
/// changes nothing.
#[must_use]
pub fn decide_boot(
    machine: &Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    contact: &Contact,
) -> Outcome<Boot> {
    if let Some(boot) = cached_answer(machine, context, client, contact) {
        return Outcome { machine: machine.clone(), events: Vec::new(), answer: boot };
    }
    let mut machine = machine.clone();
    machine.mark_seen(client);
    let interrupted_stage = machine.open_cycle().map(|cycle| cycle.stage);
    machine.close_cycle(Stage::Lost);
    let silent = machine.silent_boots();
    let before = machine.state.clone();
    let (mut boot, failure) = evaluate_or_stall(&mut machine, context, client, silent);
    if contact.is_full && matches!(boot, Boot::Live { .. }) {
        machine.state = before;
        boot = Boot::Firmware { reason: WAITS.into() };
    }
    open_cycle(&mut machine, client, &boot, Stage::Offered);
    if let Some(cycle) = machine.open_cycle_mut() {
        cycle.is_tokenless = contact.is_tokenless;
        cycle.silent_before = silent;
    }
    let answer = CachedAnswer {
        nonce: contact.nonce.clone(),
        ip: client.ip.clone(),
        at: client.now,
        boot: boot.clone(),
    };
    if machine.answers.len() >= ANSWERS_MAX {
        machine.answers.remove(0);
    }
    machine.answers.push(answer);
    let mut events: Vec<NewEvent> = failure.into_iter().collect();
    for event in &events {
        machine.remember_event(client.now, event.kind);
    }
    let image_name = machine.image_ref.as_ref().and_then(|image| context.names.get(image));
    events.push(offer_event(&machine, client, &boot, interrupted_stage, image_name));
    Outcome { machine, events, answer: boot }
}

/// Opens a cycle if the machine boots the live environment. Returns true if it did.
pub(super) fn open_cycle(
    machine: &mut Machine,
    client: &ClientContext,
    boot: &Boot,
    stage: Stage,
) -> bool {
    let Boot::Live { token, fallback, .. } = boot else { return false };
    machine.cycle = Some(Cycle {
        token: token.clone(),
        opened_at: client.now,
        opened_by: client.ip.clone(),
        stage,
        is_tokenless: false,
        fallback: fallback.clone(),
        has_inventory: false,
        is_inventory_unreadable: false,
        order: None,
        progress: None,
        heard_at: client.now,
        stalled_at: None,
        is_past: false,
        silent_before: 0,
    });
    true
}

/// How long a nonce identifies one boot, in milliseconds. A nonce used for longer comes from a
/// script that somebody wrote by hand.
const NONCE_MS: i64 = 10 * 60 * 1000;

/// Returns the answer to an earlier contact of the same boot.
fn cached_answer(
    machine: &Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    contact: &Contact,
) -> Option<Boot> {
    let is_recent =
        |answer: &&CachedAnswer, ms: i64| (0..ms).contains(&client.now.ms_since(answer.at));
    let same = match &contact.nonce {
        Some(_) => machine
            .answers
            .iter()
            .find(|answer| answer.nonce == contact.nonce && is_recent(answer, NONCE_MS)),
        // only the last answer: an earlier one belongs to another boot
        None => {
            let last = machine.answers.last();
            last.filter(|last| {
                last.nonce.is_none() && last.ip == client.ip && is_recent(last, context.window_ms)
            })
        }
    };
    same.map(|answer| answer.boot.clone())
}

/// Evaluates the plan, unless the machine is stalled. Stalls the machine if its plan boots a live
/// environment that did not start in the last `silent` boots.
fn evaluate_or_stall(
    machine: &mut Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    silent: u32,
) -> (Boot, Option<NewEvent>) {
    if machine.is_stalled() {
        return (Boot::Failed { reason: STALLED.into() }, None);
    }
    let before = machine.state.clone();
    let (boot, failure) = evaluate_boot(machine, context, client);
    let is_limit_reached = context.silent_boots_max > 0 && silent >= context.silent_boots_max;
    if !is_limit_reached || !matches!(boot, Boot::Live { .. }) {
        return (boot, failure);
    }
    machine.state = before;
    if let Some(cycle) = &mut machine.cycle {
        cycle.stage = Stage::Stalled;
        cycle.stalled_at = Some(client.now);
    }
    let reason = format!(
        "the live environment did not start in {silent} boots; the machine boots its disk until an \
         operator saves it"
    );
    let event = NewEvent::new(
        "machine.boot_failed",
        machine.mac.as_str(),
        format!("{}: {reason}", machine.mac),
    )
    .by(Actor::PxeClient, client.ip.as_deref())
    .with(json!({ "reason": reason, "boot_mode": machine.plan, "boots": silent }));
    (Boot::Failed { reason: STALLED.into() }, Some(event))
}

/// The message on the console of a machine that waits for others.
const WAITS: &str = "waiting: the server lets no more machines work at once; the next network boot \
                     tries again";

/// The message on the console of a stalled machine.
const STALLED: &str =
    "stalled: the live environment did not start; save this machine on the server to try again";

/// Evaluates `boot(m)`. If it fails, records the failure, and the machine boots its disk, or asks a
/// person if the plan declares that.
pub(super) fn evaluate_boot(
    machine: &mut Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
) -> (Boot, Option<NewEvent>) {
    if let Some(hold) = &machine.hold {
        return (Boot::Failed { reason: on_hold(hold) }, None);
    }
    let before = machine.state.clone();
    let (reason, event) = match context.evaluate(machine, client, "boot", Vec::new()) {
        Evaluation::Value(value) => match parse_boot(&value, context) {
            Ok(boot) => return hold_if_pinned(machine, context, client, boot),
            Err(why) => context.invalid_value(machine, client, "boot", &why),
        },
        Evaluation::Undefined => {
            context.invalid_value(machine, client, "boot", "boot(m) is not defined")
        }
        Evaluation::Failed(reason, event) => (reason, event),
    };
    machine.state = before;
    let boot = if context.declared().asks_person_on_failure() {
        Boot::Live { token: (context.token)(), arguments: String::new(), fallback: Some(reason) }
    } else {
        Boot::Failed { reason }
    };
    (boot, Some(*event))
}

/// Puts the machine on hold if it would boot to be flashed with a version of its image that is no
/// longer available.
fn hold_if_pinned(
    machine: &mut Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    boot: Boot,
) -> (Boot, Option<NewEvent>) {
    let needs_image = context.declared().needs.contains(&Need::Image);
    let gone = context.pin(machine).filter(|pin| pin.src.is_none());
    match gone.filter(|_| needs_image && matches!(boot, Boot::Live { .. })) {
        None => (boot, None),
        Some(Pin { reason, .. }) => {
            let event = hold(machine, client, reason.clone());
            (Boot::Failed { reason: on_hold(&reason) }, Some(event))
        }
    }
}

/// Puts the machine on hold, and returns the event that records it.
pub(super) fn hold(machine: &mut Machine, client: &ClientContext, reason: String) -> NewEvent {
    let summary = format!("{}: on hold: {reason}", machine.mac);
    let details = json!({ "reason": reason, "boot_mode": machine.plan });
    machine.hold = Some(reason);
    NewEvent::new("machine.boot_failed", machine.mac.as_str(), summary)
        .by(Actor::PxeClient, client.ip.as_deref())
        .with(details)
}

/// Returns the message on the console of a machine on hold.
fn on_hold(reason: &str) -> String {
    format!("on hold: {reason}; save its assignment on the server to release it")
}

/// Reads the value of `boot(m)`.
///
/// # Errors
/// What is wrong with it, as one sentence.
pub fn parse_boot(value: &Value, context: &DecisionContext<'_>) -> Result<Boot, String> {
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    match value["boot"].as_str() {
        Some("disk") => Ok(Boot::Disk { reason: text("reason") }),
        Some("live") => {
            let arguments = text("arguments").unwrap_or_default();
            check_arguments(&arguments)?;
            Ok(Boot::Live { token: (context.token)(), arguments, fallback: None })
        }
        Some("firmware") => Ok(Boot::Firmware { reason: text("reason").unwrap_or_default() }),
        Some("chain") => {
            let address = text("address").unwrap_or_default();
            let url: url::Url =
                address.parse().map_err(|e| format!("boot_chain({address:?}): {e}"))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(format!(
                    "boot_chain({address:?}): expected an address that begins with http:// or \
                     https://"
                ));
            }
            Ok(Boot::Chain { address: url.to_string() })
        }
        _ => Err("boot(m) must return boot_disk(), boot_live(), boot_firmware(why) or \
             boot_chain(address)"
            .into()),
    }
}

/// Kernels truncate longer command lines.
const ARGUMENTS_BYTES_MAX: usize = 1024;

/// Checks kernel arguments, which become part of an iPXE script.
///
/// # Errors
/// The problem, as one sentence: too long, a character that a script could interpret, or an
/// argument that only the server may set.
pub fn check_arguments(arguments: &str) -> Result<(), String> {
    if arguments.len() > ARGUMENTS_BYTES_MAX {
        return Err(format!("kernel arguments must be at most {ARGUMENTS_BYTES_MAX} bytes"));
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " .,:;=_-+/@%*[]\"'".contains(c);
    match arguments.chars().find(|c| !is_plain(*c)) {
        Some(c) => Err(format!("kernel arguments must not contain {c:?}")),
        None if arguments.split(' ').any(is_reserved) => {
            Err("only the server sets --, --- and kernel arguments that begin with bty., except \
                 bty.environment= and bty.ssh_key="
                .into())
        }
        None => Ok(()),
    }
}

/// Arguments of the live environment that operators and plans may set. Only the server sets the
/// others.
const SETTABLE_ARGUMENTS: [&str; 2] = ["bty.environment=", "bty.ssh_key="];

fn is_reserved(word: &str) -> bool {
    let is_open = SETTABLE_ARGUMENTS.iter().any(|open| word.starts_with(open));
    (word.starts_with("bty.") && !is_open) || word == "---" || word == "--"
}

/// Returns the `offer_kind` of the event, in the vocabulary of the reference.
fn offer_kind(machine: &Machine, boot: &Boot) -> String {
    match boot {
        Boot::Live { .. } => machine.plan.clone(),
        Boot::Disk { .. } if machine.plan == bundled::IPXE_EXIT => machine.plan.clone(),
        Boot::Disk { .. } => format!("{}-sanboot", machine.plan),
        Boot::Firmware { reason } if reason == "no_image" => "unknown".into(),
        Boot::Firmware { .. } | Boot::Failed { .. } => "exit-fallback".into(),
        Boot::Chain { .. } => "chain".into(),
    }
}

fn offer_event(
    machine: &Machine,
    client: &ClientContext,
    boot: &Boot,
    interrupted_stage: Option<Stage>,
    image_name: Option<&String>,
) -> NewEvent {
    let (offer, reason) = match boot {
        Boot::Disk { reason } => ("disk", reason.clone()),
        Boot::Live { .. } => ("live", None),
        Boot::Firmware { reason } => ("firmware", Some(reason.clone())),
        Boot::Chain { .. } => ("chain", None),
        Boot::Failed { reason } => ("failed", Some(reason.clone())),
    };
    let is_live = matches!(boot, Boot::Live { .. });
    let is_disk = matches!(boot, Boot::Disk { .. });
    let interrupted = interrupted_stage.is_some() && is_live;
    let is_inventory = machine.plan == bundled::INVENTORY;
    let flag = |is: bool| is.then_some(true);
    let kind = offer_kind(machine, boot);
    NewEvent::new("netboot.pxe.offered", machine.mac.as_str(), format!("{}: {kind}", machine.mac))
        .by(Actor::PxeClient, client.ip.as_deref())
        .with(json!({
            "boot_mode": machine.plan, "offer": offer, "offer_kind": kind, "reason": reason,
            "sanboot_drive": machine.sanboot_drive, "bty_image_ref": machine.image_ref,
            "image_name": image_name,
            "target_disk_serial": machine.target_serial,
            "after_inventory": flag(is_disk && is_inventory),
            "sanboot_after_flash": flag(
                is_disk && machine.flashed.is_some() && !is_inventory
                    && machine.plan != bundled::IPXE_EXIT
            ),
            "retry_after_armed_no_done": flag(interrupted && !is_inventory),
            "retry_after_armed_no_post": flag(interrupted && is_inventory),
        }))
}
