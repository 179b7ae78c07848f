//! The state of a machine, and the rules that change it.
//!
//! The rules are pure functions. From a [`Machine`] and an input they compute an [`Outcome`]: the
//! changed machine, events, and an answer. The store writes the machine and its events in one
//! transaction; a simulation discards them.
//!
//! | module | input |
//! |---|---|
//! | [`contact`] | iPXE asks what to boot |
//! | [`order`] | the live environment asks for its order |
//! | [`report`] | the live environment reports progress, its result or its inventory |
//! | [`identity`] | the firmware says which machine it is |
//! | [`inventory`] | the hardware in such a report |
//! | [`silence`] | nothing has come from the live environment for a long time |
//! | [`save`] | an operator assigns plan, image and disk |
//!
//! A *boot cycle* ties reports to the boot that they belong to; see [`cycle`].

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::event::{Actor, Author, NewEvent};
use crate::domain::mac::Mac;
use crate::domain::time::Time;

pub mod architecture;
pub mod boot;
pub mod bulk;
pub mod contact;
pub mod cycle;
pub mod firmware;
pub mod flashed;
pub mod hardware;
pub mod identity;
pub mod inventory;
pub mod order;
pub mod pin;
pub mod report;
pub mod save;
pub mod search;
pub mod silence;
pub mod state_label;
pub mod status;
pub mod table;

pub use cycle::{Cycle, OrderSummary, Stage};
pub use firmware::MachineIdentity;
pub use flashed::Flashed;
pub use status::{MachineStatus, Phase};

/// A machine as the server knows it. An operator sets the fields from `name` to `labels`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// MAC address.
    pub mac: Mac,
    /// What people call it; empty for none. Need not be unique.
    #[serde(default)]
    pub name: String,
    /// Name of its plan.
    pub plan: String,
    /// Reference of its image.
    pub image_ref: Option<String>,
    /// SHA-256 that the image had when it was assigned, for [`pin`].
    #[serde(default)]
    pub image_sha256: Option<String>,
    /// Serial number of the disk that may be written.
    pub target_serial: Option<String>,
    /// The drive that BIOS machines boot from, such as `0x80`.
    pub sanboot_drive: Option<String>,
    /// Additional arguments on the kernel command line of its live environment.
    pub extra_args: String,
    /// Version of the live environment; empty for the server's default.
    #[serde(default)]
    pub netboot_version: String,
    /// Plan parameters set by an operator.
    pub params: serde_json::Map<String, Value>,
    /// Labels, sorted. Plans can read them.
    pub labels: Vec<String>,

    /// The state that the plan keeps between evaluations: a JSON object.
    pub state: Value,
    /// Why the machine is on hold, for example because its plan did not learn of a completed flash.
    /// A machine on hold boots its disk until an operator gives it a new order.
    pub hold: Option<String>,
    /// The open boot cycle, or the most recent one.
    pub cycle: Option<Cycle>,
    /// The most recent answers to PXE contacts, oldest first.
    pub answers: Vec<CachedAnswer>,
    /// The most recent events, oldest first.
    pub history: Vec<HistoryEntry>,

    /// The disks of the most recent inventory: a JSON array.
    pub disks: Option<Value>,
    /// When the machine posted that inventory.
    pub disks_at: Option<Time>,
    /// The facts about its hardware that plans can read; see [`hardware::facts`].
    pub hardware: Value,
    /// What its firmware says about it.
    #[serde(default)]
    pub identity: Option<MachineIdentity>,
    /// MAC addresses of its further network cards, sorted. None of them is a machine of its own.
    #[serde(default)]
    pub macs: Vec<Mac>,
    /// The most recent completed flash.
    pub flashed: Option<Flashed>,

    /// When the server discovered the machine; `None` if an operator added it.
    pub discovered_at: Option<Time>,
    /// When it last sent a request.
    pub last_seen_at: Option<Time>,
    /// The client address of that request.
    pub last_seen_ip: Option<String>,
    /// When it was added.
    pub created_at: Time,
    /// When an operator last saved it.
    pub updated_at: Time,
}

/// The answer to a PXE contact. A repeated contact gets the same answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CachedAnswer {
    /// Nonce of the contact; `None` if iPXE did not run the bootstrap script.
    pub nonce: Option<String>,
    /// Address of the client.
    pub ip: Option<String>,
    /// When the contact was answered.
    pub at: Time,
    /// What the client was told to boot.
    pub boot: boot::Boot,
}

/// An event in the history that plans can read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When it happened, in seconds since the Unix epoch.
    pub at: i64,
    /// Kind of the event, such as `machine.flashed`.
    pub kind: String,
}

/// Maximum number of events in the history of a machine.
const HISTORY_MAX: usize = 16;

/// Maximum number of answers kept for repeated contacts.
const ANSWERS_MAX: usize = 4;

impl Machine {
    /// Creates a machine with a plan and nothing else known about it.
    #[must_use]
    pub fn new(mac: Mac, plan: &str, now: Time) -> Self {
        Self {
            mac,
            name: String::new(),
            plan: plan.to_owned(),
            image_ref: None,
            image_sha256: None,
            target_serial: None,
            sanboot_drive: None,
            extra_args: String::new(),
            netboot_version: String::new(),
            params: serde_json::Map::new(),
            labels: Vec::new(),
            state: Value::Object(serde_json::Map::new()),
            hold: None,
            cycle: None,
            answers: Vec::new(),
            history: Vec::new(),
            disks: None,
            disks_at: None,
            hardware: Value::Null,
            identity: None,
            macs: Vec::new(),
            flashed: None,
            discovered_at: None,
            last_seen_at: None,
            last_seen_ip: None,
            created_at: now,
            updated_at: now,
        }
    }

