//! Checks what DHCP servers tell machines on a network: sends a DISCOVER like a machine that boots
//! (RFC 2131, RFC 4578), and accepts no offer.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use super::Finding;
use crate::failure::{Failure, Result};
use crate::process;
use crate::site::Site;

/// How long to wait for offers.
const OFFER_TIMEOUT: Duration = Duration::from_secs(4);

const ENODEV: i32 = 19;

/// Clients to imitate: name, architecture (option 93), and whether it is iPXE (option 77).
const CLIENTS: [(&str, u16, bool); 3] =
    [("UEFI x86-64", 7, false), ("BIOS", 0, false), ("iPXE", 7, true)];

pub(super) fn check(site: &Site, interface: &str) -> Result<Vec<Finding>> {
    if !process::is_root() {
        return Err(Failure::new("testing DHCP needs UDP port 68, which only root may use")
            .hint("sudo bty-lab doctor --dhcp"));
    }
    let socket = socket(interface).map_err(|error| match error.raw_os_error() {
        Some(ENODEV) => Failure::new(format!("the network interface {interface} does not exist"))
            .hint("ip link lists them"),
        _ => Failure::new(format!("cannot test DHCP on {interface}: {error}")),
    })?;
    // an unused address, so that leases of this host are not affected
    let [a, b, c, d] = std::process::id().to_be_bytes();
    let mac = [0x02, 0x62, a, b, c, d];
    CLIENTS
        .into_iter()
        .enumerate()
        .map(|(n, client)| {
            Ok(findings(site, client.0, &request_offers(&socket, mac, n as u32 + 1, client)?))
        })
        .collect::<Result<Vec<_>>>()
        .map(|all| all.into_iter().flatten().collect())
}

/// A socket on one interface, for a client that has no address yet.
fn socket(interface: &str) -> std::io::Result<UdpSocket> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // a DHCP client of this host may use the port too
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.bind(&std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68).into())?;
    Ok(socket.into())
}

/// Sends a DISCOVER and collects the offers.
fn request_offers(
    socket: &UdpSocket,
    mac: [u8; 6],
    id: u32,
    (_, arch, is_ipxe): (&str, u16, bool),
) -> Result<Vec<Offer>> {
    let failed = |e: std::io::Error| Failure::new(format!("cannot test DHCP: {e}"));
    let id = id ^ std::process::id().rotate_left(8);
    socket.send_to(&discover(mac, id, arch, is_ipxe), (Ipv4Addr::BROADCAST, 67)).map_err(failed)?;
    let deadline = Instant::now() + OFFER_TIMEOUT;
    let mut offers: Vec<Offer> = Vec::new();
    while let Some(left) =
        deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    {
        socket.set_read_timeout(Some(left)).map_err(failed)?;
        let mut packet = [0; 2048];
        let Ok((len, _)) = socket.recv_from(&mut packet) else { continue };
        offers.extend(Offer::parse(&packet[..len], id).filter(|offer| !offers.contains(offer)));
        // with an address and a boot program, nothing more is expected
        if offers.iter().any(|offer| offer.address.is_some())
            && offers.iter().any(|offer| offer.file.is_some())
        {
            break;
        }
    }
    Ok(offers)
}

/// Marks the start of the options (RFC 2131, section 3).
const MAGIC: [u8; 4] = [99, 130, 83, 99];

fn discover(mac: [u8; 6], id: u32, arch: u16, is_ipxe: bool) -> Vec<u8> {
    let mut packet = vec![0; 236];
    packet[..3].copy_from_slice(&[1, 1, 6]);
    packet[4..8].copy_from_slice(&id.to_be_bytes());
    // ask for a broadcast answer, because this client has no address
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

/// The parts of a DHCP offer that matter for booting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Offer {
    /// The DHCP server (option 54).
    server: Option<Ipv4Addr>,
    /// An address for the machine; none from a proxy DHCP server.
    address: Option<Ipv4Addr>,
    /// Address of the boot server, or its name (option 66).
    next_server: Option<String>,
    /// Name or URL of the boot program (option 67).
    file: Option<String>,
}

impl Offer {
    /// Parses an offer for the transaction `id`; none for any other packet.
    fn parse(packet: &[u8], id: u32) -> Option<Self> {
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

    /// Host and file that a machine boots from.
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

/// Compares the offers with what this site needs.
fn findings(site: &Site, client: &str, offers: &[Offer]) -> Vec<Finding> {
    let see = format!("configure your DHCP server as {}/netboot/dhcp says", site.settings.url());
    if offers.is_empty() {
        return vec![Finding::error(
            "dhcp",
            format!("{client}: no DHCP server answers"),
            "check that this is the network of the machines, and that its DHCP server runs",
        )];
    }
    let mut findings = Vec::new();
    if offers.iter().all(|offer| offer.address.is_none()) {
        findings.push(Finding::error(
            "dhcp",
            format!("{client}: no DHCP server offers an address"),
            "set up a DHCP server for this network",
        ));
    }
    let boots: Vec<(String, String)> = offers.iter().filter_map(Offer::boot).collect();
    match &boots[..] {
        [] => {
            findings.push(Finding::error(
                "dhcp",
                format!("{client}: offered an address, but no boot program"),
                see,
            ));
        }
        [(host, file)] if *host == site.settings.host_addr.to_string() => {
            findings.push(Finding::ok("dhcp", format!("{client}: sent to {host} for {file}")));
        }
        [(host, file)] => findings.push(Finding::error(
            "dhcp",
            format!(
                "{client}: sent to {host} for {file}, but this host is {}",
                site.settings.host_addr
            ),
            see,
        )),
        several => {
            let texts: Vec<String> =
                several.iter().map(|(host, file)| format!("{host} for {file}")).collect();
            findings.push(Finding::error(
                "dhcp",
                format!("{client}: servers contradict each other: {}", texts.join(", ")),
                "keep only one of them",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A packet of a DHCP server with these options.
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
    fn offers_are_parsed_and_other_packets_are_ignored() {
        let options: [(u8, &[u8]); 4] =
            [(53, &[2]), (54, &[192, 0, 2, 1]), (66, b"192.0.2.9\0"), (67, b"snponly.efi")];
        let offer = Offer::parse(&answer(7, &options), 7).unwrap();
        assert_eq!(offer.boot(), Some(("192.0.2.9".into(), "snponly.efi".into())));
        assert_eq!(offer.address, Some([192, 0, 2, 50].into()));
        assert_eq!(Offer::parse(&answer(8, &options), 7), None, "another transaction");
        assert_eq!(Offer::parse(&answer(7, &[(53, &[5])]), 7), None, "an ACK");
        assert_eq!(Offer::parse(&discover([0; 6], 7, 7, false), 7), None, "a request");
    }

    #[test]
    fn the_host_of_a_boot_url_is_the_boot_server() {
        let options: [(u8, &[u8]); 2] =
            [(53, &[2]), (67, b"http://192.0.2.4:8080/pxe-bootstrap.ipxe")];
        assert_eq!(Offer::parse(&answer(7, &options), 7).unwrap().boot().unwrap().0, "192.0.2.4");
    }

    proptest! {
        #[test]
        fn any_packet_is_an_offer_or_none(
            packet in prop::collection::vec(any::<u8>(), 0..400),
            options in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = Offer::parse(&packet, 7);
            let packet = [answer(7, &[])[..240].to_vec(), options].concat();
            if let Some((_, file)) = Offer::parse(&packet, 7).and_then(|offer| offer.boot()) {
                prop_assert!(!file.chars().any(char::is_control));
            }
        }
    }
}
