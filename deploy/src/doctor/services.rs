//! Whether the services run, in the version that they should have.

use super::Finding;
use crate::ask::ask;
use crate::podman;
use crate::services::{Service, chosen};
use crate::site::{Running, Site, VERSION};

pub(super) fn podman() -> Vec<Finding> {
    match podman::version() {
        Ok(version) => vec![Finding::ok("podman", format!("version {version}"))],
        Err(failure) => {
            vec![Finding::wrong("podman", failure.to_string(), "nothing of a site runs without it")]
        }
    }
}

pub(super) fn look(site: &Site, running: &Running) -> Vec<Finding> {
    let again =
        format!("bty-lab deploy {}; podman logs NAME says why it ended", site.dest.display());
    let mut findings: Vec<Finding> = chosen(&site.settings, &running.version)
        .iter()
        .map(|service| match wrong(site, service, &running.version) {
            Some(wrong) => Finding::wrong("services", format!("{} {wrong}", service.name), &again),
            None => Finding::ok("services", format!("{} runs", service.name)),
        })
        .collect();
    if running.version != VERSION {
        let next = format!("bty-lab upgrade {}", site.dest.display());
        findings.push(Finding::wrong(
            "version",
            format!("the site has version {}, this is bty-lab {VERSION}", running.version),
            next,
        ));
    }
    findings
}

/// What is wrong with a service, as the rest of a sentence that begins with its name.
pub(crate) fn wrong(site: &Site, service: &Service, version: &str) -> Option<String> {
    let Some(container) = podman::container(service.name) else {
        return Some("has no container".into());
    };
    if container.state != "running" {
        return Some(format!("does not run: it is {}", container.state));
    }
    if container.image != service.image {
        return Some(format!("has the image {}, not {}", container.image, service.image));
    }
    let port = match service.profile {
        Some("tftp") => 6969,
        Some(_) => site.settings.cache_port,
        None => site.settings.port,
    };
    let url = format!("http://127.0.0.1:{port}");
    if let Err(why) = ask(&url, "/healthz") {
        return Some(format!("is not well: {why}"));
    }
    let said = service.state.is_some().then(|| ask(&url, "/version"))?;
    match said.as_ref().ok().and_then(|said| said["version"].as_str()) {
        Some(said) if said == version => None,
        Some(said) => Some(format!("says that it is version {said}, and not {version}")),
        None => Some("does not say its version".into()),
    }
}
