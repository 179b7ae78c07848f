//! Checks the files that machines boot.

use super::Finding;
use crate::server::exists;
use crate::site::{Deployment, Site};

pub(super) fn check(site: &Site, running: &Deployment) -> Vec<Finding> {
    let mut findings = vec![live(site, &running.version)];
    if site.settings.has("tftp") {
        findings.push(tftp(site));
    }
    findings
}

/// Checks that the server has the live environment of its own version.
fn live(site: &Site, version: &str) -> Finding {
    let next = format!(
        "fetch or upload it at {}/ui/netboot, or use container images built after make media",
        site.settings.url()
    );
    let url = format!("http://127.0.0.1:{}", site.settings.port);
    let parts = ["vmlinuz", "initrd"].map(|part| bty_web::setup::file_name(version, part));
    let missing = parts
        .iter()
        .map(|name| Ok((name, exists(&url, &format!("/boot/{name}"))?)))
        .collect::<Result<Vec<_>, String>>();
    match missing {
        Err(why) => Finding::error(
            "boot",
            format!("cannot ask the server for the live environment: {why}"),
            "see the check services",
        ),
        Ok(parts) => match parts
            .iter()
            .filter(|(_, is_there)| !is_there)
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
        {
            missing if missing.is_empty() => {
                Finding::ok("boot", format!("the live environment {version} is present"))
            }
            missing => Finding::error(
                "boot",
                format!("the live environment is incomplete: {} is missing", missing.join(" and ")),
                next,
            ),
        },
    }
}

fn tftp(site: &Site) -> Finding {
    let (host, port) = (site.settings.host_addr.to_string(), site.settings.tftp.port());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Finding::note("boot", "TFTP was not checked") };
    let probe = runtime.block_on(bty_web::setup::probe(&host, port));
    let text = format!("TFTP at {}: {}", probe.target, probe.detail);
    match probe.has_file {
        true => Finding::ok("boot", text),
        false => Finding::error(
            "boot",
            text,
            "see the checks services and firewall: TFTP needs UDP port 69, and other UDP ports for \
             its answers",
        ),
    }
}
