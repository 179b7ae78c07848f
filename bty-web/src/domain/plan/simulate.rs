//! Simulates the next network boots of a machine: the same rules, applied to a copy of it.

use bty_script::plan::{FlashedDisk, Report};
use serde::Serialize;
use serde_json::Value;

use super::evaluate::DecisionContext;
use crate::domain::machine::boot::Boot;
use crate::domain::machine::contact::{Contact, decide_boot};
use crate::domain::machine::order::{Mode, decide_order};
use crate::domain::machine::report::{PostedInventory, apply_inventory, apply_report};
use crate::domain::machine::{ClientContext, Machine};

/// Maximum number of simulated boots.
pub const BOOTS_MAX: u32 = 50;

/// Time between simulated boots in milliseconds. With an hour, a boot is not a repetition of the
/// previous one, and boots fall both inside and outside a plan's time window.
const BETWEEN_MS: i64 = 3_600_000;

/// One simulated network boot.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Step {
    /// Its number, from 1.
    pub boot: u32,
    /// What iPXE boots: `disk`, `live`, `firmware`, `chain` or `failed`.
    pub offer: &'static str,
    /// The reason that the plan gives.
    pub reason: Option<String>,
    /// The mode of the order: `flash`, `interactive`, `inventory`, `exit` or `script`.
    pub mode: Option<&'static str>,
    /// Name or URL of the image that would be written.
    pub image: Option<String>,
    /// SHA-256 of the image.
    pub sha256: Option<String>,
    /// Serial number of the disk that would be written, or its selector.
    pub disk: Option<String>,
    /// Kinds of the events that the server would record.
    pub events: Vec<String>,
}

impl Step {
    /// True if the boot would write to a disk, or runs a script that may do so.
    #[must_use]
    pub fn writes(&self) -> bool {
        matches!(self.mode, Some("flash" | "script"))
    }

    /// Returns a short description of the step.
    #[must_use]
    pub fn words(&self) -> String {
        match (self.mode, &self.image) {
            (Some("flash"), Some(image)) => format!("flash {image}"),
            (Some("script"), _) => "run the plan's script".into(),
            (Some("interactive"), _) => "ask a person".into(),
            (Some("inventory"), _) => "take the inventory".into(),
            (Some(mode), _) => mode.to_owned(),
            (None, _) => match self.offer {
                "disk" => "boot the disk".into(),
                "firmware" => "return to the firmware".into(),
                "chain" => "chainload another address".into(),
                "failed" => "show the error and boot the disk".into(),
                other => other.to_owned(),
            },
        }
    }
}

/// Simulates `boots` network boots, all of which succeed.
#[must_use]
pub fn simulate(
    machine: &Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    boots: u32,
) -> Vec<Step> {
    let mut machine = machine.clone();
    let mut client = client.clone();
    let mut steps = Vec::new();
    for boot in 1..=boots.min(BOOTS_MAX) {
        let (after, step) = simulate_boot(&machine, context, &client, boot);
        machine = after;
        steps.push(step);
        client.now = client.now.plus_ms(BETWEEN_MS);
    }
    steps
}

/// Returns what the next network boot of `machine` does, without simulating that it succeeds.
#[must_use]
pub fn next_boot(machine: &Machine, context: &DecisionContext<'_>, client: &ClientContext) -> Step {
    begin_boot(machine, context, client, 1).step
}

/// A simulated boot, up to the order of the live environment.
struct BegunBoot {
    machine: Machine,
    step: Step,
    /// Token and order of its boot cycle.
    order: Option<(String, Mode, Value)>,
}

fn begin_boot(
    machine: &Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    boot: u32,
) -> BegunBoot {
    let nonce = Some(format!("simulated-{boot}"));
    let contacted = decide_boot(machine, context, client, &Contact { nonce, ..Contact::default() });
    let (offer, reason, token) = match contacted.answer {
        Boot::Disk { reason } => ("disk", reason, None),
        Boot::Live { token, fallback, .. } => ("live", fallback, Some(token)),
        Boot::Firmware { reason } => ("firmware", Some(reason), None),
        Boot::Chain { address } => ("chain", Some(address), None),
        Boot::Failed { reason } => ("failed", Some(reason), None),
    };
    let mut events: Vec<String> =
        contacted.events.iter().map(|event| event.kind.to_owned()).collect();
    let mut step = Step {
        boot,
        offer,
        reason,
        mode: None,
        image: None,
        sha256: None,
        disk: None,
        events: Vec::new(),
    };
    let (mut machine, mut order) = (contacted.machine, None);
    if let Some(token) = token {
        let ordered = decide_order(&machine, context, client, Some(&token));
        events.extend(ordered.events.iter().map(|event| event.kind.to_owned()));
        machine = ordered.machine;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let value = &ordered.answer.value;
        step.mode = Some(ordered.answer.mode.as_str());
        step.image = text(&value["image"]["name"]).or_else(|| text(&value["image"]["src"]));
        step.sha256 = text(&value["image"]["sha256"]);
        step.disk = ordered.answer.disk().map(|disk| disk.to_string());
        step.reason = step.reason.or(ordered.answer.reason.clone());
        order = Some((token, ordered.answer.mode, ordered.answer.value));
    }
    step.events = events;
    BegunBoot { machine, step, order }
}

fn simulate_boot(
    machine: &Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    boot: u32,
) -> (Machine, Step) {
    let BegunBoot { machine, mut step, order } = begin_boot(machine, context, client, boot);
    let Some((token, mode, value)) = order else { return (machine, step) };
    let (machine, events) = complete_order(machine, context, client, &token, mode, &value);
    step.events.extend(events);
    (machine, step)
}

/// Simulates carrying out an order and reporting its result.
fn complete_order(
    machine: Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    token: &str,
    mode: Mode,
    value: &Value,
) -> (Machine, Vec<String>) {
    let kinds = |events: &[crate::domain::event::NewEvent]| {
        events.iter().map(|event| event.kind.to_owned()).collect()
    };
    match mode {
        Mode::Inventory => {
            let disks = machine.disks.clone().unwrap_or_else(|| Value::Array(Vec::new()));
            let outcome = apply_inventory(
                &machine,
                context,
                client,
                Some(token),
                &PostedInventory { disks, ..PostedInventory::default() },
            );
            (outcome.machine, kinds(&outcome.events))
        }
        Mode::Flash | Mode::Script => {
            let flashed = FlashedDisk {
                path: "/dev/simulated".into(),
                serial: value["disk"]["serial"].as_str().map(str::to_owned),
                image: value["image"]["src"].as_str().unwrap_or_default().to_owned(),
                sha256: value["image"]["sha256"].as_str().and_then(|digest| digest.parse().ok()),
                ..FlashedDisk::default()
            };
            let disks = if mode == Mode::Flash { vec![flashed] } else { Vec::new() };
            let outcome =
                apply_report(&machine, context, client, Some(token), &Report::done(disks));
            (outcome.machine, kinds(&outcome.events))
        }
        Mode::Interactive | Mode::Exit => (machine, Vec::new()),
    }
}
