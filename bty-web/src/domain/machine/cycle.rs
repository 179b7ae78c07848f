//! Boot cycles: each ties reports of a live environment to the boot that they belong to.
//!
//! A cycle opens when the server sends a machine to the live environment, and has a random token.
//! It closes when the live environment reports its result, at the next contact, or when an operator
//! saves the machine. Only an open cycle can be completed, and only once.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::time::Time;

/// A boot cycle. The store keeps it as JSON, so a new field needs a default for rows of earlier
/// versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cycle {
    /// The secret that identifies its reports: 32 hexadecimal digits.
    pub token: String,
    /// When it opened.
    pub opened_at: Time,
    /// Address of the client that opened it.
    pub opened_by: Option<String>,
    /// Progress of the cycle.
    pub stage: Stage,
    /// True if the live environment cannot send the token, as the reference's cannot. The address
    /// that opened the cycle then identifies it.
    pub is_tokenless: bool,
    /// Why the plan failed; the live environment then asks a person.
    pub fallback: Option<String>,
    /// True if the machine has posted its inventory in this cycle.
    pub has_inventory: bool,
    /// True if the machine has posted an inventory that the server could not read.
    #[serde(default)]
    pub is_inventory_unreadable: bool,
    /// The order; `None` until the live environment has asked for it.
    pub order: Option<OrderSummary>,
    /// The most recently reported progress.
    pub progress: Option<Value>,
    /// When the live environment last sent a request.
    pub heard_at: Time,
    /// When the live environment counted as silent for too long, unless it has been heard since; or
    /// when it had not started in several boots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled_at: Option<Time>,
    /// True if an operator has given a new order since the cycle closed. The cycle then no longer
    /// determines the status of the machine.
    #[serde(default)]
    pub is_past: bool,
    /// Number of consecutive boots before this one in which the live environment did not start.
    #[serde(default)]
    pub silent_before: u32,
}

impl Cycle {
    /// Records a message of the live environment.
    pub(super) fn hear(&mut self, now: Time) {
        self.heard_at = now;
        self.stalled_at = None;
    }

    /// True if nothing shows that the live environment started: it has posted no inventory and
    /// received no order, except for an order to take the inventory.
    pub(super) fn is_silent(&self) -> bool {
        !self.has_inventory && self.order.as_ref().is_none_or(|order| order.mode == "inventory")
    }
}

/// Progress of a boot cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The server has sent the machine to the live environment.
    Offered,
    /// The machine is downloading the files of the live environment.
    Booting,
    /// The live environment has received its order.
    Working,
    /// Closed: the live environment has reported success.
    Done,
    /// Closed: the live environment has reported failure.
    Failed,
    /// Closed: the machine booted again without reporting a result.
    Lost,
    /// Closed: an operator saved the machine before the result.
    Superseded,
    /// Closed: the live environment did not start in several consecutive boots. The machine boots
    /// its disk until an operator saves it.
    Stalled,
}

impl Stage {
    /// True if the cycle can still receive a result.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Offered | Self::Booting | Self::Working)
    }
}

/// The part of an order that reports are compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderSummary {
    /// `flash`, `interactive`, `inventory` or `exit`.
    pub mode: String,
    /// Reference of the image, if it is in the catalog.
    pub image_ref: Option<String>,
    /// Name of the image.
    pub image_name: Option<String>,
    /// SHA-256 of the image, if known.
    pub sha256: Option<String>,
    /// SHA-256 of the index of the packed image, if the machine may write that instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_sha256: Option<String>,
    /// Serial number of the disk, or the selector by which it is assigned.
    pub serial: Option<String>,
}
