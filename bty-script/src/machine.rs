//! The machine that a plan on a server decides about.

use std::sync::{Arc, Mutex, PoisonError};

use bty::catalog::Catalog;
use rhai::{Dynamic, Map};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a plan sees of a machine. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MachineFacts {
    /// MAC address: lower case, with colons.
    pub mac: String,
    /// Labels that operators have given the machine.
    pub labels: Vec<String>,
    /// Name of the assigned plan.
    pub plan: String,
    /// Values of all parameters of the plan, with defaults filled in.
    pub params: Value,
    /// What the plan stored about the machine; null before the first time.
    pub state: Value,
    /// Reference of the assigned image.
    pub image_ref: Option<String>,
    /// SHA-256 of the version of the assigned image that the machine keeps, if that is not the one
    /// in the catalog.
    pub image_sha256: Option<String>,
    /// Serial number of the assigned target disk, or its selector: the only one that may be
    /// written.
    pub target_serial: Option<String>,
    /// Disks of the last inventory, each with `size_bytes` and `serial`.
    pub disks: Value,
    /// Hardware of the last inventory: `vendor`, `product`, `version`, `serial`, `arch`, `cpu`,
    /// `cpus`, `memory_bytes`; null before the first inventory.
    pub hardware: Value,
    /// The last proven flash: `at`, `image`, `sha256`, `serial`; null before the first one.
    pub flashed: Value,
    /// Recent events of the machine, oldest first: maps with `at` and `kind`.
    pub history: Value,
    /// When the server first saw the machine.
    pub discovered_at: i64,
    /// When the machine last sent its inventory.
    pub inventory_at: Option<i64>,
    /// The current time of the server.
    pub now: i64,
    /// The current time in the server's time zone: `year`, `month`, `day`, `hour`, `minute`,
    /// `weekday` (1 is Monday).
    pub clock: Value,
    /// Base URL of the server.
    pub server: String,
}

/// The script value `Machine`. Clones share one state, so a function of a plan that sets
/// `m.state` changes it for its caller too.
#[derive(Clone)]
pub(crate) struct PlanMachine(Arc<Mutex<MachineData>>);

pub(crate) struct MachineData {
    pub(crate) facts: MachineFacts,
    /// The current `state` of the plan; `facts.state` keeps the one before the call.
    pub(crate) state: Dynamic,
    pub(crate) catalog: Arc<Catalog>,
}

impl PlanMachine {
    /// `state` is `facts.state` as a script value; `()` becomes an empty map.
    pub(crate) fn new(mut facts: MachineFacts, mut state: Dynamic, catalog: Arc<Catalog>) -> Self {
        if state.is_unit() {
            facts.state = Value::Object(serde_json::Map::new());
            state = Map::new().into();
        }
        Self(Arc::new(Mutex::new(MachineData { facts, state, catalog })))
    }

    pub(crate) fn with<T>(&self, access: impl FnOnce(&mut MachineData) -> T) -> T {
        access(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
