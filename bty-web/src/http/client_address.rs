//! The client of a request: its address, resolved through trusted proxies, and the base URL that it
//! used.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::{HeaderMap, header};

use crate::domain::network::{FormattedIp, Networks};

/// The client's address, and the URL at which it reached the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// Address of the client.
    pub ip: IpAddr,
    /// Base URL at which the client reached the server, without a trailing slash.
    pub base: String,
}

/// Resolves the client of a request that came from `peer`. `X-Forwarded-*` headers count only if
/// `peer` is in `trusted`. A `public_url` overrides the base URL from the headers, to which `root`
/// is appended, the path prefix of the server. `port` is the server's own port, used if a request
/// has no usable `Host`.
#[must_use]
pub fn resolve_client(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &Networks,
    public_url: Option<&str>,
    root: &str,
    port: u16,
) -> ClientAddress {
    let peer = peer.to_canonical();
    let is_proxy = trusted.contains(peer);
    let ip = if is_proxy { forwarded_for(headers, trusted).unwrap_or(peer) } else { peer };
    let first = |name: &str| {
        let value = headers.get(name).filter(|_| is_proxy)?.to_str().ok()?;
        value.split(',').next().map(|value| value.trim().to_owned())
    };
    let scheme = first("x-forwarded-proto")
        .filter(|scheme| scheme == "https")
        .unwrap_or_else(|| "http".into());
    let host = first("x-forwarded-host")
        .or_else(|| headers.get(header::HOST)?.to_str().ok().map(str::to_owned))
        .filter(|host| is_host(host))
        .unwrap_or_else(|| format!("{}:{port}", FormattedIp(Ipv4Addr::LOCALHOST.into())));
    // some proxies send the port separately from the host
    let host = match first("x-forwarded-port") {
        Some(port)
            if !has_port(&host) && port.parse::<u16>().is_ok() && !is_default(&scheme, &port) =>
        {
            format!("{host}:{port}")
        }
        _ => host,
    };
    let base = public_url.map_or_else(
        || format!("{scheme}://{host}{root}"),
        |url| url.trim_end_matches('/').to_owned(),
    );
    ClientAddress { ip, base }
}

/// Returns the last address in `X-Forwarded-For` that is not a trusted proxy. The client itself may
/// have forged any address before it.
fn forwarded_for(headers: &HeaderMap, trusted: &Networks) -> Option<IpAddr> {
    let lists = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let all: Vec<&str> = lists.flat_map(|list| list.split(',')).map(str::trim).collect();
    let mut first = None;
    for text in all.into_iter().rev() {
        let ip = address(text)?.to_canonical();
        first = Some(ip);
        if !trusted.contains(ip) {
            break;
        }
    }
    first
}

/// Parses an address with an optional port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').split(']').next().unwrap_or(text);
    bare.parse()
        .ok()
        .or_else(|| text.rsplit_once(':')?.0.parse::<Ipv4Addr>().ok().map(IpAddr::V4))
        .or_else(|| bare.parse::<Ipv6Addr>().ok().map(IpAddr::V6))
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok() && !host.ends_with(']'))
}

fn is_default(scheme: &str, port: &str) -> bool {
    matches!((scheme, port), ("http", "80") | ("https", "443"))
}

/// True if `host` contains only characters of a host and a port, because it becomes part of scripts
/// for machines.
fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 255
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn seen(peer: &str, trusted: &str, pairs: &[(&'static str, &str)]) -> ClientAddress {
        resolve_client(
            peer.parse().unwrap(),
            &headers(pairs),
            &trusted.parse().unwrap(),
            None,
            "",
            8080,
        )
    }

    #[test]
    fn forwarded_headers_count_only_from_a_trusted_proxy() {
        let pairs = [
            ("host", "bty:8080"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "https"),
        ];
        let direct = seen("198.51.100.1", "10.0.0.0/8", &pairs);
        assert_eq!(
            (direct.ip.to_string().as_str(), direct.base.as_str()),
            ("198.51.100.1", "http://bty:8080")
        );
        let proxied = seen("10.1.2.3", "10.0.0.0/8", &pairs);
        assert_eq!(
            (proxied.ip.to_string().as_str(), proxied.base.as_str()),
            ("203.0.113.9", "https://bty:8080")
        );
        assert_eq!(seen("10.1.2.3", "0", &pairs).ip.to_string(), "10.1.2.3");
    }

    #[test]
    fn addresses_that_a_client_adds_to_the_chain_are_ignored() {
        let pairs = [("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.0.0.7")];
        assert_eq!(seen("10.1.2.3", "1", &pairs).ip.to_string(), "203.0.113.9");
        let nonsense = [("x-forwarded-for", "203.0.113.9, <script>")];
        assert_eq!(seen("10.1.2.3", "1", &nonsense).ip.to_string(), "10.1.2.3");
    }

    #[test]
    fn mapped_addresses_become_ipv4_addresses() {
        assert_eq!(seen("::ffff:192.0.2.1", "", &[]).ip.to_string(), "192.0.2.1");
    }

    #[test]
    fn ports_behind_a_proxy_are_right_and_hosts_are_hosts() {
        let with = |pairs: &[(&'static str, &str)]| seen("127.0.0.1", "1", pairs).base;
        assert_eq!(
            with(&[("host", "b"), ("x-forwarded-proto", "https"), ("x-forwarded-port", "443")]),
            "https://b"
        );
        assert_eq!(
            with(&[("host", "b"), ("x-forwarded-port", "8443"), ("x-forwarded-proto", "https")]),
            "https://b:8443"
        );
        assert_eq!(with(&[("host", "[fd00::1]:8080")]), "http://[fd00::1]:8080");
        assert_eq!(with(&[("host", "x\tchain http://evil")]), "http://127.0.0.1:8080");
    }

    proptest::proptest! {
        #[test]
        fn any_headers_give_a_valid_base_address(
            host in "\\PC{0,40}",
            forwarded in "\\PC{0,40}",
            proto in "\\PC{0,9}",
        ) {
            let pairs = [
                ("host", host),
                ("x-forwarded-for", forwarded),
                ("x-forwarded-proto", proto),
            ];
            let value = |(name, value): (&'static str, String)| {
                Some((name.parse().ok()?, axum::http::HeaderValue::from_str(&value).ok()?))
            };
            let headers: HeaderMap = pairs.into_iter().filter_map(value).collect();
            let seen = resolve_client("10.0.0.1".parse().unwrap(), &headers, &"1".parse().unwrap(), None, "", 8080);
            let rest = seen.base.trim_start_matches("http://").trim_start_matches("https://");
            proptest::prop_assert!(!rest.is_empty() && is_host(rest), "{}", seen.base);
        }

        #[test]
        fn no_text_makes_parsing_an_address_panic(text in "\\PC{0,40}") {
            let _ = address(&text);
        }
    }
}
