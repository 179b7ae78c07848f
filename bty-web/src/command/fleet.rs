//! `bty-web simulate-fleet`.

use std::process::ExitCode;

use bty::text::count;

use crate::domain::error::Result;
use crate::fleet::{self, FleetOptions, FleetRunReport};

use super::print::{out, out_json};
use super::remote::{RemoteServer, table};

/// Maximum number of listed violations.
const VIOLATIONS_LISTED: usize = 20;

pub(crate) async fn run(server: &RemoteServer, options: FleetOptions) -> Result<ExitCode> {
    let report = fleet::run(&server.api, &options).await?;
    if server.json {
        out_json!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        show(&report);
    }
    Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(report: &FleetRunReport) {
    let FleetRunReport {
        machines,
        boots,
        requests,
        flashes,
        completed,
        crashes,
        repeated,
        late,
        stalled,
        silent,
        seconds,
        ..
    } = report;
    out!(
        "{}, {}, {} in {seconds:.1} s ({:.0} a second)",
        count(*machines, "machine"),
        count(*boots, "boot"),
        count(*requests, "request"),
        *requests as f64 / seconds
    );
    out!(
        "{flashes} flashes started, {completed} completed; {crashes} crashes, {repeated} messages \
         repeated, {late} late, {} stalled",
        stalled + silent
    );
    let ms = |ms: f64| format!("{ms:.1}");
    let rows: Vec<Vec<String>> = report
        .times_ms
        .iter()
        .map(|(what, t)| vec![what.clone(), t.count.to_string(), ms(t.p50), ms(t.p99), ms(t.max)])
        .collect();
    table(&["Request", "Count", "p50 ms", "p99 ms", "max ms"], &rows);
    for violation in report.violations.iter().take(VIOLATIONS_LISTED) {
        out!("wrong decision: {violation}");
    }
    match report.violations.len() {
        0 => out!("no wrong decision"),
        n => out!("{n} wrong decisions"),
    }
}
