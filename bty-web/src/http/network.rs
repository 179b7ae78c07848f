//! Who is asking, and by which address the server was reached.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use axum::http::{HeaderMap, header};

use crate::domain::error::{Error, ErrorKind};
pub use crate::domain::ip::{network_of, plain};

/// Networks whose proxies are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Loopback and private ranges.
const PRIVATE: &str =
    "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,169.254.0.0/16,::1,fc00::/7,fe80::/10";

impl FromStr for Networks {
    type Err = String;

    /// Networks as `10.0.0.0/8` or single addresses, separated by commas or blanks. `1`, `true`,
    /// `yes` and `on` mean loopback and private ranges; nothing, `0`, `false`, `no` and `off` mean
    /// none.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match text.to_ascii_lowercase().as_str() {
            "" | "0" | "false" | "no" | "off" => return Ok(Self::default()),
            "1" | "true" | "yes" | "on" => return PRIVATE.parse(),
            _ => {}
        }
        let parts = text.split([',', ' ']).filter(|part| !part.is_empty());
        parts.map(network).collect::<Result<_, _>>().map(Self)
    }
}

fn network(text: &str) -> Result<Network, String> {
    let wrong = || format!("{text:?} is no network such as 10.0.0.0/8");
    let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Ok(bits), |p| p.parse().map_err(|_| wrong()))?;
    if prefix > bits { Err(wrong()) } else { Ok(Network { address, prefix }) }
}

impl Networks {
    /// True when `ip` is in one of them.
    #[must_use]
    pub fn contain(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(ip))
    }
}

impl Network {
    fn contains(self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                same(own.to_bits().into(), ip.to_bits().into(), 32, self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                same(own.to_bits(), ip.to_bits(), 128, self.prefix)
            }
            _ => false,
        }
    }
}

fn same(a: u128, b: u128, bits: u8, prefix: u8) -> bool {
    let shift = u32::from(bits - prefix);
    a.checked_shr(shift) == b.checked_shr(shift)
}

/// False for addresses that mean this host, its link, or everybody on it: who lets this host ask
/// them, sees what is not meant for others, such as the metadata of a cloud (169.254.169.254,
/// fd00:ec2::254).
#[must_use]
pub fn is_elsewhere(ip: IpAddr) -> bool {
    match plain(ip) {
        IpAddr::V4(ip) => {
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.octets()[0] == 0)
        }
        IpAddr::V6(ip) => {
            let is_metadata = ip == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unicast_link_local()
                || ip.is_multicast()
                || is_metadata)
        }
    }
}

/// True for addresses that the whole Internet reaches: neither this host and its link, nor a
/// private network.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    let ip = plain(ip);
    let is_private = match ip {
        IpAddr::V4(ip) => is_private_v4(ip),
        IpAddr::V6(ip) => match ip.segments() {
            // an address of IPv4 behind a translator, or in a 6to4 tunnel
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                let [a, b] = high.to_be_bytes();
                let [c, d] = low.to_be_bytes();
                let ip = Ipv4Addr::new(a, b, c, d);
                is_private_v4(ip) || !is_elsewhere(ip.into())
            }
            // the translator of a site
            [0x64, 0xff9b, 1, ..] => true,
            _ => ip.is_unique_local(),
        },
    };
    is_elsewhere(ip) && !is_private
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    // 100.64.0.0/10 is shared by the customers of a provider, 198.18.0.0/15 is for benchmarks
    ip.is_private() || (a == 100 && b & 0xc0 == 64) || (a == 198 && b & 0xfe == 18)
}

/// A client as seen through the proxies that are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its address.
    pub ip: IpAddr,
    /// Base address by which it reached the server, without a slash at the end.
    pub base: String,
}

/// Looks at a request from `peer`.
#[must_use]
pub fn resolve_client(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &Networks,
    public_url: Option<&str>,
    port: u16,
) -> Seen {
    let peer = plain(peer);
    let is_proxy = trusted.contain(peer);
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
    // a proxy that tells the port apart from the host
    let host = match first("x-forwarded-port") {
        Some(port)
            if !has_port(&host) && port.parse::<u16>().is_ok() && !is_default(&scheme, &port) =>
        {
            format!("{host}:{port}")
        }
        _ => host,
    };
    let base = public_url
        .map_or_else(|| format!("{scheme}://{host}"), |url| url.trim_end_matches('/').to_owned());
    Seen { ip, base }
}

