//! Whether a firewall of this host lets machines through. It asks whichever there is: firewalld,
//! ufw, nftables.

use super::Finding;
use crate::podman::run;
use crate::site::Site;

/// A port as firewalls write it: `8080/tcp`.
struct Port(u16, &'static str);

pub(super) fn look(site: &Site) -> Vec<Finding> {
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

/// What `is_open` says of each.
fn judge(
    name: &str,
    ports: &[Port],
    is_open: impl Fn(&Port) -> bool,
    open: impl Fn(&Port) -> String,
) -> Vec<Finding> {
    let shut: Vec<&Port> = ports.iter().filter(|port| !is_open(port)).collect();
    if shut.is_empty() {
        return vec![Finding::ok("firewall", format!("{name} lets the ports through"))];
    }
    shut.iter()
        .map(|port| {
            Finding::wrong(
                "firewall",
                format!("{name} does not let {}/{} through", port.0, port.1),
                open(port),
            )
        })
        .collect()
}

fn firewalld(ports: &[Port]) -> Option<Vec<Finding>> {
    run("firewall-cmd", &["--state"]).ok().filter(|state| state == "running")?;
    let is_open = |port: &Port| {
        run("firewall-cmd", &[&format!("--query-port={}/{}", port.0, port.1)]).is_ok()
    };
    let open = |port: &Port| {
        format!(
            "firewall-cmd --permanent --add-port={}/{} && firewall-cmd --reload",
            port.0, port.1
        )
    };
    Some(judge("firewalld", ports, is_open, open))
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
    Some(judge("ufw", ports, is_open, |port| format!("ufw allow {}/{}", port.0, port.1)))
}

/// Rules can say anything: what is certain is a chain that drops what no rule names, and ports that
/// none does.
fn nftables(ports: &[Port]) -> Vec<Finding> {
    let Ok(rules) = run("nft", &["list", "ruleset"]) else {
        return vec![Finding::note("firewall", "not looked at: only root can, with nft")];
    };
    let drops =
        rules.lines().any(|line| line.contains("hook input") && line.contains("policy drop"));
    if !drops {
        return vec![Finding::ok("firewall", "no chain drops what it does not know")];
    }
    let is_named = |port: &Port| {
        let rules = rules
            .lines()
            .filter(|line| line.contains("accept") && line.contains(&format!("{} dport", port.1)));
        rules
            .flat_map(|line| line.split(|c: char| !c.is_ascii_digit()))
            .any(|word| word == port.0.to_string())
    };
    judge("nftables", ports, is_named, |port| {
        format!(
            "nft add rule inet filter input {} dport {} accept, as your tables are called",
            port.1, port.0
        )
    })
}
