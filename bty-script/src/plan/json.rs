//! The plan as JSON, in the shape that live environments of other versions understand.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Header, PlanScript};
use crate::scripts;

/// What a machine is to do, told by `mode`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
#[non_exhaustive]
pub enum JsonPlan {
    /// Write an image to the disk with this serial number.
    Flash {
        /// Where the image is.
        image: String,
        /// The disk.
        target_disk_serial: String,
        /// Name of the image, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// SHA-256 of the image as published.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disk_image_sha: Option<String>,
        /// Format id; a hint.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        format: Option<String>,
    },
    /// Ask the person.
    Interactive {
        /// Catalog to offer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        catalog: Option<String>,
    },
    /// Post the inventory, then reboot.
    Inventory,
    /// Nothing.
    Exit,
}

impl JsonPlan {
    /// The script that does the same on `machine`; `None` when a person has to be asked.
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
            source: scripts::text("auto").unwrap_or_default().to_owned(),
        })
    }
}
