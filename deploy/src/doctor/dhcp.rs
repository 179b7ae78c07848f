//! What DHCP tells machines on a network: asked as a machine would, with a DISCOVER (RFC 2131, RFC
//! 4578) that takes no address.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use super::Finding;
use crate::failure::{Failure, Result};
use crate::podman;
use crate::site::Site;

/// Servers have this long to answer.
const WAIT: Duration = Duration::from_secs(4);

/// ENODEV
const NO_DEVICE: i32 = 19;

/// Who asks: what it is called, its architecture (option 93), and whether it is iPXE already
/// (option 77).
const CLIENTS: [(&str, u16, bool); 3] =
    [("UEFI x86-64", 7, false), ("BIOS", 0, false), ("iPXE", 7, true)];

pub(super) fn look(site: &Site, interface: &str) -> Result<Vec<Finding>> {
    if !podman::is_root() {
        return Err(Failure::new("asking DHCP needs the port of DHCP clients, which is root's")
            .or("sudo bty-lab doctor --dhcp"));
    }
    let socket = socket(interface).map_err(|error| match error.raw_os_error() {
        Some(NO_DEVICE) => Failure::new(format!("there is no network interface {interface}"))
            .or("ip link lists them"),
        _ => Failure::new(format!("asking on {interface}: {error}")),
    })?;
    // a machine that nobody knows: a lease of this host's own stays as it is
    let [a, b, c, d] = std::process::id().to_be_bytes();
    let mac = [0x02, 0x62, a, b, c, d];
    CLIENTS
        .into_iter()
        .enumerate()
        .map(|(n, client)| Ok(judge(site, client.0, &ask(&socket, mac, n as u32 + 1, client)?)))
        .collect::<Result<Vec<_>>>()
        .map(|all| all.into_iter().flatten().collect())
}

/// Sends and receives on one interface only, as a client that has no address yet.
fn socket(interface: &str) -> std::io::Result<UdpSocket> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // a client of this host may have the port too
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.bind(&std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68).into())?;
    Ok(socket.into())
}

fn ask(
    socket: &UdpSocket,
    mac: [u8; 6],
    id: u32,
    (_, arch, is_ipxe): (&str, u16, bool),
) -> Result<Vec<Offer>> {
    let failed = |e: std::io::Error| Failure::new(format!("asking DHCP: {e}"));
    let id = id ^ std::process::id().rotate_left(8);
    socket.send_to(&discover(mac, id, arch, is_ipxe), (Ipv4Addr::BROADCAST, 67)).map_err(failed)?;
    let until = Instant::now() + WAIT;
    let mut offers: Vec<Offer> = Vec::new();
    while let Some(left) =
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    {
        socket.set_read_timeout(Some(left)).map_err(failed)?;
        let mut packet = [0; 2048];
        let Ok((len, _)) = socket.recv_from(&mut packet) else { continue };
        offers.extend(Offer::read(&packet[..len], id).filter(|offer| !offers.contains(offer)));
        // an address and a boot program are all that there can be to hear
        if offers.iter().any(|offer| offer.address.is_some())
            && offers.iter().any(|offer| offer.file.is_some())
        {
            break;
        }
    }
    Ok(offers)
}

const MAGIC: [u8; 4] = [99, 130, 83, 99];

fn discover(mac: [u8; 6], id: u32, arch: u16, is_ipxe: bool) -> Vec<u8> {
    let mut packet = vec![0; 236];
    packet[..3].copy_from_slice(&[1, 1, 6]);
    packet[4..8].copy_from_slice(&id.to_be_bytes());
    // whoever has no address yet wants the answer for all
    packet[10] = 0x80;
    packet[28..34].copy_from_slice(&mac);
    packet.extend(MAGIC);
    let mut option =
        |number: u8, value: &[u8]| packet.extend([&[number, value.len() as u8], value].concat());
    option(53, &[1]);
    option(55, &[1, 3, 6, 43, 54, 60, 66, 67]);
    option(60, format!("PXEClient:Arch:{arch:05}:UNDI:003016").as_bytes());
    option(93, &arch.to_be_bytes());
    option(94, &[1, 3, 16]);
    option(97, &[&[0], &mac[..], &[0; 10]].concat());
    if is_ipxe {
        option(77, b"iPXE");
    }
    packet.push(255);
    packet
}

/// What a server says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Offer {
    /// Who says it.
    server: Option<Ipv4Addr>,
    /// An address for the machine; none from a server that only says what to boot.
    address: Option<Ipv4Addr>,
    /// Where the boot program is: an address, or a name (option 66).
    next_server: Option<String>,
    /// Its name (option 67).
    file: Option<String>,
}

