//! Who starts services, and starts them again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};
use crate::services::{Service, all};
use crate::site::Site;
use crate::{podman, site, units};

/// Who does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Manager {
    /// podman alone: nothing starts at the machine's own start.
    Podman,
    /// systemd, by units of Quadlet; of the system or of a user.
    Systemd,
}

impl Manager {
    /// The best that this machine has.
    pub(crate) fn found() -> Self {
        let generator = match podman::is_root() {
            true => "/usr/lib/systemd/system-generators/podman-system-generator",
            false => "/usr/lib/systemd/user-generators/podman-user-generator",
        };
        let runs = Path::new("/run/systemd/system").is_dir() && Path::new(generator).exists();
        if runs { Self::Systemd } else { Self::Podman }
    }

    /// In words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Podman => "podman alone: services do not start with the machine",
            Self::Systemd => "systemd, by units of Quadlet",
        }
    }

    pub(crate) fn start(self, site: &Site, services: &[Service]) -> Result<()> {
        match self {
            Self::Podman => services.iter().try_for_each(|service| podman::start(site, service)),
            Self::Systemd => {
                let dir = unit_dir();
                std::fs::create_dir_all(&dir).map_err(Failure::at(&dir))?;
                for service in services {
                    site::write(
                        &dir.join(units::file_name(service)),
                        &units::unit(site, service, !podman::is_root()),
                        0o644,
                    )?;
                }
                systemctl(&["daemon-reload"])?;
                services.iter().try_for_each(|service| {
                    systemctl(&["start", &format!("{}.service", service.name)])
                })
            }
        }
    }

    /// Stops and removes all that may be there of the site; gives what did not work.
    pub(crate) fn stop(self, site: &Site) -> Vec<Failure> {
        let names: Vec<&str> = all(&site.settings, site::VERSION)
            .iter()
            .map(|service| service.name)
            .filter(|name| belongs(site, name))
            .collect();
        let mut failures = Vec::new();
        if self == Self::Systemd {
            for name in &names {
                failures.extend(systemctl(&["stop", &format!("{name}.service")]).err());
                let file = unit_dir().join(format!("{name}.container"));
                if file.exists() {
                    failures.extend(std::fs::remove_file(&file).map_err(Failure::at(&file)).err());
                }
            }
            failures.extend(systemctl(&["daemon-reload"]).err());
        }
        failures.extend(names.iter().filter_map(|name| podman::remove(name).err()));
        failures
    }
}

/// A name may be that of another site's container, or of something else altogether.
fn belongs(site: &Site, name: &str) -> bool {
    let by_label = podman::container(name)
        .and_then(|found| found.site)
        .is_some_and(|dest| Path::new(&dest) == site.dest);
    let unit =
        std::fs::read_to_string(unit_dir().join(format!("{name}.container"))).unwrap_or_default();
    by_label
        || unit.lines().any(|line| line == format!("Label={}={}", Site::LABEL, site.dest.display()))
}

/// Whose container has the name of one of `services`, when it is not this site's.
pub(crate) fn stranger(site: &Site, services: &[Service]) -> Option<(&'static str, String)> {
    services.iter().find_map(|service| {
        let found = podman::container(service.name)?;
        (!belongs(site, service.name))
            .then(|| (service.name, found.site.unwrap_or_else(|| "somebody else".into())))
    })
}

/// Where Quadlet looks.
fn unit_dir() -> PathBuf {
    match std::env::var_os("HOME").filter(|_| !podman::is_root()) {
        Some(home) => PathBuf::from(home).join(".config/containers/systemd"),
        None => "/etc/containers/systemd".into(),
    }
}

fn systemctl(arguments: &[&str]) -> Result<()> {
    let user: &[&str] = if podman::is_root() { &[] } else { &["--user"] };
    podman::run("systemctl", &[user, arguments].concat()).map(|_| ())
}
