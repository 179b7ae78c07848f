//! IP addresses and networks: which ones the configuration names, which ones are private, and how
//! clients are counted.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::domain::error::{Error, ErrorKind};

/// A set of networks, as the configuration names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

const LOOPBACK_AND_PRIVATE: &str =
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
            "1" | "true" | "yes" | "on" => return LOOPBACK_AND_PRIVATE.parse(),
            _ => {}
        }
        let parts = text.split([',', ' ']).filter(|part| !part.is_empty());
        parts.map(network).collect::<Result<_, _>>().map(Self)
    }
}

fn network(text: &str) -> Result<Network, String> {
    let invalid = || format!("{text:?} is no network such as 10.0.0.0/8");
    let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    let address: IpAddr = address.parse().map_err(|_| invalid())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Ok(bits), |p| p.parse().map_err(|_| invalid()))?;
    if prefix > bits { Err(invalid()) } else { Ok(Network { address, prefix }) }
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
                have_same_prefix(own.to_bits().into(), ip.to_bits().into(), 32, self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                have_same_prefix(own.to_bits(), ip.to_bits(), 128, self.prefix)
            }
            _ => false,
        }
    }
}

fn have_same_prefix(a: u128, b: u128, bits: u8, prefix: u8) -> bool {
    let shift = u32::from(bits - prefix);
    a.checked_shr(shift) == b.checked_shr(shift)
}

/// False for addresses of this host and its link, and for multicast. A client that makes the server
/// fetch from one of them reads what is not meant for it, such as the metadata service of a cloud
/// (169.254.169.254, fd00:ec2::254).
#[must_use]
pub fn is_elsewhere(ip: IpAddr) -> bool {
    match canonical(ip) {
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

/// True for addresses that are reachable from the whole Internet: neither of this host and its
/// link, nor of a private network.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    let ip = canonical(ip);
    let is_private = match ip {
        IpAddr::V4(ip) => is_private_v4(ip),
        IpAddr::V6(ip) => match ip.segments() {
            // an IPv4 address behind NAT64, or in a 6to4 tunnel
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                let [a, b] = high.to_be_bytes();
                let [c, d] = low.to_be_bytes();
                let ip = Ipv4Addr::new(a, b, c, d);
                is_private_v4(ip) || !is_elsewhere(ip.into())
            }
            // NAT64 local to a site
            [0x64, 0xff9b, 1, ..] => true,
            _ => ip.is_unique_local(),
        },
    };
    is_elsewhere(ip) && !is_private
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    // 100.64.0.0/10 is for carrier-grade NAT, 198.18.0.0/15 for benchmarks
    ip.is_private() || (a == 100 && b & 0xc0 == 64) || (a == 198 && b & 0xfe == 18)
}

/// The IPv4 address of an IPv4-mapped IPv6 address (`::ffff:a.b.c.d`); others as they are.
#[must_use]
pub fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// The network that limits per client count: an IPv4 address, or the /64 of an IPv6 address, which
/// a single machine may have for itself.
#[must_use]
pub fn network_of(ip: IpAddr) -> IpAddr {
    match canonical(ip) {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) >> 64 << 64).into()),
        ip => ip,
    }
}

/// Displays an address as URLs have it: IPv6 in brackets.
pub struct FormattedIp(pub IpAddr);

impl fmt::Display for FormattedIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => ip.fmt(f),
            IpAddr::V6(ip) => write!(f, "[{ip}]"),
        }
    }
}

/// The error for an address that cannot be listened on. Its hint names `variable`, the environment
/// variable that sets the address.
pub(crate) fn cannot_listen(address: &str, port: u16, variable: &str, e: &std::io::Error) -> Error {
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
    Error::new(ErrorKind::Conflict, format!("listening at {address}: {e}; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_mapped_addresses_of_theirs() {
        let private: Networks = "1".parse().unwrap();
        assert!(private.contain(canonical("::ffff:10.0.0.1".parse().unwrap())));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_parsing_networks_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<Networks>();
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
