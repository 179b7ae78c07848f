//! The live environment tells how far it is, how it ended, and what hardware it is on.

use bty_script::plan::{FlashedDisk, Report};
use serde_json::{Value, json};

use super::{ClientContext, Flashed, Machine, OrderSummary, Outcome, Stage, hardware};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::plan::evaluate::{DecisionContext, Evaluation};
use crate::domain::secret::is_same;

/// What a machine is told about its report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It counts.
    Accepted,
    /// It has been told before; nothing changes.
    Repeated,
    /// It does not count: why.
    Refused(String),
}

/// Takes a report of a machine. Only an open cycle is completed, and only once.
#[must_use]
pub fn report(
    machine: &Machine,
    rules: &DecisionContext<'_>,
    who: &ClientContext,
    token: Option<&str>,
    report: &Report,
) -> Outcome<Receipt> {
    let mut after = machine.clone();
    let mut events = Vec::new();
    let answer = match (belongs(machine, who, token), report.status.as_str()) {
        (Belongs::Open, "progress") => {
            after.seen(who);
            if let Some(cycle) = after.cycle.as_mut() {
                cycle.progress =
                    serde_json::to_value(&report.progress).ok().filter(|value| !value.is_null());
                cycle.heard_at = who.now;
            }
            Receipt::Accepted
        }
        (Belongs::Open, _) => {
            after.seen(who);
            end(&mut after, rules, who, report, &mut events);
            Receipt::Accepted
        }
        (Belongs::Closed(stage), status) => {
            let same = matches!(
                (stage, status),
                (Stage::Done, "done") | (Stage::Failed, "failed") | (_, "progress")
            );
            if same {
                Receipt::Repeated
            } else if stage == Stage::Superseded && status == "done" {
                // it is over and true, but not what the machine is bound to now
                after.seen(who);
                overtaken(&mut after, who, report, &mut events);
                Receipt::Accepted
            } else {
                refused(
                    &after,
                    who,
                    report,
                    &format!("the boot cycle is {stage:?} already").to_lowercase(),
                    &mut events,
                )
            }
        }
        (Belongs::Foreign(why), "progress") => Receipt::Refused(why.to_owned()),
        (Belongs::Foreign(why), _) => refused(&after, who, report, why, &mut events),
    };
    Outcome { machine: after, events, answer }
}

