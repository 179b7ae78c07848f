//! Undoes changes of operators, as long as nothing that depends on the change has happened since.

use std::sync::Arc;

use serde_json::json;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::NewEvent;
use crate::domain::mac::Mac;
use crate::domain::machine::{ClientContext, Machine, Outcome};
use crate::domain::time::Time;
use crate::services::access::Principal;
use crate::services::auth::Scope;
use crate::services::catalog::CatalogEdits;
use crate::services::event_log::EventLog;
use crate::services::machine_edits::MachineEdits;
use crate::services::machine_reads::MachineReads;
use crate::services::machines::{MachineView, Machines};
use crate::services::plan_edits::PlanEdits;
use crate::services::settings::SettingEdits;
use crate::store::{self, catalog::Stored};

/// The inverse of a change.
#[derive(Clone, Debug)]
pub enum Undo {
    /// Restores a machine, if nothing has changed it since.
    Machine {
        /// MAC address of the machine.
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
        /// Name of the plan.
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

impl Undo {
    /// Returns the scope that the change itself needs.
    fn scope(&self) -> Scope {
        match self {
            Self::Machine { .. } | Self::Acknowledged { .. } => Scope::Machines,
            Self::Image(_) => Scope::Catalog,
            Self::Settings(_) => Scope::Admin,
            Self::Plan { .. } => Scope::Plans,
        }
    }
}

/// Undoes changes of operators.
#[derive(Clone)]
pub struct UndoService {
    machines: Arc<Machines>,
    reads: MachineReads,
    machine_edits: MachineEdits,
    plans: PlanEdits,
    settings: SettingEdits,
    catalog: CatalogEdits,
    events: EventLog,
}

impl UndoService {
    pub(crate) fn new(
        machines: Arc<Machines>,
        reads: MachineReads,
        machine_edits: MachineEdits,
        plans: PlanEdits,
        settings: SettingEdits,
        catalog: CatalogEdits,
        events: EventLog,
    ) -> Self {
        Self { machines, reads, machine_edits, plans, settings, catalog, events }
    }

    /// Undoes a change.
    ///
    /// # Errors
    /// - [`ErrorKind::Forbidden`] when `principal` may not make such a change.
    /// - [`ErrorKind::Conflict`] when something has happened since that depends on the change.
    /// - The errors of the change that restores the earlier state.
    pub async fn undo(&self, who: &ClientContext, principal: &Principal, undo: Undo) -> Result<()> {
        principal.require(undo.scope())?;
        match undo {
            Undo::Machine { mac, before: Some(before), lshw, after } => {
                self.restore_machine(who, mac, *before, lshw, after.map(|machine| *machine)).await
            }
            Undo::Machine { mac, before: None, after, .. } => {
                let after = after.ok_or_else(|| Error::internal("an undo without a machine"))?;
                self.delete_unchanged(who, mac, &after).await
            }
            Undo::Image(entry) => self.catalog.restore(who, *entry).await,
            Undo::Settings(values) => {
                let values = values.into_iter().map(|(key, value)| (key, value.into())).collect();
                self.settings.put(who, values).await.map(drop)
            }
            Undo::Plan { name, revision: 0 } => self.plans.delete(who, name).await,
            Undo::Plan { name, revision } => {
                self.plans.roll_back(who, principal, &name, revision).await.map(drop)
            }
            Undo::Acknowledged { ids, acknowledged } => {
                self.events.set_acknowledged(ids, acknowledged).await
            }
        }
    }

    /// Restores a machine, unless it has changed: if it has booted since, it has already acted on
    /// the change.
    async fn restore_machine(
        &self,
        who: &ClientContext,
        mac: Mac,
        before: Machine,
        lshw: Option<(String, Time)>,
        after: Option<Machine>,
    ) -> Result<()> {
        let (author, restored_mac) = (who.author(), mac.clone());
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
            let events = vec![event.caused_by(&author).with(details)];
            Ok(Outcome { machine: before, events, answer: () })
        };
        let hardware_mac = mac.clone();
        let restore_hardware = move |conn: &_, _: bool| match &lshw {
            Some((text, at)) => store::machines::put_lshw(conn, &hardware_mac, text, *at),
            None => Ok(()),
        };
        let ((), machine) = self.machines.update(&mac, decide, restore_hardware).await?;
        self.machines.refresh_cards(&machine).await
    }

    async fn delete_unchanged(&self, who: &ClientContext, mac: Mac, after: &Machine) -> Result<()> {
        let now = self.reads.find(&mac).await?;
        if !is_same(now.as_ref(), Some(after)) {
            return Err(changed(&mac));
        }
        self.machine_edits.delete(who, mac).await
    }
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
