//! What runs the services of a site: podman alone, or systemd.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::process;

/// The program that starts services and restarts them when they exit.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ServiceManager {
    /// podman alone: services do not start when this host boots.
    Podman,
    /// systemd, by Quadlet units of the system (as root) or of the user.
    Systemd,
}

impl ServiceManager {
    /// Systemd if this host runs it and has Quadlet, else podman.
    pub(crate) fn detect() -> Self {
        let generator = match process::is_root() {
            true => "/usr/lib/systemd/system-generators/podman-system-generator",
            false => "/usr/lib/systemd/user-generators/podman-user-generator",
        };
        let runs = Path::new("/run/systemd/system").is_dir() && Path::new(generator).exists();
        if runs { Self::Systemd } else { Self::Podman }
    }

    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Podman => "podman without systemd: services do not start when this host boots",
            Self::Systemd => "systemd, with Quadlet units",
        }
    }
}
