//! Generates units for Quadlet, podman's generator of systemd services.

use std::fmt::Write as _;
use std::path::Path;

use crate::podman::keep_id;
use crate::services::{Service, UID};
use crate::site::Site;

/// File name of the unit of a service. Quadlet generates `NAME.service` from it.
pub(crate) fn file_name(service: &Service) -> String {
    format!("{}.container", service.name)
}

/// The unit of a service. `user` selects a unit for the systemd instance of a user.
pub(crate) fn unit(site: &Site, service: &Service, user: bool) -> String {
    let mut text = format!(
        "# written by bty-lab; settings are in {}\n\
         [Unit]\nDescription=bty: {}\n\
         Wants=network-online.target\nAfter=network-online.target\n\n\
         [Container]\nContainerName={}\nImage={}\nNetwork=host\nReadOnly=true\n\
         DropCapability=all\nNoNewPrivileges=true\nPodmanArgs=--stop-timeout=30\n",
        site.envvars().display(),
        service.purpose,
        service.name,
        service.image,
    );
    let mut line = |key: &str, value: &dyn std::fmt::Display| _ = writeln!(text, "{key}={value}");
    line("User", &UID);
    line("Group", &UID);
    for capability in &service.capabilities {
        line("AddCapability", &format_args!("CAP_{capability}"));
    }
    if user && service.state.is_some() {
        line("UserNS", &keep_id());
    }
    line("Label", &format_args!("{}={}", Site::LABEL, site.dest.display()));
    line("EnvironmentFile", &site.envvars().display());
    for (name, value) in &service.env {
        line("Environment", &format_args!("{name}={value}"));
    }
    for (from, to, options) in site.mounts(service) {
        line("Volume", &format_args!("{}:{to}:{options}", escaped(&from)));
    }
    let target = if user { "default.target" } else { "multi-user.target" };
    let _ = write!(
        text,
        "\n[Service]\nRestart=always\nRestartSec=2\nTimeoutStopSec=45\n\n\
         [Install]\nWantedBy={target}\n"
    );
    text
}

/// Escapes `%`, which begins a specifier in units.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace('%', "%%")
}
