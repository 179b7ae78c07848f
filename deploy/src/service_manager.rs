//! Starts and stops the services of a site, by podman alone or by systemd.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};
use crate::services::{Service, all};
use crate::site::Site;
use crate::{podman, site, units};

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
        let generator = match podman::is_root() {
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

    /// Creates and starts `services`, in this order.
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

    /// Stops and removes all services of the site that exist. Continues after a failure and returns
    /// all of them.
    pub(crate) fn stop(self, site: &Site) -> Vec<Failure> {
        let names: Vec<&str> = all(&site.settings, site::VERSION)
            .iter()
            .map(|service| service.name)
            .filter(|name| belongs_to(site, name))
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

/// True if the container or the unit of this name belongs to `site`: another site, or an unrelated
/// program, may use the same name.
fn belongs_to(site: &Site, name: &str) -> bool {
    let by_label = podman::container(name)
        .and_then(|found| found.site)
        .is_some_and(|dest| Path::new(&dest) == site.dest);
    let unit =
        std::fs::read_to_string(unit_dir().join(format!("{name}.container"))).unwrap_or_default();
    by_label
        || unit.lines().any(|line| line == format!("Label={}={}", Site::LABEL, site.dest.display()))
}

/// A container that has the name of one of `services` but does not belong to `site`, and its owner.
pub(crate) fn foreign_container(
    site: &Site,
    services: &[Service],
) -> Option<(&'static str, String)> {
    services.iter().find_map(|service| {
        let found = podman::container(service.name)?;
        (!belongs_to(site, service.name)).then(|| {
            let owner = found.site.map_or("not created by bty-lab".into(), |dest| {
                format!("which belongs to the site {dest}")
            });
            (service.name, owner)
        })
    })
}

/// Directory in which Quadlet looks for units.
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
