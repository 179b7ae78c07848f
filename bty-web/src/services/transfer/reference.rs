//! Imports a `state.db` of the reference: machines, labels, catalog, settings and events.

use std::path::Path;

use serde_json::{Value, json};

use super::{ImportFilter, ImportRules, ImportSummary, import_image};
use crate::domain::error::Result;
use crate::domain::event::{Actor, Event, NewEvent};
use crate::domain::machine::{Flashed, Machine, hardware};
use crate::domain::plan::bundled;
use crate::domain::time::Time;
use crate::store;
use crate::store::Transaction;
use crate::store::reference::ReferenceState;

/// True if the file is an SQLite database.
#[must_use]
pub fn is_database(path: &Path) -> bool {
    use std::io::Read as _;
    let mut head = [0; 16];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok()
        && &head == b"SQLite format 3\0"
}

/// Imports `contents`. A second import adds the events again. The machines are never put on hold:
/// they continue where the reference would.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space.
pub fn import(
    transaction: &Transaction<'_>,
    contents: &ReferenceState,
    rules: ImportRules,
    now: Time,
) -> Result<ImportSummary> {
    let mut summary =
        ImportSummary { format: "state.db of the reference".into(), ..ImportSummary::default() };
    for entry in &contents.catalog {
        import_image(transaction, entry, now, &mut summary)?;
    }
    for (key, value) in &contents.settings {
        match crate::domain::settings::check(key, value) {
            Ok(()) => {
                store::settings::put(transaction, key, value, now)?;
                summary.settings += 1;
            }
            Err(error) => summary.skipped.push(format!("setting {}", error.detail)),
        }
    }
    let mut filter = ImportFilter::new(transaction, rules)?;
    for row in &contents.machines {
        match machine(row, contents, now) {
            Ok(machine) => {
                if let Some(why) = filter.problem(&machine.mac)? {
                    summary.skipped.push(format!("machine {}: {why}", machine.mac));
                    continue;
                }
                store::machines::put(transaction, &machine)?;
                if let Some(lshw) = row["hw_lshw"].as_str() {
                    let at = row["hw_lshw_at"].as_str().and_then(Time::parse).unwrap_or(now);
                    store::machines::put_lshw(transaction, &machine.mac, lshw, at)?;
                }
                summary.machines += 1;
            }
            Err(why) => summary.skipped.push(why),
        }
    }
    for event in &contents.events {
        put_event(transaction, event)?;
        summary.events += 1;
    }
    let event = NewEvent::new(
        "state.imported",
        "import",
        format!("machines imported: {}", summary.machines),
    );
    transaction.record(&event.by(Actor::Operator, None).with(serde_json::to_value(&summary)?))?;
    Ok(summary)
}

fn machine(row: &Value, contents: &ReferenceState, now: Time) -> Result<Machine, String> {
    let text = |name: &str| row[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let at = |name: &str| row[name].as_str().and_then(Time::parse);
    let mac = text("mac").unwrap_or_default();
    let mode = text("boot_mode").unwrap_or_default();
    let plan = if bundled::find(&mode).is_some() { mode.as_str() } else { bundled::INVENTORY };
    let mut machine = Machine::new(mac.parse().map_err(|e| format!("machine: {e}"))?, plan, now);
    machine.image_ref = text("bty_image_ref");
    machine.target_serial = text("target_disk_serial").map(|serial| serial.trim().to_owned());
    machine.sanboot_drive = text("sanboot_drive");
    machine.labels = contents
        .labels
        .iter()
        .filter(|(of, _)| *of == mac)
        .map(|(_, label)| label.clone())
        .collect();
    machine.labels.sort();
    machine.disks = text("known_disks")
        .and_then(|disks| serde_json::from_str(&disks).ok())
        .filter(Value::is_array);
    machine.disks_at = at("known_disks_at");
    let lshw: Value =
        text("hw_lshw").and_then(|lshw| serde_json::from_str(&lshw).ok()).unwrap_or_default();
    machine.hardware = hardware::facts(&lshw);
    machine.discovered_at = at("discovered_at");
    machine.last_seen_at = at("last_seen_at");
    machine.last_seen_ip = text("last_seen_ip");
    machine.created_at = at("created_at").unwrap_or(now);
    machine.updated_at = at("updated_at").unwrap_or(now);
    let flashed_at = at("last_flashed_at");
    machine.flashed = flashed_at.map(|at| Flashed {
        at,
        image: machine.image_ref.clone(),
        sha256: None,
        serial: machine.target_serial.clone(),
        ..Flashed::default()
    });
    let is_armed = row["saw_flasher_boot"].as_i64() == Some(1);
    // a state from which the plan continues where the reference would
    machine.state = match plan {
        "bty-flash-once" | "bty-flash-always" => {
            json!({ "flashed": is_armed && flashed_at.is_some() })
        }
        "bty-inventory" => json!({ "inventoried": is_armed && machine.disks_at.is_some() }),
        _ => json!({}),
    };
    Ok(machine)
}

fn put_event(transaction: &Transaction<'_>, event: &Value) -> Result<()> {
    let text = |name: &str| event[name].as_str().map(str::to_owned);
    let details: Value = match &event["details"] {
        Value::String(text) => {
            serde_json::from_str(text).unwrap_or_else(|_| json!({ "text": text }))
        }
        _ => json!({}),
    };
    let ts = text("ts").and_then(|ts| Time::parse(&ts)).unwrap_or_default();
    let event = Event {
        id: 0,
        ts,
        kind: text("kind").unwrap_or_default(),
        subject_kind: text("subject_kind").unwrap_or_default(),
        subject_id: text("subject_id").unwrap_or_default(),
        actor: text("actor").unwrap_or_default(),
        actor_name: None,
        source_ip: text("source_ip"),
        summary: text("summary").unwrap_or_default(),
        details,
        acknowledged: event["acknowledged"].as_i64() == Some(1),
        count: 1,
        last_ts: ts,
    };
    store::events::put_imported(transaction, &event)
}
