//! `bty erase`: shows the disk, asks, erases it, and reports the proof.

use std::process::ExitCode;
use std::sync::Arc;

use bty::flash::{EraseReport, EraseWay, FlashPlan, Refusal, plan_erase};
use bty::size::human;
use bty::{Result, Selector, SystemHost, text};
use bty_script::terminal::Style;
use serde_json::json;

use crate::cli::Erase;
use crate::output::Output;
use crate::progress::ProgressDisplay;
use crate::verbs::disks;
use crate::verbs::flash::{ask, say_loss};
use crate::{exit, remedies, signals};

pub(super) fn run(erase: &Erase, output: &Output) -> Result<ExitCode> {
    let cancel = signals::cancel_on_signal()?;
    let progress = Arc::new(ProgressDisplay::new(output.is_json()));
    let system = SystemHost::new();
    let disk = erase.disk.parse::<Selector>()?.select(&system)?;
    let (mut plan, image) = plan_erase(&disk, erase.way)?;
    plan.options.allow_partition = erase.allow_partition;
    plan.options.overwrite = erase.overwrite;
    let refusals = plan.validate();
    show(&plan, &refusals, erase, output);
    if !refusals.is_empty() {
        return Ok(ExitCode::from(exit::REFUSED));
    }
    if erase.dry_run {
        output.say("dry run: nothing was written");
        return Ok(ExitCode::SUCCESS);
    }
    let question = format!("erase {}", text::escape_name(&disk.path));
    if !erase.yes && !ask(&question, "yes", output, &cancel)? {
        output.say("nothing was written");
        return Ok(ExitCode::from(exit::CANCELLED));
    }
    let report = plan.execute(&image, &system, &*progress, &cancel);
    progress.clear();
    let report = EraseReport::new(&report?)?;
    output.event("report", &report);
    report.notes.iter().for_each(|note| output.warn(note));
    output.say_styled("", Style::Good, "done", &format!(" {}", describe(&report)));
    Ok(ExitCode::SUCCESS)
}

fn show(plan: &FlashPlan, refusals: &[Refusal], erase: &Erase, output: &Output) {
    if erase.dry_run || !refusals.is_empty() {
        output.event("plan", &json!({ "plan": plan, "refusals": refusals }));
    }
    for disk in &plan.targets {
        output.say(&format!("erase   {}", disks::headline(disk)));
        output.say(&format!("        now: {}", text::escape(&disk.contents())));
        if refusals.is_empty() && !erase.dry_run {
            say_loss(output);
        }
    }
    output.say(&format!("way     {}: {}", erase.way, explain(erase.way)));
    plan.notes.iter().for_each(|note| output.warn(note));
    for refusal in refusals {
        output.say_styled("", Style::Bad, "refused", &format!(" {}", remedies::refusal(refusal)));
    }
}

fn explain(way: EraseWay) -> &'static str {
    match way {
        EraseWay::Zeros => "writes zeros to every sector, and reads them back",
        EraseWay::Random => "writes random bytes to every sector, and reads them back",
        EraseWay::Discard => "has the disk zero every sector, and reads the zeros back",
        EraseWay::NvmeFormat => "has the disk erase itself, then zero every sector, and reads back",
        _ => "reads all of it back",
    }
}

fn describe(report: &EraseReport) -> String {
    let attested =
        if report.is_attested { "; the disk reports that it erased all user data" } else { "" };
    format!(
        "{}: {} erased ({}), {} read back and right{attested}",
        text::escape_name(&report.disk.path),
        human(report.erased_bytes),
        report.way,
        human(report.verified_bytes)
    )
}
