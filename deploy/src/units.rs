//! The services as units for Quadlet, podman's part of systemd.

use std::fmt::Write as _;
use std::path::Path;

use crate::podman::keep_id;
use crate::services::{Service, UID};
use crate::site::Site;

/// Name of a service's file, of which Quadlet makes `NAME.service`.
pub(crate) fn file_name(service: &Service) -> String {
    format!("{}.container", service.name)
}

/// The unit of a service. `user` is for the services of a user.
pub(crate) fn unit(site: &Site, service: &Service, user: bool) -> String {
    let mut text = format!(
        "# written by bty-lab; what there is to set is in {}\n[Unit]\nDescription=bty: {}\nWants=network-online.target\nAfter=network-online.target\n\n\
         [Container]\nContainerName={}\nImage={}\nNetwork=host\nReadOnly=true\nDropCapability=all\nNoNewPrivileges=true\nPodmanArgs=--stop-timeout=30\n",
        site.envvars().display(),
        service.what,
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
        "\n[Service]\nRestart=always\nRestartSec=2\nTimeoutStopSec=45\n\n[Install]\nWantedBy={target}\n"
    );
    text
}

/// systemd reads `%` as the beginning of a specifier.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace('%', "%%")
}
