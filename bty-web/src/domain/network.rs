//! IP addresses and networks: which ones a cache host or an import may contact, which proxies are
//! trusted, and how to format an address in a URL.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::domain::error::{Error, ErrorKind};

/// A list of networks, such as those of trusted proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Loopback, private and link-local networks.
const PRIVATE: &str =
    "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,169.254.0.0/16,::1,fc00::/7,fe80::/10";

impl FromStr for Networks {
    type Err = String;

    /// Parses networks such as `10.0.0.0/8` and single addresses, separated by commas or spaces.
    /// `1`, `true`, `yes` and `on` mean loopback, private and link-local networks; the empty
    /// string, `0`, `false`, `no` and `off` mean none.
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
    let wrong = || format!("invalid network {text:?}: expected one such as 10.0.0.0/8");
    let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Ok(bits), |p| p.parse().map_err(|_| wrong()))?;
    if prefix > bits { Err(wrong()) } else { Ok(Network { address, prefix }) }
}

impl Networks {
    /// True if `ip` is in one of the networks.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
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

/// False for loopback, link-local, multicast and broadcast addresses, and for cloud metadata
/// services (169.254.169.254, fd00:ec2::254). A client that could make this host contact them would
/// gain access to data that is not meant for it.
#[must_use]
pub fn is_routable(ip: IpAddr) -> bool {
    match ip.to_canonical() {
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

/// True for addresses on the public Internet: those that are [routable](is_routable) and not in a
/// private network.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let is_private = match ip {
        IpAddr::V4(ip) => is_private_v4(ip),
        IpAddr::V6(ip) => match ip.segments() {
            // an IPv4 address behind NAT64, or in a 6to4 tunnel
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                let [a, b] = high.to_be_bytes();
                let [c, d] = low.to_be_bytes();
                let ip = Ipv4Addr::new(a, b, c, d);
                is_private_v4(ip) || !is_routable(ip.into())
            }
            // a site's own NAT64 prefix
            [0x64, 0xff9b, 1, ..] => true,
            _ => ip.is_unique_local(),
        },
    };
    is_routable(ip) && !is_private
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    // 100.64.0.0/10 is for carrier-grade NAT, 198.18.0.0/15 for benchmarks
    ip.is_private() || (a == 100 && b & 0xc0 == 64) || (a == 198 && b & 0xfe == 18)
}

/// Returns the unit by which clients are counted: the IPv4 address, or the /64 of an IPv6 address,
/// because one machine may use all addresses of a /64.
#[must_use]
pub fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) >> 64 << 64).into()),
        ip => ip,
    }
}

/// Formats an address for a URL: IPv6 in brackets.
pub struct FormattedIp(pub IpAddr);

impl fmt::Display for FormattedIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => ip.fmt(f),
            IpAddr::V6(ip) => write!(f, "[{ip}]"),
        }
    }
}

/// Creates the error of a failed attempt to listen at `at`; `variable` is the setting to change.
pub(crate) fn listen_error(at: &str, port: u16, variable: &str, e: &std::io::Error) -> Error {
    let hint = match e.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("stop the program that listens there, or choose another port with {variable}")
        }
        std::io::ErrorKind::AddrNotAvailable => {
            format!("choose an address of this host with {variable}")
        }
        _ if port < 1024 => "ports below 1024 need root or CAP_NET_BIND_SERVICE".to_owned(),
        _ => format!("choose another address with {variable}"),
    };
    Error::new(ErrorKind::Conflict, format!("cannot listen on {at}: {e}; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_link_local_and_metadata_addresses_are_not_routable() {
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
            assert!(!is_routable(text.parse().unwrap()), "{text}");
        }
        for text in ["10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1"] {
            assert!(is_routable(text.parse().unwrap()), "{text}");
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
    fn invalid_networks_are_refused() {
        for text in ["10.0.0.0/33", "fe80::/129", "x", "10.0.0.0/-1", "1.2.3.4/8/9"] {
            assert!(text.parse::<Networks>().is_err(), "{text}");
        }
        let networks: Networks = "192.0.2.0/24, 2001:db8::/32".parse().unwrap();
        assert!(
            networks.contains("192.0.2.255".parse().unwrap())
                && !networks.contains("192.0.3.0".parse().unwrap())
        );
        assert!("0.0.0.0/0".parse::<Networks>().unwrap().contains("8.8.8.8".parse().unwrap()));
    }

    proptest::proptest! {
        #[test]
        fn parsing_networks_never_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Networks>();
        }
    }
}
