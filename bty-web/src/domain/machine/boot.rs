//! The answer to a PXE contact.

use serde::{Deserialize, Serialize};

/// What iPXE is told to boot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "boot", rename_all = "lowercase")]
pub enum Boot {
    /// The machine's disk.
    Disk {
        /// The reason, shown on the console of the machine.
        reason: Option<String>,
    },
    /// The live environment.
    Live {
        /// Token of the boot cycle.
        token: String,
        /// Additional arguments on the kernel command line.
        arguments: String,
        /// Why the plan failed; the live environment then asks a person.
        fallback: Option<String>,
    },
    /// The next entry in the firmware's boot order.
    Firmware {
        /// The reason, shown on the console of the machine.
        reason: String,
    },
    /// Another iPXE script.
    Chain {
        /// URL of the script.
        address: String,
    },
    /// The machine's disk, after an error message.
    Failed {
        /// The error message.
        reason: String,
    },
}
