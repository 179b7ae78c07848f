//! Undoes changes of operators, as long as nothing that depends on the change has happened since.

use std::sync::Arc;

use serde_json::json;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::mac::Mac;
use crate::domain::machine::{ClientContext, Machine, Outcome};
use crate::domain::time::Time;
use crate::services::access::Principal;
use crate::services::app::{App, MachineView};
use crate::services::{event_log, machine_edits, machine_reads, plan_edits, settings};
use crate::store::{self, catalog::Stored};

/// The inverse of a change.
#[derive(Clone, Debug)]
pub enum Undo {
    /// Restores a machine, if nothing has changed it since.
    Machine {
        /// Its address.
        mac: Mac,
        /// The machine before the change; `None` when it was unknown.
        before: Option<Box<Machine>>,
        /// Its hardware, if the change deleted the machine.
        lshw: Option<(String, Time)>,
        /// The machine after the change; `None` when it was deleted.
        after: Option<Box<Machine>>,
    },
    /// Restores a deleted entry of the catalog.
    Image(Box<Stored>),
    /// Restores earlier values of settings.
    Settings(Vec<(String, String)>),
    /// Restores the source of an earlier revision of a plan.
    Plan {
        /// Its name.
        name: String,
        /// Number of the revision; zero deletes the plan.
        revision: i64,
    },
    /// Restores whether events are acknowledged.
    Acknowledged {
        /// Numbers of the events.
        ids: Vec<i64>,
        /// True if they become acknowledged.
        acknowledged: bool,
    },
}

/// Undoes a change.
///
/// # Errors
/// - [`ErrorKind::Conflict`] when something has happened since that depends on the change.
/// - The errors of the change that restores the earlier state.
pub async fn undo(
    app: &Arc<App>,
    who: &ClientContext,
    principal: &Principal,
    undo: Undo,
) -> Result<()> {
    match undo {
        Undo::Machine { mac, before: Some(before), lshw, after } => {
            restore_machine(app, who, mac, *before, lshw, after.map(|machine| *machine)).await
        }
        Undo::Machine { mac, before: None, after, .. } => {
            let after = after.ok_or_else(|| Error::internal("an undo without a machine"))?;
            delete_unchanged(app, who, mac, &after).await
        }
        Undo::Image(entry) => restore_image(app, who, *entry).await,
        Undo::Settings(values) => {
            let values = values.into_iter().map(|(key, value)| (key, value.into())).collect();
            settings::put(app, who, values).await.map(drop)
        }
        Undo::Plan { name, revision: 0 } => plan_edits::delete(app, who, name).await,
        Undo::Plan { name, revision } => {
            plan_edits::roll_back(app, who, principal, &name, revision).await.map(drop)
        }
        Undo::Acknowledged { ids, acknowledged } => {
            event_log::set_acknowledged(app, ids, acknowledged).await
        }
    }
}

/// Restores a machine, unless it has changed: if it has booted since, it has already acted on the
/// change.
async fn restore_machine(
    app: &Arc<App>,
    who: &ClientContext,
    mac: Mac,
    before: Machine,
    lshw: Option<(String, Time)>,
    after: Option<Machine>,
) -> Result<()> {
    let (ip, restored_mac) = (who.ip.clone(), mac.clone());
    let decide = move |view: &MachineView<'_>| {
        if !is_same(view.machine.as_ref(), after.as_ref()) {
            return Err(changed(&restored_mac));
        }
        let event = NewEvent::new(
            "machine.upserted",
            restored_mac.as_str(),
            format!("{restored_mac}: undid the last change"),
        );
        let details = json!({
            "boot_mode": before.plan, "bty_image_ref": before.image_ref,
            "target_disk_serial": before.target_serial, "is_undo": true,
        });
        let events = vec![event.by(Actor::Operator, ip.as_deref()).with(details)];
        Ok(Outcome { machine: before, events, answer: () })
    };
    let hardware_mac = mac.clone();
    let restore_hardware = move |conn: &_, _: bool| match &lshw {
        Some((text, at)) => store::machines::put_lshw(conn, &hardware_mac, text, *at),
        None => Ok(()),
    };
    app.machines.update(&mac, decide, restore_hardware).await.map(drop)
}

fn changed(mac: &Mac) -> Error {
    Error::new(ErrorKind::Conflict, format!("cannot undo: {mac} has changed since"))
}

/// True if the two differ at most in when and from where they were last seen.
fn is_same(now: Option<&Machine>, then: Option<&Machine>) -> bool {
    let without_contact =
        |machine: &Machine| Machine { last_seen_at: None, last_seen_ip: None, ..machine.clone() };
    now.map(without_contact) == then.map(without_contact)
}

async fn delete_unchanged(
    app: &Arc<App>,
    who: &ClientContext,
    mac: Mac,
    after: &Machine,
) -> Result<()> {
    let now = machine_reads::find(app, &mac).await?;
    if !is_same(now.as_ref(), Some(after)) {
        return Err(changed(&mac));
    }
    machine_edits::delete(app, who, mac).await
}

async fn restore_image(app: &Arc<App>, who: &ClientContext, entry: Stored) -> Result<()> {
    let ip = who.ip.clone();
    app.db
        .write(move |transaction| {
            let conflict = |detail: String| Err(Error::new(ErrorKind::Conflict, detail));
            if let Some((_, false)) = store::catalog::by_src(transaction, &entry.src)? {
                return conflict(format!(
                    "cannot undo: {} is already in the catalog again",
                    entry.src
                ));
            }
            if store::catalog::is_name_taken(transaction, &entry.name, &entry.src)? {
                return conflict(format!("cannot undo: another entry is now named {}", entry.name));
            }
            store::catalog::put(transaction, &entry)?;
            let event = NewEvent::new(
                "catalog.entry.added",
                entry.src.clone(),
                format!("restored {}", entry.name),
            );
            let event = event.by(Actor::Operator, ip.as_deref()).with(json!({ "is_undo": true }));
            transaction.record(&event).map(drop)
        })
        .await?;
    app.snapshots.refresh().await
}
