//! Network configuration by DHCP: which cards request a lease, and which lease is used.
//!
//! One `udhcpc` process for each card does DHCP and keeps renewing its lease. Its script,
//! `udhcpc.script`, writes each lease to a file below [`STATE`].

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::kernel_args::KernelArgs;

/// Directory in which the script of `udhcpc` writes one file for each card.
const STATE: &str = "/run/bty-live/net";
const CARDS: &str = "/sys/class/net";
/// How long only the card that booted requests a lease, before all others do.
const BOOT_CARD_TIMEOUT: Duration = Duration::from_secs(15);

/// DHCP options that imitate UEFI HTTP Boot, so that the DHCP server answers with the URL of a boot
/// file on the server.
#[cfg(target_arch = "x86_64")]
const HTTP_CLIENT: [&str; 4] = ["-V", "HTTPClient:Arch:00016:UNDI:003001", "-x", "0x5d:0010"];
#[cfg(not(target_arch = "x86_64"))]
const HTTP_CLIENT: [&str; 4] = ["-V", "HTTPClient:Arch:00019:UNDI:003001", "-x", "0x5d:0013"];

/// The parts of a DHCP lease that bty uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Lease {
    /// Name of the interface, such as `eth0`.
    pub(crate) card: String,
    /// MAC address, with colons.
    pub(crate) mac: String,
    pub(crate) ip: String,
    /// Base URL of the likely boot server: from the host in the URL of the boot file, from option
    /// 66, or from the next server (siaddr).
    pub(crate) server: Option<String>,
}

/// State of the network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    /// There is no Ethernet card with a driver.
    NoCard,
    /// No card has a lease yet; for each card, what is missing.
    Waiting(Vec<(String, &'static str)>),
    /// A card has a lease. If several have one, the card with the lowest metric.
    Up(Lease),
}

/// The network cards of this machine.
pub(crate) struct Network {
    /// MAC address of the card that booted, if known.
    boot_mac: Option<String>,
    /// Ask the DHCP server for a boot file, which names the server.
    asks_for_server: bool,
    start: Instant,
    /// Metric of the routes of each card that has requested a lease.
    metrics: BTreeMap<String, usize>,
}

impl Network {
    pub(crate) fn new(args: &KernelArgs) -> Self {
        let _ = fs::create_dir_all(STATE);
        let _ = Command::new("/bin/ip").args(["link", "set", "lo", "up"]).status();
        Self {
            boot_mac: args.mac(),
            asks_for_server: args.is_server_from_dhcp(),
            start: Instant::now(),
            metrics: BTreeMap::new(),
        }
    }

    /// Discards all leases and requests new ones that name the server.
    pub(crate) fn ask_for_server(&mut self) {
        let _ = Command::new("/bin/killall").arg("udhcpc").status();
        self.metrics.keys().for_each(|card| drop(fs::remove_file(Path::new(STATE).join(card))));
        self.metrics.clear();
        self.asks_for_server = true;
        self.start = Instant::now();
    }

    /// Starts DHCP on new cards and returns the state. Cheap enough for every tick.
    pub(crate) fn poll(&mut self) -> State {
        let cards = cards(Path::new(CARDS));
        let is_boot_card_only = self.start.elapsed() < BOOT_CARD_TIMEOUT;
        for (card, mac) in &cards {
            let is_boot_card = self.boot_mac.as_ref().is_none_or(|boot_mac| boot_mac == mac);
            if (is_boot_card || !is_boot_card_only) && !self.metrics.contains_key(card) {
                // routes of the card that booted are preferred
                let metric = if is_boot_card { 10 } else { 100 } + self.metrics.len();
                self.metrics.insert(card.clone(), metric);
                start_dhcp(card, metric, self.asks_for_server);
            }
        }
        let leases = || {
            self.metrics
                .iter()
                .filter_map(|(card, metric)| Some((metric, read_lease(card, cards.get(card)?)?)))
        };
        if let Some((_, lease)) = leases().min_by_key(|(metric, _)| **metric) {
            return State::Up(lease);
        }
        if cards.is_empty() {
            return State::NoCard;
        }
        State::Waiting(cards.keys().map(|card| (card.clone(), self.missing(card))).collect())
    }

    /// Why `card` has no lease.
    fn missing(&self, card: &str) -> &'static str {
        if !self.metrics.contains_key(card) {
            return "not the card that booted";
        }
        match fs::read_to_string(Path::new(CARDS).join(card).join("carrier"))
            .as_deref()
            .map(str::trim)
        {
            Ok("1")
                if fs::exists(Path::new(STATE).join(format!("{card}.failed")))
                    .unwrap_or_default() =>
            {
                "no DHCP server has answered, retrying"
            }
            Ok("1") => "requesting an address",
            _ => "no link: check the cable and the port of the switch",
        }
    }
}

