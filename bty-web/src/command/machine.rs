//! `bty-web machine`.

use std::process::ExitCode;

use axum::http::Method;
use serde_json::{Map, Value};

use super::cli::MachineVerb;
use super::options::{image_ref, params};
use super::print::{out, out_json};
use super::remote::{RemoteServer, encoded, shown, table};
use crate::domain::error::{ErrorKind, Result};

pub(crate) async fn run(server: &RemoteServer, verb: MachineVerb) -> Result<ExitCode> {
    match verb {
        MachineVerb::List { filter } => {
            let filter = filter.unwrap_or_default();
            let query = match filter.is_empty() {
                true => String::new(),
                false => format!("?q={}", encoded(&filter)),
            };
            let machines = server.api.get(&format!("/machines{query}")).await?;
            if server.json {
                out_json!("{machines:#}");
            } else {
                list(&machines);
            }
        }
        MachineVerb::Show { mac } => {
            out_json!("{:#}", server.api.get(&format!("/machines/{}", encoded(&mac))).await?);
        }
        MachineVerb::Set {
            mac,
            name,
            plan,
            image,
            disk,
            label,
            param,
            extra_args,
            netboot_version,
            again,
        } => {
            let mut changes = Map::new();
            let empty = |text: String| if text.is_empty() { Value::Null } else { text.into() };
            changes.extend(name.map(|name| ("name".into(), name.into())));
            changes.extend(plan.map(|plan| ("boot_mode".into(), plan.into())));
            changes.extend(disk.map(|disk| ("target_disk_serial".into(), empty(disk))));
            changes.extend(extra_args.map(|args| ("extra_args".into(), args.into())));
            changes
                .extend(netboot_version.map(|version| ("netboot_version".into(), version.into())));
            changes.extend((!label.is_empty()).then(|| ("labels".into(), label.into())));
            if let Some(image) = image {
                changes.insert("bty_image_ref".into(), image_ref(server, &image).await?);
            }
            if !param.is_empty() {
                changes.insert("params".into(), params(&param)?);
            }
            let machine = set(server, &mac, changes, again).await?;
            if server.json {
                out_json!("{machine:#}");
            } else {
                out!("{}: {}", shown(&machine["mac"]), shown(&machine["boot_mode"]));
                for warning in machine["warnings"].as_array().into_iter().flatten() {
                    eprintln!("warning: {}", shown(warning));
                }
            }
        }
        MachineVerb::Change(change) => return super::bulk::change(server, *change).await,
        MachineVerb::Export { filter, format } => {
            let filter = filter.unwrap_or_default();
            return super::bulk::export(server, &filter, format).await;
        }
        MachineVerb::Import { file, format, replace, dry_run, confirm } => {
            let options = super::bulk::ImportOptions { format, replace, dry_run, confirm };
            return super::bulk::import(server, &file, options).await;
        }
        MachineVerb::AddCard { mac, card } => {
            change_card(server, Method::PUT, &mac, &card).await?;
        }
        MachineVerb::RemoveCard { mac, card } => {
            change_card(server, Method::DELETE, &mac, &card).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds or removes a network card, and prints the machine with the cards that it then has.
async fn change_card(server: &RemoteServer, method: Method, mac: &str, card: &str) -> Result<()> {
    let path = format!("/machines/{}/macs/{}", encoded(mac), encoded(card));
    let machine = server.api.send(method, &path, None).await?;
    if server.json {
        out_json!("{machine:#}");
    } else {
        let cards = machine["macs"].as_array().into_iter().flatten().map(shown);
        let cards: Vec<String> = cards.collect();
        out!("{}: further network cards: {}", shown(&machine["mac"]), cards.join(", "));
    }
    Ok(())
}

/// Assigns a machine. For a known machine, sends only `changes`. An unknown machine, or one that
/// gets a new order, is saved as a whole.
async fn set(
    server: &RemoteServer,
    mac: &str,
    changes: Map<String, Value>,
    again: bool,
) -> Result<Value> {
    let path = format!("/machines/{}", encoded(mac));
    let known = match server.api.get(&path).await {
        Ok(machine) => Some(machine),
        Err(error) if error.kind == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    match known {
        Some(_) if !again => server.api.send(Method::PATCH, &path, Some(&changes.into())).await,
        known => {
            let fields = [
                "name",
                "bty_image_ref",
                "labels",
                "boot_mode",
                "sanboot_drive",
                "target_disk_serial",
                "params",
                "extra_args",
                "netboot_version",
            ];
            let mut assignment: Map<String, Value> = Map::new();
            for field in fields {
                assignment.extend(
                    known.as_ref().map(|machine| (field.to_owned(), machine[field].clone())),
                );
            }
            assignment.extend(changes);
            server.api.send(Method::PUT, &path, Some(&assignment.into())).await
        }
    }
}

fn list(machines: &Value) {
    let rows: Vec<Vec<String>> = machines
        .as_array()
        .into_iter()
        .flatten()
        .map(|m| {
            let labels: Vec<String> =
                m["labels"].as_array().into_iter().flatten().map(shown).collect();
            vec![
                shown(&m["mac"]),
                shown(&m["name"]),
                shown(&m["boot_mode"]),
                shown(&m["boot_state"]),
                shown(&m["target_disk_serial"]),
                shown(&m["last_seen_at"]),
                labels.join(", "),
            ]
        })
        .collect();
    table(&["MAC", "Name", "Plan", "State", "Disk", "Last seen", "Labels"], &rows);
}
