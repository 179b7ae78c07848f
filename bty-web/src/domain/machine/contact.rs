//! A PXE contact: a machine asks what iPXE is to do now.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ANSWERS_MAX, CachedAnswer, ClientContext, Cycle, Machine, Outcome, Stage};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::plan::bundled;
use crate::domain::plan::evaluate::{DecisionContext, Evaluation};

/// What iPXE does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "boot", rename_all = "lowercase")]
pub enum Boot {
    /// Boots the disk.
    Disk {
        /// Why, for people.
        reason: Option<String>,
    },
    /// Boots the live environment.
    Live {
        /// Token of the cycle.
        token: String,
        /// Further words on the kernel command line.
        arguments: String,
        /// Why a person is asked instead of the plan: it has failed.
        fallback: Option<String>,
    },
    /// Hands back to the firmware.
    Firmware {
        /// Why, for people.
        reason: String,
    },
    /// Goes on with another script.
    Chain {
        /// Where it is.
        address: String,
    },
    /// Shows what went wrong, and boots the disk.
    Failed {
        /// What.
        reason: String,
    },
}

/// A contact as it came.
#[derive(Clone, Debug, Default)]
pub struct Contact {
    /// What tells this boot of the machine from others, if iPXE came by the bootstrap script.
    pub nonce: Option<String>,
    /// The live environment that the machine is offered knows no tokens: the reference's.
    pub is_tokenless: bool,
}

/// Decides a contact. A contact that is repeated within one boot changes nothing.
#[must_use]
pub fn contact(
    machine: &Machine,
    rules: &DecisionContext<'_>,
    who: &ClientContext,
    contact: &Contact,
) -> Outcome<Boot> {
    if let Some(boot) = repeated(machine, rules, who, contact) {
        return Outcome { machine: machine.clone(), events: Vec::new(), answer: boot };
    }
    let mut machine = machine.clone();
    machine.seen(who);
    let unfinished = machine.open_cycle().map(|cycle| cycle.stage);
    machine.close_cycle(Stage::Lost);
    let silent = machine.silent_boots();
    let (boot, failure) = decide_or_stall(&mut machine, rules, who, silent);
    open_cycle(&mut machine, who, &boot, Stage::Offered);
    if let Some(cycle) = machine.open_cycle_mut() {
        cycle.is_tokenless = contact.is_tokenless;
        cycle.silent_before = silent;
    }
    let answered = CachedAnswer {
        nonce: contact.nonce.clone(),
        ip: who.ip.clone(),
        at: who.now,
        boot: boot.clone(),
    };
    if machine.answers.len() >= ANSWERS_MAX {
        machine.answers.remove(0);
    }
    machine.answers.push(answered);
    let mut events: Vec<NewEvent> = failure.into_iter().collect();
    for event in &events {
        machine.remember(who.now, event.kind);
    }
    let image_name = machine.image_ref.as_ref().and_then(|image| rules.names.get(image));
    events.push(offered(&machine, who, &boot, unfinished, image_name));
    Outcome { machine, events, answer: boot }
}

/// Opens a cycle, if the machine is sent to the live environment.
pub(super) fn open_cycle(
    machine: &mut Machine,
    who: &ClientContext,
    boot: &Boot,
    stage: Stage,
) -> bool {
    let Boot::Live { token, fallback, .. } = boot else { return false };
    machine.cycle = Some(Cycle {
        token: token.clone(),
        opened_at: who.now,
        opened_by: who.ip.clone(),
        stage,
        is_tokenless: false,
        fallback: fallback.clone(),
        has_inventory: false,
        order: None,
        progress: None,
        heard_at: who.now,
        is_past: false,
        silent_before: 0,
    });
    true
}

/// A nonce that comes again after so long, in milliseconds, is one that somebody has written into a
/// script of their own.
const NONCE_MS: i64 = 10 * 60 * 1000;

/// The answer that this boot of the machine has been given already.
fn repeated(
    machine: &Machine,
    rules: &DecisionContext<'_>,
    who: &ClientContext,
    contact: &Contact,
) -> Option<Boot> {
    let is_near = |answer: &&CachedAnswer, ms: i64| (0..ms).contains(&who.now.ms_since(answer.at));
    let same = match &contact.nonce {
        Some(_) => machine
            .answers
            .iter()
            .find(|answer| answer.nonce == contact.nonce && is_near(answer, NONCE_MS)),
        // only the last one: whatever came between was another boot
        None => {
            let last = machine.answers.last();
            last.filter(|last| {
                last.nonce.is_none() && last.ip == who.ip && is_near(last, rules.window_ms)
            })
        }
    };
    same.map(|answer| answer.boot.clone())
}

/// What the plan says; but a machine whose live environment never starts is not sent there for
/// ever.
fn decide_or_stall(
    machine: &mut Machine,
    rules: &DecisionContext<'_>,
    who: &ClientContext,
    silent: u32,
) -> (Boot, Option<NewEvent>) {
    if machine.is_stalled() {
        return (Boot::Failed { reason: STALLED.into() }, None);
    }
    let before = machine.state.clone();
    let (boot, failure) = decide(machine, rules, who);
    let is_too_often = rules.silent_boots_max > 0 && silent >= rules.silent_boots_max;
    if !is_too_often || !matches!(boot, Boot::Live { .. }) {
        return (boot, failure);
    }
    machine.state = before;
    if let Some(cycle) = &mut machine.cycle {
        cycle.stage = Stage::Stalled;
    }
    let reason = format!(
        "the live environment did not start in {silent} boots; the machine boots its disk until it is saved"
    );
    let event = NewEvent::new(
        "machine.boot_failed",
        machine.mac.as_str(),
        format!("{}: {reason}", machine.mac),
    )
    .by(Actor::PxeClient, who.ip.as_deref())
    .with(json!({ "reason": reason, "boot_mode": machine.plan, "boots": silent }));
    (Boot::Failed { reason: STALLED.into() }, Some(event))
}

