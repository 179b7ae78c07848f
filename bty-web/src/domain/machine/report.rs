//! Reports of live environments: progress, results and inventories.

use bty_script::AssignedDisk;
use bty_script::plan::{FlashedDisk, Report};
use serde_json::{Value, json};

use super::{ClientContext, Flashed, Machine, OrderSummary, Outcome, Stage, flashed, hardware};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::plan::evaluate::{DecisionContext, Evaluation};
use crate::domain::secret::is_same;

/// How the server handled a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The report is recorded.
    Accepted,
    /// The report repeats an earlier one and changes nothing.
    Repeated,
    /// The report is refused, for this reason.
    Refused(String),
}

/// Applies a report to its machine. A result completes only an open cycle, and only once.
#[must_use]
pub fn apply_report(
    machine: &Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    token: Option<&str>,
    report: &Report,
) -> Outcome<Receipt> {
    let mut after = machine.clone();
    let mut events = Vec::new();
    let answer = match (match_report(machine, client, token), report.status.as_str()) {
        (ReportMatch::Open, "progress") => {
            after.mark_seen(client);
            if let Some(cycle) = after.cycle.as_mut() {
                cycle.progress =
                    serde_json::to_value(&report.progress).ok().filter(|value| !value.is_null());
                cycle.hear(client.now);
            }
            Receipt::Accepted
        }
        (ReportMatch::Open, _) => {
            after.mark_seen(client);
            close_with_report(&mut after, context, client, report, &mut events);
            Receipt::Accepted
        }
        (ReportMatch::Closed(stage), status) => {
            let same = matches!(
                (stage, status),
                (Stage::Done, "done") | (Stage::Failed, "failed") | (_, "progress")
            );
            if same {
                Receipt::Repeated
            } else if stage == Stage::Superseded && status == "done" {
                // the disk was flashed, but not for the new assignment
                after.mark_seen(client);
                record_overtaken(&mut after, client, report, &mut events);
                Receipt::Accepted
            } else {
                refuse(
                    &after,
                    client,
                    report,
                    &format!("the boot cycle has already ended ({stage:?})").to_lowercase(),
                    &mut events,
                )
            }
        }
        (ReportMatch::Foreign(why), "progress") => Receipt::Refused(why.to_owned()),
        (ReportMatch::Foreign(why), _) => refuse(&after, client, report, why, &mut events),
    };
    Outcome { machine: after, events, answer }
}

