//! Whether what machines boot is there, and fits the server.

use super::Finding;
use crate::ask::has;
use crate::site::{Running, Site};

pub(super) fn look(site: &Site, running: &Running) -> Vec<Finding> {
    let mut findings = vec![live(site, &running.version)];
    if site.settings.has("tftp") {
        findings.push(tftp(site));
    }
    findings
}

/// The server hands out its own version's unless it is told otherwise.
fn live(site: &Site, version: &str) -> Finding {
    let next = format!(
        "{}/ui/netboot fetches or takes it; or have images made after make media",
        site.settings.url()
    );
    let url = format!("http://127.0.0.1:{}", site.settings.port);
    let parts =
        ["vmlinuz", "initrd"].map(|part| bty_web::services::netboot::file_name(version, part));
    let missing = parts
        .iter()
        .map(|name| Ok((name, has(&url, &format!("/boot/{name}"))?)))
        .collect::<Result<Vec<_>, String>>();
    match missing {
        Err(why) => Finding::wrong(
            "boot",
            format!("the server does not say what machines boot: {why}"),
            "see services",
        ),
        Ok(parts) => match parts
            .iter()
            .filter(|(_, is_there)| !is_there)
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
        {
            missing if missing.is_empty() => {
                Finding::ok("boot", format!("the live environment {version} is there"))
            }
            missing => Finding::wrong(
                "boot",
                format!("of the live environment, {} is missing", missing.join(" and ")),
                next,
            ),
        },
    }
}

fn tftp(site: &Site) -> Finding {
    let (host, port) = (site.settings.host_addr.to_string(), site.settings.tftp.port());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Finding::note("boot", "TFTP was not asked") };
    let probe = runtime.block_on(bty_web::tftp::probe::probe(&host, port));
    let text = format!("TFTP at {}: {}", probe.target, probe.detail);
    match probe.has_file {
        true => Finding::ok("boot", text),
        false => Finding::wrong(
            "boot",
            text,
            "see services and firewall: TFTP needs UDP port 69 and the ports that it answers from",
        ),
    }
}
