//! Addresses of clients.

use std::net::IpAddr;

/// The address in its plain form: `::ffff:a.b.c.d` becomes `a.b.c.d`.
#[must_use]
pub fn plain(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// What a client is counted by: its IPv4 address, or its IPv6 /64, which one machine may have for
/// itself.
#[must_use]
pub fn network_of(ip: IpAddr) -> IpAddr {
    match plain(ip) {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) >> 64 << 64).into()),
        ip => ip,
    }
}
