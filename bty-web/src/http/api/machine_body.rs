//! A machine in the API.

use serde::Serialize;
use serde_json::Value;

use crate::domain::mac::Mac;
use crate::domain::machine::save::Assignment;
use crate::domain::machine::{Cycle, Machine, MachineIdentity};
use crate::domain::time::Time;

/// A machine.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct MachineBody {
    /// MAC address.
    #[schema(value_type = String)]
    pub mac: Mac,
    /// Its assignment.
    #[serde(flatten)]
    pub assignment: Assignment,
    /// SHA-256 that its image had when it was assigned; machines that are pinned write only that.
    pub image_sha256: Option<String>,
    /// When it first contacted the server; null if an operator added it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub discovered_at: Option<Time>,
    /// When it last contacted the server.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen_at: Option<Time>,
    /// Its address at that time.
    pub last_seen_ip: Option<String>,
    /// When an image was last flashed and verified.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_flashed_at: Option<Time>,
    /// Reference of the most recently flashed image.
    pub last_flashed_ref: Option<String>,
    /// SHA-256 of the most recently flashed image.
    pub last_flashed_sha256: Option<String>,
    /// What proves that the disk held that image: `full`, `sample` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_flashed_proof: Option<String>,
    /// What that disk already held before, in bytes of the image: `kept_bytes`, `moved_bytes`,
    /// `fetched_bytes`, and more. Absent after a full flash.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub last_flashed_delta: Option<bty::flash::DeltaReport>,
    /// Its disks as posted in its last inventory.
    #[schema(value_type = Option<Vec<Object>>)]
    pub known_disks: Option<Value>,
    /// When it posted its last inventory.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub known_disks_at: Option<Time>,
    /// Facts about its hardware that plans can read.
    #[schema(value_type = Option<Object>)]
    pub hardware: Value,
    /// Its state in words.
    pub boot_state: String,
    /// When it was found to be stalled: its live environment is silent, or has not started in
    /// several boots; null otherwise.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub stalled_at: Option<Time>,
    /// What its firmware says about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<MachineIdentity>,
    /// MAC addresses of its further network cards.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub macs: Vec<Mac>,
    /// State that its plan keeps between boots: a JSON object.
    #[schema(value_type = Object)]
    pub state: Value,
    /// The open boot cycle, or the most recent one, without its token.
    #[schema(value_type = Option<Object>)]
    pub cycle: Option<CycleBody>,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When an operator last changed it.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Time,
    /// After a change: what is valid, but odd, one sentence each, such as an image for another
    /// architecture, or a name that another machine has too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A boot cycle without its token, which only the machine may know.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CycleBody {
    opened_at: Time,
    opened_by: Option<String>,
    heard_at: Time,
    stage: crate::domain::machine::Stage,
    order: Option<crate::domain::machine::OrderSummary>,
    progress: Option<Value>,
}

impl From<&Cycle> for CycleBody {
    fn from(cycle: &Cycle) -> Self {
        Self {
            opened_at: cycle.opened_at,
            opened_by: cycle.opened_by.clone(),
            heard_at: cycle.heard_at,
            stage: cycle.stage,
            order: cycle.order.clone(),
            progress: cycle.progress.clone(),
        }
    }
}

impl From<&Machine> for MachineBody {
    fn from(machine: &Machine) -> Self {
        let flashed = machine.flashed.as_ref();
        Self {
            mac: machine.mac.clone(),
            assignment: Assignment::of(machine),
            image_sha256: machine.image_sha256.clone(),
            discovered_at: machine.discovered_at,
            last_seen_at: machine.last_seen_at,
            last_seen_ip: machine.last_seen_ip.clone(),
            last_flashed_at: flashed.map(|flashed| flashed.at),
            last_flashed_ref: flashed.and_then(|flashed| flashed.image.clone()),
            last_flashed_sha256: flashed.and_then(|flashed| flashed.sha256.clone()),
            last_flashed_proof: flashed.and_then(|flashed| flashed.proof.clone()),
            last_flashed_delta: flashed.and_then(|flashed| flashed.delta),
            known_disks: machine.disks.clone(),
            known_disks_at: machine.disks_at,
            hardware: machine.hardware.clone(),
            boot_state: machine.boot_state(),
            stalled_at: machine.stalled_at(),
            identity: machine.identity.clone(),
            macs: machine.macs.clone(),
            state: machine.state.clone(),
            cycle: machine.cycle.as_ref().map(CycleBody::from),
            created_at: machine.created_at,
            updated_at: machine.updated_at,
            warnings: Vec::new(),
        }
    }
}