/// How a report belongs to the machine.
enum Belongs {
    Open,
    Closed(Stage),
    Foreign(&'static str),
}

fn belongs(machine: &Machine, who: &ClientContext, token: Option<&str>) -> Belongs {
    let Some(cycle) = &machine.cycle else {
        return Belongs::Foreign("no boot cycle is open for this machine");
    };
    let is_own = match token {
        Some(token) => is_same(token, &cycle.token),
        None => cycle.is_tokenless && cycle.opened_by == who.ip,
    };
    match (is_own, token) {
        (true, _) if cycle.stage.is_open() => Belongs::Open,
        (true, _) => Belongs::Closed(cycle.stage),
        (false, Some(_)) => {
            Belongs::Foreign("the report names another boot cycle than the machine's")
        }
        (false, None) => Belongs::Foreign("the report does not name the machine's boot cycle"),
    }
}

fn refused(
    machine: &Machine,
    who: &ClientContext,
    report: &Report,
    why: &str,
    events: &mut Vec<NewEvent>,
) -> Receipt {
    let summary = format!("{}: a report of {:?} does not count: {why}", machine.mac, report.status);
    let event = NewEvent::new("pxe.client.refused", machine.mac.as_str(), summary);
    events.push(
        event
            .by(Actor::PxeClient, who.ip.as_deref())
            .with(json!({ "status": report.status, "reason": why })),
    );
    Receipt::Refused(why.to_owned())
}

/// An operator has saved the machine while it was being flashed: the flash is a fact, and no
/// completion of the new binding.
fn overtaken(
    machine: &mut Machine,
    who: &ClientContext,
    report: &Report,
    events: &mut Vec<NewEvent>,
) {
    let needs_proof = machine.cycle.as_ref().is_some_and(|cycle| !cycle.is_tokenless);
    let order = machine.cycle.as_mut().and_then(|cycle| {
        cycle.stage = Stage::Done;
        cycle.order.clone()
    });
    if let Some(flashed) = flashed(who, order.as_ref(), &report.disks, needs_proof) {
        let summary = format!(
            "{}: flashed, but it was saved meanwhile; the new binding is still to be done",
            machine.mac
        );
        let details =
            json!({ "is_overtaken": true, "disks": report.disks, "bty_image_ref": flashed.image });
        events.push(said(machine, who, "machine.flashed", summary, details));
        machine.flashed = Some(flashed);
        machine.remember(who.now, "machine.flashed");
    }
}

fn said(
    machine: &Machine,
    who: &ClientContext,
    kind: &'static str,
    summary: String,
    details: Value,
) -> NewEvent {
    NewEvent::new(kind, machine.mac.as_str(), summary)
        .by(Actor::PxeClient, who.ip.as_deref())
        .with(details)
}

/// The end of the open cycle.
fn end(
    machine: &mut Machine,
    rules: &DecisionContext<'_>,
    who: &ClientContext,
    report: &Report,
    events: &mut Vec<NewEvent>,
) {
    let order = machine.cycle.as_ref().and_then(|cycle| cycle.order.clone());
    let mac = machine.mac.clone();
    // the reference's live environment cannot say what it has written
    let needs_proof = machine.cycle.as_ref().is_some_and(|cycle| !cycle.is_tokenless);
    let wrong = wrong_disk(order.as_ref(), &report.disks, needs_proof);
    let (kind, stage, summary, details) = if report.status != "done" || wrong.is_some() {
        let reason =
            wrong.or_else(|| report.reason.clone()).unwrap_or_else(|| "no reason was given".into());
        let details = json!({ "reason": reason, "boot_mode": machine.plan, "disks": report.disks });
        ("machine.flash_failed", Stage::Failed, format!("{mac}: failed: {reason}"), details)
    } else if let Some(flashed) = flashed(who, order.as_ref(), &report.disks, needs_proof) {
        let serial = flashed.serial.as_deref().unwrap_or("its disk");
        let image = order.as_ref().and_then(|order| order.image_name.clone());
        let summary = format!("{mac}: {} is on {serial}", image.as_deref().unwrap_or("an image"));
        let details = json!({
            "boot_mode": machine.plan, "bty_image_ref": flashed.image, "image_name": image,
            "disk_image_sha": flashed.sha256, "target_disk_serial": flashed.serial, "disks": report.disks,
        });
        machine.flashed = Some(flashed);
        ("machine.flashed", Stage::Done, summary, details)
    } else {
        let details = json!({ "boot_mode": machine.plan });
        (
            "machine.completed",
            Stage::Done,
            format!("{mac}: the plan {} is done", machine.plan),
            details,
        )
    };
    machine.close_cycle(stage);
    machine.remember(who.now, kind);
    events.push(said(machine, who, kind, summary, details.clone()));
    tell_plan(machine, rules, who, kind, &details, events);
}

/// Tells the plan what happened. A plan that fails here cannot be trusted with the next contact.
pub(super) fn tell_plan(
    machine: &mut Machine,
    rules: &DecisionContext<'_>,
    who: &ClientContext,
    kind: &str,
    details: &Value,
    events: &mut Vec<NewEvent>,
) {
    let event = json!({ "kind": kind, "at": who.now.seconds(), "details": details });
    if let Evaluation::Failed(reason, event) = rules.ask(machine, who, "on", vec![event]) {
        machine.hold = Some(format!("its plan failed in on(m, {kind}): {reason}"));
        machine.remember(who.now, event.kind);
        events.push(*event);
    }
}

/// What was flashed, when something was: what the report proves, or what was ordered when the
/// report can only say that it is done.
fn flashed(
    who: &ClientContext,
    order: Option<&OrderSummary>,
    disks: &[FlashedDisk],
    needs_proof: bool,
) -> Option<Flashed> {
    let may_have = order
        .is_some_and(|order| matches!(order.mode.as_str(), "flash" | "interactive"))
        && !needs_proof;
    let proof = match order.and_then(|order| order.serial.as_deref()) {
        Some(serial) => disks.iter().find(|disk| is_serial(disk, serial)).or(disks.first()),
        None => disks.first(),
    };
    match (proof, order) {
        (Some(disk), order) => Some(Flashed {
            at: who.now,
            image: order.and_then(|order| order.image_ref.clone()),
            sha256: disk.sha256.map(|digest| digest.to_string()).or_else(|| order?.sha256.clone()),
            serial: disk.serial.clone(),
        }),
        (None, Some(order)) if may_have => Some(Flashed {
            at: who.now,
            image: order.image_ref.clone(),
            sha256: order.sha256.clone(),
            serial: order.serial.clone(),
        }),
        _ => None,
    }
}

fn is_serial(disk: &FlashedDisk, serial: &str) -> bool {
    disk.serial.as_deref().map(str::trim) == Some(serial.trim())
}

/// Why the disks of a report are not what was ordered.
fn wrong_disk(
    order: Option<&OrderSummary>,
    disks: &[FlashedDisk],
    needs_proof: bool,
) -> Option<String> {
    let order =
        order.filter(|order| order.mode == "flash" && (needs_proof || !disks.is_empty()))?;
    if disks.is_empty() {
        return Some("the report does not name the disk that was written".into());
    }
    let serial = order.serial.as_deref()?;
    let Some(disk) = disks.iter().find(|disk| is_serial(disk, serial)) else {
        return Some(format!(
            "disk {serial} was ordered, and is not among those that were flashed"
        ));
    };
    let (ordered, found) = (order.sha256.as_deref()?, disk.sha256?);
    (ordered != found.to_string()).then(|| {
        format!("an image with SHA-256 {ordered} was ordered, and one with {found} was flashed")
    })
}

/// Takes the inventory of a machine. While a boot cycle is open, only that cycle changes what is
/// known of the machine: anybody may post an inventory, and the disks that a plan chooses from must
/// not change under it. Any other inventory is noted as an event.
#[must_use]
pub fn inventory(
    machine: &Machine,
    rules: &DecisionContext<'_>,
    who: &ClientContext,
    token: Option<&str>,
    posted: &Posted,
) -> Outcome<()> {
    let mut after = machine.clone();
    let counts = match machine.open_cycle() {
        None => token.is_none(),
        Some(cycle) => match token {
            Some(token) => is_same(token, &cycle.token),
            // a stick posts it before its plan has told it the token: the address has to do
            None => cycle.opened_by == who.ip,
        },
    };
    if counts || machine.open_cycle().is_none() {
        after.seen(who);
        after.disks = Some(posted.disks.clone());
        after.disks_at = Some(who.now);
        if let Some(lshw) = &posted.lshw {
            after.hardware = hardware::facts(lshw);
        }
    }
    let disks = posted.disks.as_array().map_or(0, Vec::len);
    let details = json!({ "disks": disks, "has_lshw": posted.lshw.is_some(), "counts": counts });
    let plural = if disks == 1 { "disk" } else { "disks" };
    let mut events = vec![said(
        &after,
        who,
        "machine.inventory",
        format!("{}: inventory, {disks} {plural}", after.mac),
        details.clone(),
    )];
    after.remember(who.now, "machine.inventory");
    if counts {
        if let Some(cycle) = after.cycle.as_mut().filter(|cycle| cycle.stage.is_open()) {
            cycle.has_inventory = true;
        }
        // posted before the plan is asked for, it is the end only once that says so
        if after.has_done_inventory() {
            after.close_cycle(Stage::Done);
        }
        tell_plan(&mut after, rules, who, "machine.inventory", &details, &mut events);
    }
    Outcome { machine: after, events, answer: () }
}

/// An inventory as it was posted.
#[derive(Clone, Debug, Default)]
pub struct Posted {
    /// Disks, an array of maps.
    pub disks: Value,
    /// The hardware as `lshw -json` shows it; none keeps the one before.
    pub lshw: Option<Value>,
}

/// The machine fetches the kernel or the initrd of its live environment.
#[must_use]
pub fn artifact(
    machine: &Machine,
    who: &ClientContext,
    token: Option<&str>,
    name: &str,
) -> Outcome<()> {
    let mut after = machine.clone();
    after.seen(who);
    let mut events = Vec::new();
    let is_own = after
        .open_cycle()
        .is_some_and(|cycle| token.is_some_and(|token| is_same(token, &cycle.token)));
    if let Some(cycle) =
        after.cycle.as_mut().filter(|cycle| is_own && cycle.stage == Stage::Offered)
    {
        cycle.stage = Stage::Booting;
        cycle.heard_at = who.now;
        let summary = format!("{}: fetches the live environment", after.mac);
        let details = json!({ "boot_mode": after.plan, "artifact": name });
        events.push(said(&after, who, "netboot.flasher.armed", summary, details));
    }
    Outcome { machine: after, events, answer: () }
}
