//! Wake-on-LAN: broadcasts on every network interface, because the server cannot know on which one
//! a machine that is off can be reached.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use if_addrs::{IfAddr, get_if_addrs};
use socket2::{Domain, Protocol, Socket, Type};

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::mac::Mac;
use crate::domain::power::magic_packet;

/// The port for packets that nobody reads: network cards look only at their content.
const DISCARD_PORT: u16 = 9;

/// Number of packets sent on each interface, because nothing confirms that one has arrived.
const PACKETS: usize = 3;

/// Sends packets that wake the machine on every interface with an IPv4 address but the loopback.
/// Returns the names of these interfaces.
///
/// # Errors
/// [`ErrorKind::Conflict`] when no interface could send them; the detail lists the reasons.
pub(super) fn wake(mac: &Mac) -> Result<Vec<String>> {
    let packet = magic_packet(mac);
    let (mut sent, mut failed) = (Vec::<String>::new(), Vec::new());
    for interface in get_if_addrs()?.into_iter().filter(|interface| !interface.is_loopback()) {
        let IfAddr::V4(address) = &interface.addr else { continue };
        if sent.contains(&interface.name) {
            continue;
        }
        let directed = address.broadcast.unwrap_or(Ipv4Addr::BROADCAST);
        match broadcast(&interface.name, address.ip, directed, &packet) {
            Ok(()) => sent.push(interface.name),
            Err(e) => failed.push(format!("{}: {e}", interface.name)),
        }
    }
    if sent.is_empty() {
        let why = if failed.is_empty() {
            "no interface has an IPv4 address".to_owned()
        } else {
            failed.join("; ")
        };
        let detail = format!("cannot send Wake-on-LAN to {mac}: {why}");
        return Err(Error::new(ErrorKind::Conflict, detail));
    }
    Ok(sent)
}

/// Sends `packet` on one interface: to everybody if the socket can be bound to the interface, else
/// to the network of the address `own`, from which the kernel derives the interface.
fn broadcast(name: &str, own: Ipv4Addr, directed: Ipv4Addr, packet: &[u8]) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_broadcast(true)?;
    let to = match socket.bind_device(Some(name.as_bytes())) {
        Ok(()) => Ipv4Addr::BROADCAST,
        Err(_) => directed,
    };
    socket.bind(&SocketAddr::new(IpAddr::V4(own), 0).into())?;
    let to = SocketAddr::new(IpAddr::V4(to), DISCARD_PORT).into();
    (0..PACKETS).try_for_each(|_| socket.send_to(packet, &to).map(drop))
}
