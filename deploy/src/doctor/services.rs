//! Checks that the services run, and their versions.

use super::Finding;
use crate::podman;
use crate::server::get;
use crate::services::{Service, enabled};
use crate::site::{Deployment, Site, VERSION};

pub(super) fn podman() -> Vec<Finding> {
    match podman::version() {
        Ok(version) => vec![Finding::ok("podman", format!("version {version}"))],
        Err(failure) => {
            vec![Finding::error("podman", failure.to_string(), "install podman 4.3 or later")]
        }
    }
}

pub(super) fn check(site: &Site, running: &Deployment) -> Vec<Finding> {
    let next =
        format!("bty-lab deploy {}; podman logs NAME shows why it stopped", site.dest.display());
    let mut findings: Vec<Finding> = enabled(&site.settings, &running.version)
        .iter()
        .map(|service| match problem(site, service, &running.version) {
            Some(problem) => {
                Finding::error("services", format!("{} {problem}", service.name), &next)
            }
            None => Finding::ok("services", format!("{} is healthy", service.name)),
        })
        .collect();
    if running.version != VERSION {
        let next = format!("bty-lab upgrade {}", site.dest.display());
        findings.push(Finding::error(
            "version",
            format!("the site has version {}, but this is bty-lab {VERSION}", running.version),
            next,
        ));
    }
    findings
}

/// The problem of a service, as the predicate of a sentence that begins with its name; none if it
/// is healthy.
pub(crate) fn problem(site: &Site, service: &Service, version: &str) -> Option<String> {
    let Some(container) = podman::container(service.name) else {
        return Some("has no container".into());
    };
    if container.state != "running" {
        return Some(format!("is not running: its container is {}", container.state));
    }
    if container.image != service.image {
        return Some(format!("runs the image {}, not {}", container.image, service.image));
    }
    let port = match service.profile {
        Some("tftp") => 6969,
        Some(_) => site.settings.cache_port,
        None => site.settings.port,
    };
    let url = format!("http://127.0.0.1:{port}");
    if let Err(why) = get(&url, "/healthz") {
        return Some(format!("is not healthy: {why}"));
    }
    let answer = service.state.is_some().then(|| get(&url, "/version"))?;
    match answer.as_ref().ok().and_then(|answer| answer["version"].as_str()) {
        Some(reported) if reported == version => None,
        Some(reported) => Some(format!("reports version {reported}, not {version}")),
        None => Some("does not report its version".into()),
    }
}
