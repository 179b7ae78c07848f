//! `bty-web machine change`, `export` and `import`.

use std::path::Path;
use std::process::ExitCode;

use axum::http::Method;
use bty::text::count;
use serde_json::{Map, Value, json};

use super::cli::{ActionArgs, ChangeArgs, TableKind};
use super::options::{image_ref, params};
use super::print::{out, out_json, text};
use super::remote::{RemoteServer, encoded, shown, table};
use crate::domain::error::{Error, Result};

impl TableKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Toml => "toml",
        }
    }
}

/// The options of `bty-web machine import`.
pub(super) struct ImportOptions {
    pub(super) format: Option<TableKind>,
    pub(super) replace: bool,
    pub(super) dry_run: bool,
    pub(super) confirm: Option<String>,
}

/// Without a digest, shows what would happen.
pub(super) async fn change(server: &RemoteServer, change: ChangeArgs) -> Result<ExitCode> {
    let ChangeArgs { mac, filter, action, confirm } = change;
    let mut request = Map::new();
    match filter {
        Some(filter) => request.insert("filter".into(), filter.into()),
        None => request.insert("macs".into(), mac.into()),
    };
    request.insert("action".into(), action_json(server, action).await?);
    request.insert("dry_run".into(), confirm.is_none().into());
    request.insert("digest".into(), confirm.into());
    let report = server.api.send(Method::PATCH, "/machines", Some(&request.into())).await?;
    Ok(show(server, &report))
}

async fn action_json(server: &RemoteServer, action: ActionArgs) -> Result<Value> {
    let ActionArgs {
        plan,
        image,
        param,
        label,
        unlabel,
        again,
        acknowledge,
        hold,
        release,
        delete,
    } = action;
    let mut assign = Map::new();
    assign.extend(plan.map(|plan| ("boot_mode".into(), plan.into())));
    if let Some(image) = image {
        assign.insert("bty_image_ref".into(), image_ref(server, &image).await?);
    }
    if !param.is_empty() {
        assign.insert("params".into(), params(&param)?);
    }
    Ok(match () {
        () if !assign.is_empty() => json!({ "assign": assign }),
        () if !label.is_empty() => json!({ "label": label }),
        () if !unlabel.is_empty() => json!({ "unlabel": unlabel }),
        () if again => json!("order_again"),
        () if acknowledge => json!("acknowledge"),
        () if release => json!("release"),
        () if delete => json!("delete"),
        () => match hold {
            Some(reason) => json!({ "hold": reason }),
            None => {
                return Err(Error::invalid(
                    "nothing to change: add an option such as --plan, --label, --again or --hold",
                ));
            }
        },
    })
}

pub(super) async fn export(
    server: &RemoteServer,
    filter: &str,
    format: TableKind,
) -> Result<ExitCode> {
    let path = format!("/machines.{}?q={}", format.as_str(), encoded(filter));
    match server.api.get(&path).await? {
        Value::String(table) => text(&table),
        // a table of numbers only could be valid JSON, but has a header
        other => text(&other.to_string()),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn import(
    server: &RemoteServer,
    file: &Path,
    options: ImportOptions,
) -> Result<ExitCode> {
    let ImportOptions { format, replace, dry_run, confirm } = options;
    let bytes = match file.to_str() {
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes)?;
            bytes
        }
        _ => std::fs::read(file)
            .map_err(|e| Error::invalid(format!("cannot read {}: {e}", file.display())))?,
    };
    let is_toml = file.extension().is_some_and(|ending| ending == "toml");
    let format = format.unwrap_or(if is_toml { TableKind::Toml } else { TableKind::Csv });
    let digest = confirm.map(|digest| format!("&digest={}", encoded(&digest))).unwrap_or_default();
    let path = format!(
        "/machines/import?format={}&replace={replace}&dry_run={dry_run}{digest}",
        format.as_str()
    );
    let report = server.api.send_bytes(Method::POST, &path, Some(("text/csv", bytes))).await?;
    Ok(show(server, &report))
}

/// Prints what a change does or has done. What was left out goes to stderr, and makes the command
/// fail if nothing else is left.
fn show(server: &RemoteServer, report: &Value) -> ExitCode {
    let list = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    let (machines, at_work, skipped) = (list("machines"), list("at_work"), list("skipped"));
    let is_empty = machines.is_empty() && !(at_work.is_empty() && skipped.is_empty());
    let code = if is_empty { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    if server.json {
        out_json!("{report:#}");
        return code;
    }
    let fields = ["mac", "name", "plan", "image", "disk", "next_boot"];
    let rows: Vec<Vec<String>> = machines
        .iter()
        .map(|machine| fields.iter().map(|field| shown(&machine[*field])).collect())
        .collect();
    table(&["MAC", "Name", "Plan", "Image", "Disk", "Next boot"], &rows);
    for mac in &at_work {
        eprintln!("left out: {}: it is at work; try again when it has finished", shown(mac));
    }
    for machine in &skipped {
        eprintln!("left out: {}: {}", shown(&machine["mac"]), shown(&machine["reason"]));
    }
    let changed = count(machines.len(), "machine");
    let unchanged = shown(&report["unchanged"]);
    if report["dry_run"] == true {
        out!("would change {changed}; {unchanged} stay as they are");
        out!("to change them, repeat the command with --confirm {}", shown(&report["digest"]));
    } else {
        out!("changed {changed}; {unchanged} stay as they are");
    }
    code
}