/// Names and MAC addresses of the physical Ethernet cards: no bridges, tunnels or loopback.
fn cards(root: &Path) -> BTreeMap<String, String> {
    let card = |entry: fs::DirEntry| {
        let dir = entry.path();
        let is_card =
            dir.join("device").exists() && fs::read_to_string(dir.join("type")).ok()?.trim() == "1";
        let mac = fs::read_to_string(dir.join("address")).ok()?.trim().to_owned();
        is_card.then(|| (entry.file_name().to_string_lossy().into_owned(), mac))
    };
    fs::read_dir(root).into_iter().flatten().flatten().filter_map(card).collect()
}

fn start_dhcp(card: &str, metric: usize, asks_for_server: bool) {
    let _ = Command::new("/bin/ip").args(["link", "set", card, "up"]).status();
    // four requests a second apart, then a call of the script and a pause of two seconds, forever:
    // a port of a switch may take half a minute until it forwards packets
    let _ = Command::new("/sbin/udhcpc")
        .args(["-f", "-i", card, "-s", "/etc/udhcpc.script", "-t", "4", "-T", "1", "-A", "2"])
        .args(["-O", "tftp", "-O", "bootfile"])
        .args(if asks_for_server { HTTP_CLIENT.as_slice() } else { &[] })
        .env("metric", metric.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}

fn read_lease(card: &str, mac: &str) -> Option<Lease> {
    let text = fs::read_to_string(Path::new(STATE).join(card)).ok()?;
    parse_lease(card, mac, &text)
}

/// Parses the `name=value` lines that the script has written; none if there is no address.
fn parse_lease(card: &str, mac: &str, text: &str) -> Option<Lease> {
    let value = |name: &str| {
        let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        values
            .map(str::trim)
            .find(|value| !value.is_empty() && *value != "0.0.0.0")
            .map(str::to_owned)
    };
    let from_boot_file = value("boot_file").and_then(|file| {
        let (scheme, rest) = file.split_once("://")?;
        let authority = rest.split('/').next().filter(|authority| !authority.is_empty())?;
        ["http", "https"].contains(&scheme).then(|| format!("{scheme}://{authority}"))
    });
    let from_host =
        || value("tftp").or_else(|| value("siaddr")).map(|host| format!("http://{host}:8080"));
    Some(Lease {
        card: card.to_owned(),
        mac: mac.to_owned(),
        ip: value("ip")?,
        server: from_boot_file.or_else(from_host),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_names_the_likely_boot_server() {
        let server = |text: &str| parse_lease("eth0", "52:54:00:00:00:01", text).unwrap().server;
        assert_eq!(
            server("ip=10.0.0.5\nsiaddr=10.0.0.1\n").as_deref(),
            Some("http://10.0.0.1:8080")
        );
        assert_eq!(
            server("ip=10.0.0.5\nsiaddr=10.0.0.1\ntftp=boot.lan\n").as_deref(),
            Some("http://boot.lan:8080")
        );
        let http = "ip=10.0.0.5\nsiaddr=10.0.0.1\nboot_file=https://bty.lan/boot/x.efi\n";
        assert_eq!(server(http).as_deref(), Some("https://bty.lan"));
        assert_eq!(server("ip=10.0.0.5\nsiaddr=0.0.0.0\nboot_file=snponly.efi\n"), None);
        assert_eq!(parse_lease("eth0", "m", "siaddr=10.0.0.1\n"), None, "no address, no lease");
    }

    #[test]
    fn only_physical_ethernet_cards_are_used() {
        let dir = tempfile::tempdir().unwrap();
        for (name, has_device, kind) in
            [("eth0", true, "1"), ("lo", false, "772"), ("br0", false, "1"), ("ib0", true, "32")]
        {
            let card = dir.path().join(name);
            fs::create_dir_all(if has_device { card.join("device") } else { card.clone() })
                .unwrap();
            fs::write(card.join("type"), format!("{kind}\n")).unwrap();
            fs::write(card.join("address"), "52:54:00:00:00:01\n").unwrap();
        }
        assert_eq!(cards(dir.path()).into_keys().collect::<Vec<_>>(), ["eth0"]);
    }
}