/// How a report relates to the machine's boot cycle.
enum ReportMatch {
    /// It belongs to the open cycle.
    Open,
    /// It belongs to the machine's most recent cycle, which has closed.
    Closed(Stage),
    /// It belongs to no cycle of the machine, for this reason.
    Foreign(&'static str),
}

fn match_report(machine: &Machine, client: &ClientContext, token: Option<&str>) -> ReportMatch {
    let Some(cycle) = &machine.cycle else {
        return ReportMatch::Foreign("no boot cycle is open for this machine");
    };
    let is_own = match token {
        Some(token) => is_same(token, &cycle.token),
        None => cycle.is_tokenless && cycle.opened_by == client.ip,
    };
    match (is_own, token) {
        (true, _) if cycle.stage.is_open() => ReportMatch::Open,
        (true, _) => ReportMatch::Closed(cycle.stage),
        (false, Some(_)) => ReportMatch::Foreign(
            "the report names a boot cycle other than the machine's current one",
        ),
        (false, None) => ReportMatch::Foreign("the report does not name a boot cycle"),
    }
}

fn refuse(
    machine: &Machine,
    client: &ClientContext,
    report: &Report,
    why: &str,
    events: &mut Vec<NewEvent>,
) -> Receipt {
    let summary = format!("{}: rejected the report {:?}: {why}", machine.mac, report.status);
    let event = NewEvent::new("pxe.client.refused", machine.mac.as_str(), summary);
    events.push(
        event
            .by(Actor::PxeClient, client.ip.as_deref())
            .with(json!({ "status": report.status, "reason": why })),
    );
    Receipt::Refused(why.to_owned())
}

/// Records a flash that ended after an operator had saved the machine. It does not complete the new
/// assignment.
fn record_overtaken(
    machine: &mut Machine,
    client: &ClientContext,
    report: &Report,
    events: &mut Vec<NewEvent>,
) {
    let needs_proof = machine.cycle.as_ref().is_some_and(|cycle| !cycle.is_tokenless);
    let order = machine.cycle.as_mut().and_then(|cycle| {
        cycle.stage = Stage::Done;
        cycle.order.clone()
    });
    if let Some(flashed) = flashed_by(machine, client, order.as_ref(), &report.disks, needs_proof) {
        let summary = format!(
            "{}: flashed with the previous assignment; the new one is still pending",
            machine.mac
        );
        let details =
            json!({ "is_overtaken": true, "disks": report.disks, "bty_image_ref": flashed.image });
        events.push(machine_event(machine, client, "machine.flashed", summary, details));
        let proven_disks = machine.flashed.take().map_or_else(Vec::new, |f| f.proven_disks);
        machine.flashed = Some(Flashed { proven_disks, ..flashed });
        machine.remember_event(client.now, "machine.flashed");
    }
}

fn machine_event(
    machine: &Machine,
    client: &ClientContext,
    kind: &'static str,
    summary: String,
    details: Value,
) -> NewEvent {
    NewEvent::new(kind, machine.mac.as_str(), summary)
        .by(Actor::PxeClient, client.ip.as_deref())
        .with(details)
}

/// Closes the open cycle with the reported result.
fn close_with_report(
    machine: &mut Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    report: &Report,
    events: &mut Vec<NewEvent>,
) {
    let order = machine.cycle.as_ref().and_then(|cycle| cycle.order.clone());
    let mac = machine.mac.clone();
    // the reference's live environment does not report which disks it has written
    let needs_proof = machine.cycle.as_ref().is_some_and(|cycle| !cycle.is_tokenless);
    let wrong = wrong_disk(machine, order.as_ref(), &report.disks, needs_proof);
    let (kind, stage, summary, details) = if report.status != "done" || wrong.is_some() {
        let reason =
            wrong.or_else(|| report.reason.clone()).unwrap_or_else(|| "no reason given".into());
        let details = json!({ "reason": reason, "boot_mode": machine.plan, "disks": report.disks });
        if let (Some(flashed), Some(order)) = (machine.flashed.as_mut(), &order) {
            order.serial.iter().for_each(|serial| flashed.forget_proof(serial));
        }
        ("machine.flash_failed", Stage::Failed, format!("{mac}: failed: {reason}"), details)
    } else if let Some(mut flashed) =
        flashed_by(machine, client, order.as_ref(), &report.disks, needs_proof)
    {
        flashed.proven_disks =
            machine.flashed.take().map_or_else(Vec::new, |before| before.proven_disks);
        flashed.remember_proofs(&report.disks);
        let serial = flashed.serial.as_deref().unwrap_or("its disk");
        let image = order.as_ref().and_then(|order| order.image_name.clone());
        let how = flashed.summary().map_or_else(String::new, |how| format!(" ({how})"));
        let summary =
            format!("{mac}: flashed {} onto {serial}{how}", image.as_deref().unwrap_or("an image"));
        let details = json!({
            "boot_mode": machine.plan, "bty_image_ref": flashed.image, "image_name": image,
            "disk_image_sha": flashed.sha256, "target_disk_serial": flashed.serial,
            "disks": report.disks,
        });
        machine.flashed = Some(flashed);
        ("machine.flashed", Stage::Done, summary, details)
    } else {
        let details = json!({ "boot_mode": machine.plan });
        (
            "machine.completed",
            Stage::Done,
            format!("{mac}: completed the plan {}", machine.plan),
            details,
        )
    };
    machine.close_cycle(stage);
    machine.remember_event(client.now, kind);
    events.push(machine_event(machine, client, kind, summary, details.clone()));
    notify_plan(machine, context, client, kind, &details, events);
}

/// Evaluates `on(m, event)`. A failure puts the machine on hold: the plan may have missed a
/// completed flash, and would flash the disk again at every boot.
pub(super) fn notify_plan(
    machine: &mut Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    kind: &str,
    details: &Value,
    events: &mut Vec<NewEvent>,
) {
    let event = json!({ "kind": kind, "at": client.now.seconds(), "details": details });
    if let Evaluation::Failed(reason, event) = context.evaluate(machine, client, "on", vec![event])
    {
        machine.hold = Some(format!("its plan failed in on(m, {kind}): {reason}"));
        machine.remember_event(client.now, event.kind);
        events.push(*event);
    }
}

/// Returns the flash that a report proves; `None` if nothing was flashed. Without `needs_proof`, a
/// report that names no disks counts as a flash of the order's disk.
fn flashed_by(
    machine: &Machine,
    client: &ClientContext,
    order: Option<&OrderSummary>,
    disks: &[FlashedDisk],
    needs_proof: bool,
) -> Option<Flashed> {
    let is_trusted = order
        .is_some_and(|order| matches!(order.mode.as_str(), "flash" | "interactive"))
        && !needs_proof;
    let proof = match order.and_then(|order| order.serial.as_deref()) {
        Some(target) => {
            disks.iter().find(|disk| is_ordered(machine, target, disk)).or(disks.first())
        }
        None => disks.first(),
    };
    match (proof, order) {
        (Some(disk), order) => Some(Flashed {
            at: client.now,
            image: order.and_then(|order| order.image_ref.clone()),
            sha256: match order {
                // the digest of the packed form says nothing about the image as published
                Some(order) if is_packed_form(order, disk) => order.sha256.clone(),
                _ => disk.sha256.map(|digest| digest.to_string()).or_else(|| order?.sha256.clone()),
            },
            serial: order.and_then(selector_of).or_else(|| disk.serial.clone()),
            written_bytes: disk.written_bytes,
            proof: disk.proof.as_deref().map(flashed::word),
            delta: disk.delta,
            proven_disks: Vec::new(),
        }),
        (None, Some(order)) if is_trusted => Some(Flashed {
            at: client.now,
            image: order.image_ref.clone(),
            sha256: order.sha256.clone(),
            serial: order.serial.clone(),
            ..Flashed::default()
        }),
        _ => None,
    }
}

/// True if the disk was flashed with the packed form that the order has: its index proves the
/// content.
fn is_packed_form(order: &OrderSummary, disk: &FlashedDisk) -> bool {
    let index = disk.index_sha256.map(|digest| digest.to_string());
    index.is_some() && index == order.index_sha256
}

/// The selector by which the disk of the order is assigned. It takes the place of the serial number
/// in the record of the flash, so that a plan can compare both.
fn selector_of(order: &OrderSummary) -> Option<String> {
    let target = AssignedDisk::parse(order.serial.as_deref()?).ok()?;
    matches!(target, AssignedDisk::Selector(_)).then(|| target.to_string())
}

/// True if the report means the disk of the order. Device names are valid for one boot, so a
/// selector is looked up in the inventory of the same boot; without one, the machine is believed.
fn is_ordered(machine: &Machine, target: &str, disk: &FlashedDisk) -> bool {
    let Ok(assigned @ AssignedDisk::Selector(_)) = AssignedDisk::parse(target) else {
        return is_serial(disk, target);
    };
    let has_inventory = machine.cycle.as_ref().is_some_and(|cycle| cycle.has_inventory);
    let mut listed = machine.disks.as_ref().and_then(Value::as_array).into_iter().flatten();
    !has_inventory || listed.any(|of| assigned.matches(of) && of["path"] == *disk.path)
}

fn is_serial(disk: &FlashedDisk, serial: &str) -> bool {
    disk.serial.as_deref().map(str::trim) == Some(serial.trim())
}

/// Returns why the reported disks do not match the order; `None` if they do.
fn wrong_disk(
    machine: &Machine,
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
    let Some(disk) = disks.iter().find(|disk| is_ordered(machine, serial, disk)) else {
        return Some(format!("the report does not name the assigned disk {serial}"));
    };
    if is_packed_form(order, disk) {
        return None;
    }
    let (ordered, found) = (order.sha256.as_deref()?, disk.sha256?);
    (ordered != found.to_string())
        .then(|| format!("flashed an image with the SHA-256 {found} instead of {ordered}"))
}

/// Applies an inventory. While a boot cycle is open, only an inventory of that cycle changes the
/// machine: anybody on the network can post one, and must not change the disks that a plan chooses
/// from. Every inventory is recorded as an event.
#[must_use]
pub fn apply_inventory(
    machine: &Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    token: Option<&str>,
    posted: &PostedInventory,
) -> Outcome<()> {
    let mut after = machine.clone();
    let counts = is_inventory_of_cycle(machine, client, token);
    if counts || machine.open_cycle().is_none() {
        after.mark_seen(client);
        after.disks = Some(posted.disks.clone());
        after.disks_at = Some(client.now);
        if let Some(lshw) = &posted.lshw {
            after.hardware = hardware::facts(lshw);
        }
    }
    let disks = posted.disks.as_array().map_or(0, Vec::len);
    let omitted = Some(&posted.omissions).filter(|omissions| !omissions.is_empty());
    let details = json!({
        "disks": disks, "has_lshw": posted.lshw.is_some(), "counts": counts, "omitted": omitted,
    });
    let what = bty::text::count(disks, "disk");
    let what = omitted.map_or_else(|| what.clone(), |o| format!("{what}; {}", o.join("; ")));
    let summary = format!("{}: inventory, {what}", after.mac);
    let mut events =
        vec![machine_event(&after, client, "machine.inventory", summary, details.clone())];
    after.remember_event(client.now, "machine.inventory");
    if counts {
        if let Some(cycle) = after.cycle.as_mut() {
            // somebody who started the environment by hand has shown that it starts, too
            cycle.has_inventory = true;
            cycle.is_inventory_unreadable = false;
            if cycle.stage.is_open() {
                cycle.hear(client.now);
            }
        }
        // the inventory ends the cycle only if the order asks for it
        after.close_after_inventory();
        notify_plan(&mut after, context, client, "machine.inventory", &details, &mut events);
    }
    Outcome { machine: after, events, answer: () }
}

/// True if an inventory with this token belongs to the open cycle; without an open cycle, if it has
/// no token.
fn is_inventory_of_cycle(machine: &Machine, client: &ClientContext, token: Option<&str>) -> bool {
    match (machine.open_cycle(), token) {
        (None, token) => token.is_none(),
        (Some(cycle), Some(token)) => is_same(token, &cycle.token),
        // a machine booted from a USB stick posts it before it has the token; its address
        // identifies it
        (Some(cycle), None) => cycle.opened_by == client.ip,
    }
}

/// An inventory as posted by a live environment.
#[derive(Clone, Debug, Default)]
pub struct PostedInventory {
    /// The disks: an array of objects.
    pub disks: Value,
    /// The output of `lshw -json`; `None` keeps the previous one.
    pub lshw: Option<Value>,
    /// What the server has left out, one clause each.
    pub omissions: Vec<String>,
}

/// Records an inventory that cannot be read, for this reason. It fails the order to take the
/// inventory. The plan learns of it, so that the machine can go on to its disk.
#[must_use]
pub fn reject_inventory(
    machine: &Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    token: Option<&str>,
    reason: &str,
) -> Outcome<()> {
    const KIND: &str = "machine.inventory_failed";
    let mut after = machine.clone();
    let counts = is_inventory_of_cycle(machine, client, token);
    let details = json!({ "reason": reason, "counts": counts });
    let summary = format!("{}: cannot read its inventory: {reason}", after.mac);
    let mut events = vec![machine_event(&after, client, KIND, summary, details.clone())];
    after.remember_event(client.now, KIND);
    if counts {
        after.mark_seen(client);
        if let Some(cycle) = after.open_cycle_mut() {
            cycle.is_inventory_unreadable = true;
            cycle.hear(client.now);
        }
        after.close_after_inventory();
        notify_plan(&mut after, context, client, KIND, &details, &mut events);
    }
    Outcome { machine: after, events, answer: () }
}

/// Records that the machine downloads a file of its live environment, which shows that it is
/// booting.
#[must_use]
pub fn record_artifact(
    machine: &Machine,
    client: &ClientContext,
    token: Option<&str>,
    name: &str,
) -> Outcome<()> {
    let mut after = machine.clone();
    after.mark_seen(client);
    let mut events = Vec::new();
    let is_own = after
        .open_cycle()
        .is_some_and(|cycle| token.is_some_and(|token| is_same(token, &cycle.token)));
    if let Some(cycle) = after.open_cycle_mut().filter(|_| is_own) {
        cycle.hear(client.now);
    }
    if let Some(cycle) =
        after.cycle.as_mut().filter(|cycle| is_own && cycle.stage == Stage::Offered)
    {
        cycle.stage = Stage::Booting;
        let summary = format!("{}: fetching the live environment", after.mac);
        let details = json!({ "boot_mode": after.plan, "artifact": name });
        events.push(machine_event(&after, client, "netboot.flasher.armed", summary, details));
    }
    Outcome { machine: after, events, answer: () }
}
