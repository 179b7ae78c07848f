//! Machines: what is known of them, and how it changes.
//!
//! The rules are here and are pure: a [`Machine`] and something that happened give a changed
//! machine, the events that tell of it, and an answer. The store writes all of that in one
//! transaction; a simulation throws it away.
//!
//! | room | what happens |
//! |---|---|
//! | [`contact`] | a PXE contact: what does iPXE do now? |
//! | [`order`] | the live environment asks for its plan |
//! | [`report`] | it tells how far it is, and how it ended; it posts its inventory |
//! | [`save`] | an operator binds it |
//!
//! A *boot cycle* is the unit of trust: it is opened when a machine is sent to the live
//! environment, has a random token, and is closed by the end that the live environment reports, by
//! the next contact, or by a save. Only an open cycle can be completed, once.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::event::NewEvent;
use crate::domain::mac::Mac;
use crate::domain::time::Time;

pub mod contact;
pub mod hardware;
pub mod order;
pub mod report;
pub mod save;
pub mod status;

pub use status::{MachineStatus, Phase};

/// What is known of a machine. The fields that an operator binds are `plan` to `labels`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// MAC address.
    pub mac: Mac,
    /// Name of its plan.
    pub plan: String,
    /// Reference of the image that it is bound to.
    pub image_ref: Option<String>,
    /// Serial number of the disk that may be written.
    pub target_serial: Option<String>,
    /// The drive that BIOS machines boot from, such as `0x80`.
    pub sanboot_drive: Option<String>,
    /// Further words on its kernel command line.
    pub extra_args: String,
    /// Version of the live environment's files; empty for the server's.
    #[serde(default)]
    pub netboot_version: String,
    /// Values of the plan's parameters that an operator has set.
    pub params: serde_json::Map<String, Value>,
    /// For people, and for plans to choose by; sorted.
    pub labels: Vec<String>,

    /// What the plan remembers.
    pub state: Value,
    /// Why it boots its disk and nothing else until it is saved: its plan failed where that
    /// matters.
    pub hold: Option<String>,
    /// The boot cycle that is open, or was last.
    pub cycle: Option<Cycle>,
    /// The last answers to PXE contacts, oldest first.
    pub answers: Vec<CachedAnswer>,
    /// The last events, oldest first.
    pub history: Vec<HistoryEntry>,

    /// Its disks as it posted them.
    pub disks: Option<Value>,
    /// When it posted them.
    pub disks_at: Option<Time>,
    /// The few facts of its hardware that plans choose by.
    pub hardware: Value,
    /// The last flash that was proven.
    pub flashed: Option<Flashed>,

    /// When it was first seen by itself; none when an operator has added it.
    pub discovered_at: Option<Time>,
    /// When it was last heard of.
    pub last_seen_at: Option<Time>,
    /// From which address.
    pub last_seen_ip: Option<String>,
    /// When it was added.
    pub created_at: Time,
    /// When an operator last changed it.
    pub updated_at: Time,
}

/// A boot cycle. Kept as JSON: a field that is added needs a default, for states of earlier
/// programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cycle {
    /// Its token: 32 hexadecimal digits.
    pub token: String,
    /// When it was opened.
    pub opened_at: Time,
    /// By which address.
    pub opened_by: Option<String>,
    /// Where it is.
    pub stage: Stage,
    /// True when the live environment does not know the token: then its address has to do.
    pub is_tokenless: bool,
    /// Why a person is asked instead of the plan: it has failed.
    pub fallback: Option<String>,
    /// Its inventory was posted in this boot.
    pub has_inventory: bool,
    /// What was ordered, once it has asked.
    pub order: Option<OrderSummary>,
    /// How far it is.
    pub progress: Option<Value>,
    /// When it was last heard of.
    pub heard_at: Time,
    /// An operator has given a new order since it was closed: it says nothing of where the machine
    /// is.
    #[serde(default)]
    pub is_past: bool,
    /// The live environment did not start in as many boots directly before this one.
    #[serde(default)]
    pub silent_before: u32,
}

impl Cycle {
    /// Nothing has shown that the live environment started: it has neither posted an inventory nor
    /// asked for an order that needs none.
    fn is_silent(&self) -> bool {
        !self.has_inventory && self.order.as_ref().is_none_or(|order| order.mode == "inventory")
    }
}

/// Where a boot cycle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The machine was sent to the live environment.
    Offered,
    /// It fetches its files.
    Booting,
    /// It has its plan.
    Working,
    /// It has reported success. Closed.
    Done,
    /// It has reported failure. Closed.
    Failed,
    /// Another contact came without an end having been reported. Closed.
    Lost,
    /// An operator has saved the machine meanwhile. Closed.
    Superseded,
    /// The live environment did not start, several boots in a row: the machine boots its disk until
    /// it is saved. Closed.
    Stalled,
}

impl Stage {
    /// True when an end can still be reported.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Offered | Self::Booting | Self::Working)
    }
}

