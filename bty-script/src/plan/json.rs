//! Plans as JSON, for live environments that do not understand plan scripts.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Header, PlanScript};
use crate::bundled;

/// What a machine should do; the JSON field `mode` tells the variants apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
#[non_exhaustive]
pub enum JsonPlan {
    /// Write an image to a disk.
    Flash {
        /// Reference of the image.
        image: String,
        /// Serial number of the disk.
        target_disk_serial: String,
        /// Name of the image, for display.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// SHA-256 of the image as published.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disk_image_sha: Option<String>,
        /// Format of the image; only a hint.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        format: Option<String>,
    },
    /// Start the wizard, in which a person chooses.
    Interactive {
        /// Reference of the catalog to offer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        catalog: Option<String>,
    },
    /// Send the inventory, then reboot.
    Inventory,
    /// Do nothing on this machine.
    Exit,
}

impl JsonPlan {
    /// The plan script that does the same on `machine`; `None` for all modes but `flash`.
    #[must_use]
    pub fn script(&self, machine: &str) -> Option<PlanScript> {
        let value = match self {
            Self::Flash { image, target_disk_serial, name, disk_image_sha, format } => json!({
                "image": { "src": image, "sha256": disk_image_sha, "name": name, "format": format },
                "disk": { "serial": target_disk_serial },
            }),
            _ => return None,
        };
        let header = Header {
            machine: machine.to_owned(),
            plan: "flash".into(),
            revision: 0,
            cycle: String::new(),
        };
        Some(PlanScript {
            header,
            value,
            source: bundled::text("auto").unwrap_or_default().to_owned(),
        })
    }
}