/// What a stalled machine shows.
const STALLED: &str =
    "stalled: the live environment did not start; save this machine on the server to try again";

/// What the plan says, or what is safe when it says nothing.
pub(super) fn decide(
    machine: &mut Machine,
    rules: &DecisionContext<'_>,
    who: &ClientContext,
) -> (Boot, Option<NewEvent>) {
    if let Some(hold) = &machine.hold {
        return (Boot::Failed { reason: format!("on hold until it is saved: {hold}") }, None);
    }
    let before = machine.state.clone();
    let (reason, event) = match rules.ask(machine, who, "boot", Vec::new()) {
        Evaluation::Value(value) => match understand(&value, rules) {
            Ok(boot) => return (boot, None),
            Err(why) => rules.nonsense(machine, who, "boot", &why),
        },
        Evaluation::Undefined => rules.nonsense(machine, who, "boot", "it does not define boot(m)"),
        Evaluation::Failed(reason, event) => (reason, event),
    };
    machine.state = before;
    let boot = if rules.declared().asks_person_on_failure() {
        Boot::Live { token: (rules.token)(), arguments: String::new(), fallback: Some(reason) }
    } else {
        Boot::Failed { reason }
    };
    (boot, Some(*event))
}

fn understand(value: &Value, rules: &DecisionContext<'_>) -> Result<Boot, String> {
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    match value["boot"].as_str() {
        Some("disk") => Ok(Boot::Disk { reason: text("reason") }),
        Some("live") => {
            let arguments = text("arguments").unwrap_or_default();
            check_arguments(&arguments)?;
            Ok(Boot::Live { token: (rules.token)(), arguments, fallback: None })
        }
        Some("firmware") => Ok(Boot::Firmware { reason: text("reason").unwrap_or_default() }),
        Some("chain") => {
            let address = text("address").unwrap_or_default();
            let url: url::Url =
                address.parse().map_err(|e| format!("boot_chain({address:?}): {e}"))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(format!(
                    "boot_chain({address:?}): only http:// and https:// can be chained to"
                ));
            }
            Ok(Boot::Chain { address: url.to_string() })
        }
        _ => Err(
            "boot(m) must give boot_disk(), boot_live(), boot_firmware(why) or boot_chain(address)"
                .into(),
        ),
    }
}

/// Longer kernel command lines are cut by kernels.
const ARGUMENTS_BYTES_MAX: usize = 1024;

/// Words of a kernel command line go into a script: they are plain words, or they are refused.
///
/// # Errors
/// One sentence.
pub fn check_arguments(arguments: &str) -> Result<(), String> {
    if arguments.len() > ARGUMENTS_BYTES_MAX {
        return Err(format!("kernel arguments have at most {ARGUMENTS_BYTES_MAX} bytes"));
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " .,:;=_-+/@%*[]\"'".contains(c);
    match arguments.chars().find(|c| !is_plain(*c)) {
        Some(c) => Err(format!("kernel arguments cannot have {c:?}")),
        None if arguments.split(' ').any(is_own_word) => {
            Err("kernel arguments that begin with bty. are the server's own, except bty.environment= and bty.ssh_key="
                .into())
        }
        None => Ok(()),
    }
}

/// Words of the live environment that an operator or a plan sets. The server sets the others.
const OPEN_WORDS: [&str; 2] = ["bty.environment=", "bty.ssh_key="];

fn is_own_word(word: &str) -> bool {
    let is_open = OPEN_WORDS.iter().any(|open| word.starts_with(open));
    (word.starts_with("bty.") && !is_open) || word == "---" || word == "--"
}

/// What kind of answer it is, in the words of the log.
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

fn offered(
    machine: &Machine,
    who: &ClientContext,
    boot: &Boot,
    unfinished: Option<Stage>,
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
    let interrupted = unfinished.is_some() && is_live;
    let is_inventory = machine.plan == bundled::INVENTORY;
    let flag = |is: bool| is.then_some(true);
    let kind = offer_kind(machine, boot);
    NewEvent::new("netboot.pxe.offered", machine.mac.as_str(), format!("{}: {kind}", machine.mac))
        .by(Actor::PxeClient, who.ip.as_deref())
        .with(json!({
            "boot_mode": machine.plan, "offer": offer, "offer_kind": kind, "reason": reason,
            "sanboot_drive": machine.sanboot_drive, "bty_image_ref": machine.image_ref,
            "image_name": image_name,
            "target_disk_serial": machine.target_serial,
            "after_inventory": flag(is_disk && is_inventory),
            "sanboot_after_flash": flag(is_disk && machine.flashed.is_some() && !is_inventory && machine.plan != bundled::IPXE_EXIT),
            "retry_after_armed_no_done": flag(interrupted && !is_inventory),
            "retry_after_armed_no_post": flag(interrupted && is_inventory),
        }))
}
