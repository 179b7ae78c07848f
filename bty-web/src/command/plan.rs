//! `bty-web plan`.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::domain::error::{Error, ErrorKind, Result};
use axum::http::Method;
use serde_json::{Value, json};

use super::cli::PlanVerb;
use super::print::{self, out, out_json};
use super::remote::{RemoteServer, encoded, shown, table};

pub(crate) async fn run(server: &RemoteServer, verb: PlanVerb) -> Result<ExitCode> {
    match verb {
        PlanVerb::List => {
            let plans = server.api.get("/plans").await?;
            if server.json {
                out_json!("{plans:#}");
            } else {
                let row = |p: &Value| {
                    vec![
                        shown(&p["name"]),
                        shown(&p["revision"]),
                        shown(&p["machines"]),
                        shown(&p["title"]),
                    ]
                };
                let rows: Vec<Vec<String>> =
                    plans.as_array().into_iter().flatten().map(row).collect();
                table(&["Name", "Revision", "Machines", "Description"], &rows);
            }
        }
        PlanVerb::Show { name, revision } => {
            let query =
                revision.map_or_else(String::new, |revision| format!("?revision={revision}"));
            let plan = server.api.get(&format!("/plans/{}{query}", encoded(&name))).await?;
            if server.json {
                out_json!("{plan:#}");
            } else {
                print::text(plan["source"].as_str().unwrap_or_default());
            }
        }
        PlanVerb::Edit { name, file, note } => edit(server, &name, file, &note).await?,
        PlanVerb::Simulate { mac, boots, file, plan, catalog } => {
            let source = file.as_deref().map(read).transpose()?;
            let catalog = catalog.as_deref().map(read).transpose()?;
            let mut suppose = json!({ "boots": boots });
            for (name, value) in [("source", source), ("catalog", catalog), ("plan", plan)] {
                if let Some(value) = value {
                    suppose[name] = value.into();
                }
            }
            simulate(server, mac, &suppose).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    let result = match path == Path::new("-") {
        true => std::io::stdin().lock().read_to_string(&mut text),
        false => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
    };
    result.map_err(|e| Error::invalid(format!("reading {}: {e}", path.display())))?;
    Ok(text)
}

async fn edit(server: &RemoteServer, name: &str, file: Option<PathBuf>, note: &str) -> Result<()> {
    let path = format!("/plans/{}", encoded(name));
    let known = match server.api.get(&path).await {
        Ok(plan) => Some(plan),
        Err(error) if error.kind == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let current = known
        .as_ref()
        .and_then(|plan| plan["source"].as_str())
        .unwrap_or("fn boot(m) {\n    boot_disk()\n}\n");
    let base = known.as_ref().and_then(|plan| plan["revision"].as_i64()).unwrap_or(0);
    let source = match file {
        Some(file) => read(&file)?,
        None => in_editor(name, current)?,
    };
    if known.is_some() && source == current {
        out!("{name} is unchanged");
        return Ok(());
    }
    let body = json!({ "source": source, "note": note, "base_revision": base });
    let saved = server.api.send(Method::PUT, &path, Some(&body)).await?;
    out!("saved {name} as revision {}", shown(&saved["revision"]));
    Ok(())
}

/// Opens `text` in an editor and returns the result.
fn in_editor(name: &str, text: &str) -> Result<String> {
    let editor = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "vi".into());
    let path = std::env::temp_dir().join(format!("{name}-{}.rhai", crate::random::random_token()));
    std::fs::write(&path, text)?;
    let status = std::process::Command::new("sh")
        .args(["-c", &format!("{editor} \"$0\"")])
        .arg(&path)
        .status();
    let edited = std::fs::read_to_string(&path);
    std::fs::remove_file(&path)?;
    match status {
        Ok(status) if status.success() => Ok(edited?),
        _ => Err(Error::invalid(format!("{editor} failed; nothing was saved"))),
    }
}

async fn simulate(server: &RemoteServer, mac: Option<String>, suppose: &Value) -> Result<()> {
    let Some(mac) = mac else {
        let report = server.api.send(Method::POST, "/simulate", Some(suppose)).await?;
        if server.json {
            out_json!("{report:#}");
            return Ok(());
        }
        let row = |c: &Value| vec![shown(&c["mac"]), shown(&c["plan"]), shown(&c["summary"])];
        let rows: Vec<Vec<String>> =
            report["changed"].as_array().into_iter().flatten().map(row).collect();
        if !rows.is_empty() {
            table(&["MAC", "Plan", "Change"], &rows);
        }
        let all = bty::text::count(report["machines"].as_u64().unwrap_or_default(), "machine");
        out!("{} of {all} would change", rows.len());
        return Ok(());
    };
    let steps = server
        .api
        .send(Method::POST, &format!("/machines/{}/simulate", encoded(&mac)), Some(suppose))
        .await?;
    if server.json {
        out_json!("{steps:#}");
        return Ok(());
    }
    let row = |s: &Value| {
        vec![
            shown(&s["boot"]),
            shown(&s["offer"]),
            shown(&s["mode"]),
            shown(&s["image"]),
            shown(&s["disk"]),
            shown(&s["reason"]),
        ]
    };
    let rows: Vec<Vec<String>> = steps.as_array().into_iter().flatten().map(row).collect();
    table(&["Boot", "iPXE", "Live environment", "Image", "Disk", "Why"], &rows);
    Ok(())
}