/// What a live environment was told to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderSummary {
    /// `flash`, `interactive`, `inventory` or `exit`.
    pub mode: String,
    /// Reference of the image, if it is one of the catalog.
    pub image_ref: Option<String>,
    /// Its name.
    pub image_name: Option<String>,
    /// Its digest, when it is known.
    pub sha256: Option<String>,
    /// The disk.
    pub serial: Option<String>,
}

/// A flash that was proven.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flashed {
    /// When.
    pub at: Time,
    /// Reference of the image.
    pub image: Option<String>,
    /// Digest of the image.
    pub sha256: Option<String>,
    /// The disk.
    pub serial: Option<String>,
}

/// An answer to a PXE contact, so that a repeated one gets the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CachedAnswer {
    /// What the contact was told apart by; none when it was chained directly.
    pub nonce: Option<String>,
    /// Where it came from.
    pub ip: Option<String>,
    /// When.
    pub at: Time,
    /// What was decided.
    pub boot: contact::Boot,
}

/// An entry of a machine's short memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Seconds since 1970.
    pub at: i64,
    /// Kind of the event.
    pub kind: String,
}

/// As many events does a machine remember by itself.
const HISTORY_MAX: usize = 16;

/// As many answers are kept for contacts that are repeated.
const ANSWERS_MAX: usize = 4;

impl Machine {
    /// A machine of which nothing is known but its address and its plan.
    #[must_use]
    pub fn new(mac: Mac, plan: &str, now: Time) -> Self {
        Self {
            mac,
            plan: plan.to_owned(),
            image_ref: None,
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
            flashed: None,
            discovered_at: None,
            last_seen_at: None,
            last_seen_ip: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// It was heard of.
    fn seen(&mut self, who: &ClientContext) {
        self.last_seen_at = Some(who.now);
        if who.ip.is_some() {
            self.last_seen_ip.clone_from(&who.ip);
        }
    }

    /// Takes note of an event.
    fn remember(&mut self, now: Time, kind: &str) {
        if self.history.len() >= HISTORY_MAX {
            self.history.remove(0);
        }
        self.history.push(HistoryEntry { at: now.seconds(), kind: kind.to_owned() });
    }

    /// The cycle that can still be completed.
    #[must_use]
    pub fn open_cycle(&self) -> Option<&Cycle> {
        self.cycle.as_ref().filter(|cycle| cycle.stage.is_open())
    }

    fn open_cycle_mut(&mut self) -> Option<&mut Cycle> {
        self.cycle.as_mut().filter(|cycle| cycle.stage.is_open())
    }

    /// In how many boots, up to the last one, the live environment did not start.
    fn silent_boots(&self) -> u32 {
        let lost = self.cycle.as_ref().filter(|cycle| !cycle.is_past && cycle.stage == Stage::Lost);
        lost.filter(|cycle| cycle.is_silent())
            .map_or(0, |cycle| cycle.silent_before.saturating_add(1))
    }

    /// The live environment did not start in several boots, and no operator has saved the machine
    /// since.
    fn is_stalled(&self) -> bool {
        self.cycle.as_ref().is_some_and(|cycle| !cycle.is_past && cycle.stage == Stage::Stalled)
    }

    /// True when the boot was for the inventory, and the inventory is here.
    fn has_done_inventory(&self) -> bool {
        let is_done = |cycle: &Cycle| {
            cycle.has_inventory
                && cycle.order.as_ref().is_some_and(|order| order.mode == "inventory")
        };
        self.open_cycle().is_some_and(is_done)
    }

    fn close_cycle(&mut self, stage: Stage) {
        if let Some(cycle) = self.cycle.as_mut().filter(|cycle| cycle.stage.is_open()) {
            cycle.stage = stage;
        }
    }

    /// Where it is.
    #[must_use]
    pub fn status(&self) -> MachineStatus<'_> {
        let cycle = self.cycle.as_ref().filter(|cycle| !cycle.is_past);
        let mode = cycle.and_then(|cycle| cycle.order.as_ref()).map(|order| order.mode.as_str());
        let stage = cycle.map(|cycle| cycle.stage);
        MachineStatus { plan: &self.plan, hold: self.hold.as_deref(), stage, mode }
    }

    /// Where it is, for people; see [`Standing::text`].
    #[must_use]
    pub fn boot_state(&self) -> String {
        self.status().text()
    }
}

/// Who did something, and when.
#[derive(Clone, Debug, Default)]
pub struct ClientContext {
    /// Address of the client.
    pub ip: Option<String>,
    /// Now.
    pub now: Time,
    /// Base address by which the server was reached, such as `http://10.0.0.1:8080`.
    pub base: String,
}

impl ClientContext {
    /// The address of the client; the unspecified one when it is not known.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.ip.as_deref().and_then(|ip| ip.parse().ok()).unwrap_or(IpAddr::from([0, 0, 0, 0]))
    }
}

/// What came of something that happened.
#[derive(Clone, Debug)]
pub struct Outcome<T> {
    /// The machine afterwards.
    pub machine: Machine,
    /// What to write down.
    pub events: Vec<NewEvent>,
    /// What to answer.
    pub answer: T,
}

#[cfg(test)]
mod tests;
