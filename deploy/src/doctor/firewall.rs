//! Checks whether the firewall of this host, firewalld, ufw or nftables, allows the ports of the
//! site.

use super::Finding;
use crate::process::run;
use crate::site::Site;

/// A port and its protocol, `tcp` or `udp`.
struct Port(u16, &'static str);

/// Asks firewalld or ufw, whichever is active. Only without them are the kernel's rules searched,
/// because those that they write are hard to read.
pub(super) fn check(site: &Site) -> Vec<Finding> {
    let settings = &site.settings;
    let mut ports = vec![Port(settings.port, "tcp")];
    if settings.has("cache") {
        ports.push(Port(settings.cache_port, "tcp"));
    }
    if settings.has("tftp") {
        ports.push(Port(settings.tftp.port(), "udp"));
    }
    firewalld(&ports).or_else(|| ufw(&ports)).unwrap_or_else(|| nftables(&ports))
}

/// A finding for each port that is not open. `fix` is the command that opens it.
fn findings(
    name: &str,
    ports: &[Port],
    is_open: impl Fn(&Port) -> bool,
    fix: impl Fn(&Port) -> String,
) -> Vec<Finding> {
    let blocked: Vec<&Port> = ports.iter().filter(|port| !is_open(port)).collect();
    if blocked.is_empty() {
        return vec![Finding::ok("firewall", format!("{name} allows all ports of the site"))];
    }
    blocked
        .iter()
        .map(|port| {
            Finding::error("firewall", format!("{name} blocks {}/{}", port.0, port.1), fix(port))
        })
        .collect()
}

fn firewalld(ports: &[Port]) -> Option<Vec<Finding>> {
    run("firewall-cmd", &["--state"]).ok().filter(|state| state == "running")?;
    let is_open = |port: &Port| {
        run("firewall-cmd", &[&format!("--query-port={}/{}", port.0, port.1)]).is_ok()
    };
    let fix = |port: &Port| {
        format!(
            "firewall-cmd --permanent --add-port={}/{} && firewall-cmd --reload",
            port.0, port.1
        )
    };
    Some(findings("firewalld", ports, is_open, fix))
}

fn ufw(ports: &[Port]) -> Option<Vec<Finding>> {
    let status = run("ufw", &["status"]).ok().filter(|status| status.contains("Status: active"))?;
    let is_open = |port: &Port| {
        let both = [format!("{}/{}", port.0, port.1), port.0.to_string()];
        let mut lines = status.lines().filter(|line| line.contains("ALLOW"));
        lines.any(|line| {
            line.split_whitespace().next().is_some_and(|first| first == both[0] || first == both[1])
        })
    };
    Some(findings("ufw", ports, is_open, |port| format!("ufw allow {}/{}", port.0, port.1)))
}

/// Rules of nftables can be arbitrarily complex, so this is a guess: if an input chain has the
/// policy `drop`, a port is open if any accepting rule mentions it.
fn nftables(ports: &[Port]) -> Vec<Finding> {
    let Ok(rules) = run("nft", &["list", "ruleset"]) else {
        return vec![Finding::note("firewall", "not checked: that needs root and nft")];
    };
    let drops =
        rules.lines().any(|line| line.contains("hook input") && line.contains("policy drop"));
    if !drops {
        return vec![Finding::ok("firewall", "no input chain drops by default")];
    }
    let is_named = |port: &Port| {
        let rules = rules
            .lines()
            .filter(|line| line.contains("accept") && line.contains(&format!("{} dport", port.1)));
        rules
            .flat_map(|line| line.split(|c: char| !c.is_ascii_digit()))
            .any(|word| word == port.0.to_string())
    };
    findings("nftables", ports, is_named, |port| {
        format!(
            "nft add rule inet filter input {} dport {} accept, with the names of your table and \
             chain",
            port.1, port.0
        )
    })
}