impl Offer {
    /// Reads an answer to `id`; anything else is none.
    fn read(packet: &[u8], id: u32) -> Option<Self> {
        if packet.first() != Some(&2)
            || packet.get(4..8)? != id.to_be_bytes()
            || packet.get(236..240)? != MAGIC
        {
            return None;
        }
        let address = |bytes: &[u8]| {
            <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from).filter(|ip| !ip.is_unspecified())
        };
        let text = |bytes: &[u8]| {
            let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            let text: String =
                String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect();
            Some(text).filter(|text| !text.is_empty())
        };
        let mut offer = Self {
            server: None,
            address: address(&packet[16..20]),
            next_server: address(&packet[20..24]).map(|ip| ip.to_string()),
            file: text(&packet[108..236]),
        };
        let mut kind = None;
        let mut rest = &packet[240..];
        while let Some((&number, after)) = rest.split_first() {
            if number == 0 {
                rest = after;
                continue;
            }
            let Some((&len, after)) = after.split_first().filter(|_| number != 255) else { break };
            let Some((value, after)) = after.split_at_checked(len.into()) else { break };
            match number {
                53 => kind = value.first().copied(),
                54 => offer.server = address(value),
                66 => offer.next_server = text(value).or(offer.next_server),
                67 => offer.file = text(value).or(offer.file),
                _ => {}
            }
            rest = after;
        }
        // OFFER
        (kind == Some(2)).then_some(offer)
    }

    /// Where it sends a machine.
    fn boot(&self) -> Option<(String, String)> {
        let file = self.file.clone()?;
        let from_url = file
            .strip_prefix("http://")
            .and_then(|rest| rest.split(['/', ':']).next())
            .map(str::to_owned);
        let host = from_url
            .or_else(|| self.next_server.clone())
            .or_else(|| self.server.map(|ip| ip.to_string()))?;
        Some((host, file))
    }
}

/// What of it is wrong for this site.
fn judge(site: &Site, client: &str, offers: &[Offer]) -> Vec<Finding> {
    let see = format!("{}/netboot/dhcp has the lines for your DHCP server", site.settings.url());
    if offers.is_empty() {
        return vec![Finding::wrong(
            "dhcp",
            format!("{client}: nobody answers"),
            "is this the network of the machines, and does its DHCP server run?",
        )];
    }
    let mut findings = Vec::new();
    if offers.iter().all(|offer| offer.address.is_none()) {
        findings.push(Finding::wrong(
            "dhcp",
            format!("{client}: nobody offers an address"),
            "a DHCP server for this network",
        ));
    }
    let boots: Vec<(String, String)> = offers.iter().filter_map(Offer::boot).collect();
    match &boots[..] {
        [] => {
            findings.push(Finding::wrong(
                "dhcp",
                format!("{client}: an address is offered, and nothing to boot"),
                see,
            ));
        }
        [(host, file)] if *host == site.settings.host_addr.to_string() => {
            findings.push(Finding::ok("dhcp", format!("{client}: sent to {host} for {file}")));
        }
        [(host, file)] => findings.push(Finding::wrong(
            "dhcp",
            format!(
                "{client}: sent to {host} for {file}, and this host is {}",
                site.settings.host_addr
            ),
            see,
        )),
        several => {
            let texts: Vec<String> =
                several.iter().map(|(host, file)| format!("{host} for {file}")).collect();
            findings.push(Finding::wrong(
                "dhcp",
                format!("{client}: servers contradict each other: {}", texts.join(", ")),
                "leave one of them",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer with these options.
    fn answer(id: u32, options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut packet = discover([2, 0, 0, 0, 0, 1], id, 7, false);
        packet.truncate(240);
        packet[0] = 2;
        packet[16..20].copy_from_slice(&[192, 0, 2, 50]);
        for (number, value) in options {
            packet.extend([&[*number, value.len() as u8], *value].concat());
        }
        packet.push(255);
        packet
    }

    #[test]
    fn an_offer_is_read_and_other_packets_are_none() {
        let options: [(u8, &[u8]); 4] =
            [(53, &[2]), (54, &[192, 0, 2, 1]), (66, b"192.0.2.9\0"), (67, b"snponly.efi")];
        let offer = Offer::read(&answer(7, &options), 7).unwrap();
        assert_eq!(offer.boot(), Some(("192.0.2.9".into(), "snponly.efi".into())));
        assert_eq!(offer.address, Some([192, 0, 2, 50].into()));
        assert_eq!(Offer::read(&answer(8, &options), 7), None, "another machine's");
        assert_eq!(Offer::read(&answer(7, &[(53, &[5])]), 7), None, "an ACK");
        assert_eq!(Offer::read(&discover([0; 6], 7, 7, false), 7), None, "a question");
    }

    #[test]
    fn what_ipxe_is_told_has_its_host_in_it() {
        let options: [(u8, &[u8]); 2] =
            [(53, &[2]), (67, b"http://192.0.2.4:8080/pxe-bootstrap.ipxe")];
        assert_eq!(Offer::read(&answer(7, &options), 7).unwrap().boot().unwrap().0, "192.0.2.4");
    }

    proptest! {
        #[test]
        fn any_packet_is_an_offer_or_none(packet in prop::collection::vec(any::<u8>(), 0..400), options in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Offer::read(&packet, 7);
            let packet = [answer(7, &[])[..240].to_vec(), options].concat();
            if let Some((_, file)) = Offer::read(&packet, 7).and_then(|offer| offer.boot()) {
                prop_assert!(!file.chars().any(char::is_control));
            }
        }
    }
}
