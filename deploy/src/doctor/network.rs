//! Checks whether machines can reach this host by HTTP, and whether its DNS works.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::Finding;
use crate::server::get;
use crate::site::Site;

pub(super) fn check(site: &Site) -> Vec<Finding> {
    let mut findings = vec![address(site)];
    let reach = |what: &str, url: String| match get(&url, "/healthz") {
        Ok(_) => Finding::ok("network", format!("{what} answers at {url}")),
        Err(why) => Finding::error(
            "network",
            format!("{what} does not answer at {url}: {why}"),
            "see the checks services, address and firewall",
        ),
    };
    findings.push(reach("the server", site.settings.url()));
    if site.settings.has("cache") {
        findings.push(reach("the cache", site.settings.cache_url()));
    }
    findings.push(resolver());
    findings
}

fn address(site: &Site) -> Finding {
    let host_addr = site.settings.host_addr;
    let next = format!(
        "set HOST_ADDR in {}, then run bty-lab deploy {}",
        site.envvars().display(),
        site.dest.display()
    );
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    match interfaces.iter().find(|found| found.ip() == host_addr) {
        _ if host_addr.is_loopback() => Finding::error(
            "address",
            format!("HOST_ADDR is {host_addr}, which only this host can reach"),
            next,
        ),
        Some(found) => Finding::ok("address", format!("{host_addr} is on {}", found.name)),
        None => {
            let addresses: Vec<String> = interfaces
                .iter()
                .filter(|found| !found.is_loopback())
                .map(|found| found.ip().to_string())
                .collect();
            Finding::error(
                "address",
                format!(
                    "no interface has HOST_ADDR {host_addr}; this host has {}",
                    addresses.join(", ")
                ),
                next,
            )
        }
    }
}

/// Checks DNS, which finds the origins of images. A site without a default route needs none.
fn resolver() -> Finding {
    let conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers: Vec<IpAddr> = conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok())
        .collect();
    let next = "set a DNS server in /etc/resolv.conf: most images are fetched by host name";
    match servers.first() {
        _ if !has_default_route() => Finding::note(
            "resolver",
            "this host has no default route: only images on this network can be flashed",
        ),
        None => Finding::error("resolver", "/etc/resolv.conf names no DNS server", next),
        Some(_) => match servers.iter().find(|server| answers(**server)) {
            Some(server) => Finding::ok("resolver", format!("{server} answers")),
            None => Finding::error(
                "resolver",
                format!(
                    "no DNS server in /etc/resolv.conf answers: {}",
                    servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                ),
                next,
            ),
        },
    }
}

fn has_default_route() -> bool {
    let v4 = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let v6 = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let zero = "0".repeat(32);
    v4.lines().skip(1).any(|line| line.split_whitespace().nth(1) == Some("00000000"))
        || v6.lines().any(|line| {
            line.starts_with(&format!("{zero} 00")) && !line.trim_end().ends_with(" lo")
        })
}

/// Queries the name servers of the root zone, to which every DNS server has an answer (RFC 1035).
fn answers(server: IpAddr) -> bool {
    const QUERY: &[u8] = b"\x62\x74\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01";
    let any: SocketAddr = if server.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let query = || {
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.connect((server, 53))?;
        socket.send(QUERY)?;
        let mut answer = [0; 1500];
        let len = socket.recv(&mut answer)?;
        std::io::Result::Ok(len >= 12 && answer[..2] == QUERY[..2])
    };
    query().unwrap_or(false)
}
