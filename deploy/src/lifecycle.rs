//! Starts and stops the services of a site.

use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};
use crate::service_manager::ServiceManager;
use crate::services::{Service, all};
use crate::site::{Site, VERSION};
use crate::{file, podman, process, settings, units};

impl ServiceManager {
    /// Creates and starts `services`, in this order.
    pub(crate) fn start(self, site: &Site, services: &[Service]) -> Result<()> {
        match self {
            Self::Podman => services.iter().try_for_each(|service| podman::start(site, service)),
            Self::Systemd => {
                let dir = unit_dir();
                std::fs::create_dir_all(&dir).map_err(Failure::at(&dir))?;
                for service in services {
                    file::write(
                        &dir.join(units::file_name(service)),
                        &units::unit(site, service, !process::is_root()),
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
        let names: Vec<&str> = all(&site.settings, VERSION)
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

/// Fails if a container has the name of one of `services` but does not belong to `site`.
pub(crate) fn refuse_foreign_containers(site: &Site, services: &[Service]) -> Result<()> {
    for Service { name, .. } in services {
        let Some(found) = podman::container(name).filter(|_| !belongs_to(site, name)) else {
            continue;
        };
        let (owner, next) = match found.site {
            Some(dest) if Path::new(&dest).join(settings::FILE).exists() => (
                format!("it belongs to the site {dest}"),
                format!("bty-lab purge {dest} stops that site and removes its containers"),
            ),
            Some(dest) => (
                format!("it belongs to the site {dest}, which no longer exists"),
                format!("podman rm --force {name}"),
            ),
            None => (
                "bty-lab did not create it".to_owned(),
                format!("podman rm --force {name}, if nothing needs that container"),
            ),
        };
        let message = format!("the container {name} already exists: {owner}");
        return Err(Failure::new(message).hint(next));
    }
    Ok(())
}

/// Directory in which Quadlet looks for units.
fn unit_dir() -> PathBuf {
    match std::env::var_os("HOME").filter(|_| !process::is_root()) {
        Some(home) => PathBuf::from(home).join(".config/containers/systemd"),
        None => "/etc/containers/systemd".into(),
    }
}

fn systemctl(arguments: &[&str]) -> Result<()> {
    let user: &[&str] = if process::is_root() { &[] } else { &["--user"] };
    process::run("systemctl", &[user, arguments].concat()).map(|_| ())
}