/// The last address of the chain that is not a proxy of ours: what stands before it could be
/// anything.
fn forwarded_for(headers: &HeaderMap, trusted: &Networks) -> Option<IpAddr> {
    let lists = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let all: Vec<&str> = lists.flat_map(|list| list.split(',')).map(str::trim).collect();
    let mut first = None;
    for text in all.into_iter().rev() {
        let ip = plain(address(text)?);
        first = Some(ip);
        if !trusted.contain(ip) {
            break;
        }
    }
    first
}

/// An address, perhaps with a port.
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

/// Only what a host and a port can consist of: it goes into scripts.
fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 255
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']'))
}

/// An address as it stands in a URL.
pub struct FormattedIp(pub IpAddr);

impl fmt::Display for FormattedIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => ip.fmt(f),
            IpAddr::V6(ip) => write!(f, "[{ip}]"),
        }
    }
}

/// What is wrong with a port that cannot be had, and what to do; `variable` says where to listen.
pub(crate) fn cannot_listen(at: &str, port: u16, variable: &str, e: &std::io::Error) -> Error {
    let hint = match e.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("end what listens there, or choose another port with {variable}")
        }
        std::io::ErrorKind::AddrNotAvailable => {
            format!("name an address of this host with {variable}")
        }
        _ if port < 1024 => "ports below 1024 need root, or CAP_NET_BIND_SERVICE".to_owned(),
        _ => format!("choose another one with {variable}"),
    };
    Error::new(ErrorKind::Conflict, format!("listening at {at}: {e}; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn seen(peer: &str, trusted: &str, pairs: &[(&'static str, &str)]) -> Seen {
        resolve_client(
            peer.parse().unwrap(),
            &headers(pairs),
            &trusted.parse().unwrap(),
            None,
            8080,
        )
    }

    #[test]
    fn a_proxy_is_believed_only_when_it_is_ours() {
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
    fn what_a_client_puts_into_the_chain_itself_is_not_believed() {
        let pairs = [("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.0.0.7")];
        assert_eq!(seen("10.1.2.3", "1", &pairs).ip.to_string(), "203.0.113.9");
        let nonsense = [("x-forwarded-for", "203.0.113.9, <script>")];
        assert_eq!(seen("10.1.2.3", "1", &nonsense).ip.to_string(), "10.1.2.3");
    }

    #[test]
    fn mapped_addresses_are_the_old_ones() {
        assert_eq!(seen("::ffff:192.0.2.1", "", &[]).ip.to_string(), "192.0.2.1");
        assert!(
            "1".parse::<Networks>().unwrap().contain(plain("::ffff:10.0.0.1".parse().unwrap()))
        );
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
        fn whatever_headers_say_the_base_is_an_address(host in "\\PC{0,40}", forwarded in "\\PC{0,40}", proto in "\\PC{0,9}") {
            let pairs = [("host", host), ("x-forwarded-for", forwarded), ("x-forwarded-proto", proto)];
            let value = |(name, value): (&'static str, String)| {
                Some((name.parse().ok()?, axum::http::HeaderValue::from_str(&value).ok()?))
            };
            let headers: HeaderMap = pairs.into_iter().filter_map(value).collect();
            let seen = resolve_client("10.0.0.1".parse().unwrap(), &headers, &"1".parse().unwrap(), None, 8080);
            let rest = seen.base.trim_start_matches("http://").trim_start_matches("https://");
            proptest::prop_assert!(!rest.is_empty() && is_host(rest), "{}", seen.base);
        }

        #[test]
        fn no_text_makes_reading_networks_fail_badly(text in "\\PC{0,40}") {
            let _ = text.parse::<Networks>();
            let _ = address(&text);
        }
    }

    #[test]
    fn addresses_of_this_host_and_its_link_are_not_elsewhere() {
        for text in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "fd00:ec2::254",
        ] {
            assert!(!is_elsewhere(text.parse().unwrap()), "{text}");
        }
        for text in ["10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1"] {
            assert!(is_elsewhere(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn private_networks_are_not_public() {
        for text in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "fd00::1",
            "fe80::1",
            "::1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::1",
            "2002:a00:1::",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "64:ff9b::8.8.8.8"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn networks_are_checked() {
        for text in ["10.0.0.0/33", "fe80::/129", "x", "10.0.0.0/-1", "1.2.3.4/8/9"] {
            assert!(text.parse::<Networks>().is_err(), "{text}");
        }
        let networks: Networks = "192.0.2.0/24, 2001:db8::/32".parse().unwrap();
        assert!(
            networks.contain("192.0.2.255".parse().unwrap())
                && !networks.contain("192.0.3.0".parse().unwrap())
        );
        assert!("0.0.0.0/0".parse::<Networks>().unwrap().contain("8.8.8.8".parse().unwrap()));
    }
}
