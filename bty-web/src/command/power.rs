//! `bty-web power`.

use std::process::ExitCode;

use axum::http::Method;
use serde_json::{Value, json};

use crate::domain::error::Result;

use super::cli::PowerArgs;
use super::print::{out, out_json};
use super::remote::{RemoteServer, encoded, shown};

pub(crate) async fn run(server: &RemoteServer, args: PowerArgs) -> Result<ExitCode> {
    let PowerArgs { action, mac: macs, force } = args;
    // the answers to a question are worth waiting for
    if macs.len() == 1 || action == "status" {
        for mac in macs {
            let path = format!("/machines/{}/power", encoded(&mac));
            let order = json!({ "action": action, "force": force });
            let report = server.api.send(Method::POST, &path, Some(&order)).await?;
            print_report(server, &report);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let selection = json!({ "action": action, "force": force, "machines": macs });
    let queue = server.api.send(Method::POST, "/power", Some(&selection)).await?;
    if server.json {
        out_json!("{queue:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let skipped = queue["skipped"].as_array();
    for problem in skipped.into_iter().flatten() {
        eprintln!("skipped: {}", shown(&problem["message"]));
    }
    out!("{} accepted; the results are events of the machines", shown(&queue["accepted"]));
    Ok(match skipped.is_none_or(Vec::is_empty) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn print_report(server: &RemoteServer, report: &Value) {
    if server.json {
        return out_json!("{report:#}");
    }
    let said = match &report["state"] {
        Value::Null => shown(&report["output"]),
        state => shown(state),
    };
    out!("{}: {}: {said}", shown(&report["mac"]), shown(&report["action"]));
}