    fn mark_seen(&mut self, client: &ClientContext) {
        self.last_seen_at = Some(client.now);
        if client.ip.is_some() {
            self.last_seen_ip.clone_from(&client.ip);
        }
    }

    /// Adds an event to the history, and drops the oldest one if the history is full.
    fn remember_event(&mut self, now: Time, kind: &str) {
        if self.history.len() >= HISTORY_MAX {
            self.history.remove(0);
        }
        self.history.push(HistoryEntry { at: now.seconds(), kind: kind.to_owned() });
    }

    /// Returns the cycle if it can still receive a result.
    #[must_use]
    pub fn open_cycle(&self) -> Option<&Cycle> {
        self.cycle.as_ref().filter(|cycle| cycle.stage.is_open())
    }

    fn open_cycle_mut(&mut self) -> Option<&mut Cycle> {
        self.cycle.as_mut().filter(|cycle| cycle.stage.is_open())
    }

    /// Number of consecutive boots, including the most recent one, in which the live environment
    /// did not start, or posted no inventory although it was to take one.
    fn silent_boots(&self) -> u32 {
        let is_inventory =
            |cycle: &Cycle| cycle.order.as_ref().is_some_and(|order| order.mode == "inventory");
        let is_silent = |cycle: &&Cycle| match cycle.stage {
            Stage::Lost => cycle.is_silent(),
            Stage::Failed => cycle.is_inventory_unreadable && is_inventory(cycle),
            _ => false,
        };
        let last = self.cycle.as_ref().filter(|cycle| !cycle.is_past).filter(is_silent);
        last.map_or(0, |cycle| cycle.silent_before.saturating_add(1))
    }

    /// True if the most recent cycle is stalled and no operator has saved the machine since.
    fn is_stalled(&self) -> bool {
        self.cycle.as_ref().is_some_and(|cycle| !cycle.is_past && cycle.stage == Stage::Stalled)
    }

    /// True if the open cycle's order is to take the inventory, and the machine has posted it.
    fn has_done_inventory(&self) -> bool {
        let is_done = |cycle: &Cycle| {
            cycle.has_inventory
                && cycle.order.as_ref().is_some_and(|order| order.mode == "inventory")
        };
        self.open_cycle().is_some_and(is_done)
    }

    /// True if the open cycle's order is to take the inventory, and the server could not read it.
    fn has_failed_inventory(&self) -> bool {
        let order = self.open_cycle().filter(|cycle| cycle.is_inventory_unreadable);
        order.and_then(|cycle| cycle.order.as_ref()).is_some_and(|order| order.mode == "inventory")
    }

    /// Closes the open cycle if its order is to take the inventory, and the machine has posted it.
    fn close_after_inventory(&mut self) {
        if self.has_done_inventory() {
            self.close_cycle(Stage::Done);
        } else if self.has_failed_inventory() {
            self.close_cycle(Stage::Failed);
        }
    }

    fn close_cycle(&mut self, stage: Stage) {
        if let Some(cycle) = self.cycle.as_mut().filter(|cycle| cycle.stage.is_open()) {
            cycle.stage = stage;
        }
    }

    /// Puts the machine on hold, unless it already is. A live environment that has not been given
    /// its order yet gets none, and the machine boots its disk.
    pub fn put_on_hold(&mut self, reason: &str) {
        self.hold.get_or_insert_with(|| reason.to_owned());
        if self.open_cycle().is_some_and(|cycle| cycle.order.is_none()) {
            self.close_cycle(Stage::Superseded);
        }
    }

    /// Returns the status of the machine, which follows from its plan and its most recent cycle.
    #[must_use]
    pub fn status(&self) -> MachineStatus<'_> {
        let cycle = self.cycle.as_ref().filter(|cycle| !cycle.is_past);
        let mode = cycle.and_then(|cycle| cycle.order.as_ref()).map(|order| order.mode.as_str());
        let stage = cycle.map(|cycle| cycle.stage);
        let is_silent = cycle.is_some_and(|cycle| cycle.stalled_at.is_some());
        MachineStatus { plan: &self.plan, hold: self.hold.as_deref(), stage, mode, is_silent }
    }

    /// Returns when the machine was found to be stalled; `None` if it is not.
    #[must_use]
    pub fn stalled_at(&self) -> Option<Time> {
        let cycle = self.cycle.as_ref().filter(|_| self.status().is_stalled());
        cycle.and_then(|cycle| cycle.stalled_at)
    }

    /// Returns the status in words; see [`MachineStatus::text`].
    #[must_use]
    pub fn boot_state(&self) -> String {
        self.status().text()
    }
}

/// The origin and time of a request.
#[derive(Clone, Debug, Default)]
pub struct ClientContext {
    /// Address of the client.
    pub ip: Option<String>,
    /// Name of the user or token; `None` for machines, and if the server has no password.
    pub name: Option<String>,
    /// When the server received the request.
    pub now: Time,
    /// The base URL at which the client reached this server, such as `http://10.0.0.1:8080`.
    pub base: String,
}

impl ClientContext {
    /// Returns the client as the operator who causes an event.
    #[must_use]
    pub fn author(&self) -> Author {
        Author { actor: Actor::Operator, name: self.name.clone(), ip: self.ip.clone() }
    }

    /// Returns the address of the client; `0.0.0.0` if it is unknown.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.ip.as_deref().and_then(|ip| ip.parse().ok()).unwrap_or(IpAddr::from([0, 0, 0, 0]))
    }
}

/// The result of a rule.
#[derive(Clone, Debug)]
pub struct Outcome<T> {
    /// The changed machine, to be written.
    pub machine: Machine,
    /// The events to write in the same transaction.
    pub events: Vec<NewEvent>,
    /// The answer to the request.
    pub answer: T,
}

#[cfg(test)]
mod tests;
