//! Whether machines can reach this host: its address, HTTP, TFTP; and whether it finds others by
//! name.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::Finding;
use crate::ask::ask;
use crate::site::Site;

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let mut findings = vec![address(site)];
    let reach = |what: &str, url: String| match ask(&url, "/healthz") {
        Ok(_) => Finding::ok("network", format!("{what} answers at {url}, from outside loopback")),
        Err(why) => Finding::wrong(
            "network",
            format!("{what} does not answer at {url}: {why}"),
            "see services, address and firewall",
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
    let wanted = site.settings.host_addr;
    let next = format!(
        "HOST_ADDR in {}, then bty-lab deploy {}",
        site.envvars().display(),
        site.dest.display()
    );
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    match interfaces.iter().find(|found| found.ip() == wanted) {
        _ if wanted.is_loopback() => Finding::wrong(
            "address",
            format!("HOST_ADDR is {wanted}: no machine but this one can reach it"),
            next,
        ),
        Some(found) => Finding::ok("address", format!("{wanted} is on {}", found.name)),
        None => {
            let there: Vec<String> = interfaces
                .iter()
                .filter(|found| !found.is_loopback())
                .map(|found| found.ip().to_string())
                .collect();
            Finding::wrong(
                "address",
                format!("HOST_ADDR {wanted} is on no interface; there are {}", there.join(", ")),
                next,
            )
        }
    }
}

/// Images, catalogs and registries are found by name; a site without a way out needs none.
fn resolver() -> Finding {
    let conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers: Vec<IpAddr> = conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok())
        .collect();
    let next = "name a DNS server in /etc/resolv.conf: origins of images are found by name";
    match servers.first() {
        _ if !has_way_out() => Finding::note(
            "resolver",
            "there is no way out of this network: only what is here can be flashed",
        ),
        None => Finding::wrong("resolver", "/etc/resolv.conf names no DNS server", next),
        Some(_) => match servers.iter().find(|server| answers(**server)) {
            Some(server) => Finding::ok("resolver", format!("{server} answers")),
            None => Finding::wrong(
                "resolver",
                format!(
                    "no DNS server of /etc/resolv.conf answers: {}",
                    servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                ),
                next,
            ),
        },
    }
}

fn has_way_out() -> bool {
    let v4 = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let v6 = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let zero = "0".repeat(32);
    v4.lines().skip(1).any(|line| line.split_whitespace().nth(1) == Some("00000000"))
        || v6.lines().any(|line| {
            line.starts_with(&format!("{zero} 00")) && !line.trim_end().ends_with(" lo")
        })
}

/// Asks who answers for the root of all names: every server has something to say to that (RFC
/// 1035).
fn answers(server: IpAddr) -> bool {
    const QUERY: &[u8] = b"\x62\x74\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01";
    let any: SocketAddr = if server.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let ask = || {
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.connect((server, 53))?;
        socket.send(QUERY)?;
        let mut answer = [0; 1500];
        let len = socket.recv(&mut answer)?;
        std::io::Result::Ok(len >= 12 && answer[..2] == QUERY[..2])
    };
    ask().unwrap_or(false)
}
