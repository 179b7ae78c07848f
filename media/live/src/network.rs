//! Addresses: which card asks for one, and what came of it.
//!
//! DHCP itself is `udhcpc`'s, one process a card, which stays and renews. Its script writes what it
//! was told below [`STATE`].

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::words::Words;

/// Where the script of `udhcpc` leaves one file a card.
const STATE: &str = "/run/bty-live/net";
const CARDS: &str = "/sys/class/net";
/// How long the card that has booted is the only one that is asked.
const PATIENCE: Duration = Duration::from_secs(15);

/// What UEFI HTTP Boot says of itself: the DHCP server answers with the address of a file on the
/// server.
#[cfg(target_arch = "x86_64")]
const HTTP_CLIENT: [&str; 4] = ["-V", "HTTPClient:Arch:00016:UNDI:003001", "-x", "0x5d:0010"];
#[cfg(not(target_arch = "x86_64"))]
const HTTP_CLIENT: [&str; 4] = ["-V", "HTTPClient:Arch:00019:UNDI:003001", "-x", "0x5d:0013"];

/// What a DHCP server has said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Lease {
    /// The card, `eth0`.
    pub(crate) card: String,
    /// Its hardware address, with colons.
    pub(crate) mac: String,
    /// Its address.
    pub(crate) ip: String,
    /// Where a boot server might be: the host in the boot file's address, option 66, or the next
    /// server.
    pub(crate) server: Option<String>,
}

/// What is going on with the cards.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    /// None is there that could be used.
    NoCard,
    /// They ask; for each one what is missing.
    Waiting(Vec<(String, &'static str)>),
    /// One has an address.
    Up(Lease),
}

/// The cards of this machine.
pub(crate) struct Network {
    /// The one that has booted.
    wanted: Option<String>,
    /// DHCP is to name the server, as it did for the firmware.
    asks_for_server: bool,
    begun: Instant,
    /// Those that ask, in the order in which they began.
    asking: BTreeMap<String, usize>,
}

impl Network {
    pub(crate) fn new(words: &Words) -> Self {
        let _ = fs::create_dir_all(STATE);
        let _ = Command::new("/bin/ip").args(["link", "set", "lo", "up"]).status();
        Self {
            wanted: words.mac(),
            asks_for_server: words.asks_dhcp(),
            begun: Instant::now(),
            asking: BTreeMap::new(),
        }
    }

    /// Begins again, with DHCP to name the server.
    pub(crate) fn ask_for_server(&mut self) {
        let _ = Command::new("/bin/killall").arg("udhcpc").status();
        self.asking.keys().for_each(|card| drop(fs::remove_file(Path::new(STATE).join(card))));
        self.asking.clear();
        self.asks_for_server = true;
        self.begun = Instant::now();
    }

    /// Looks at the cards; lets those ask that have come. Cheap enough to be called all the time.
    pub(crate) fn look(&mut self) -> State {
        let cards = cards(Path::new(CARDS));
        let is_patient = self.begun.elapsed() < PATIENCE;
        for (card, mac) in &cards {
            let is_wanted = self.wanted.as_ref().is_none_or(|wanted| wanted == mac);
            if (is_wanted || !is_patient) && !self.asking.contains_key(card) {
                // the card that has booted also goes before the others when packets leave
                let metric = if is_wanted { 10 } else { 100 } + self.asking.len();
                self.asking.insert(card.clone(), metric);
                ask(card, metric, self.asks_for_server);
            }
        }
        let leases = || {
            self.asking
                .iter()
                .filter_map(|(card, metric)| Some((metric, lease(card, cards.get(card)?)?)))
        };
        if let Some((_, lease)) = leases().min_by_key(|(metric, _)| **metric) {
            return State::Up(lease);
        }
        if cards.is_empty() {
            return State::NoCard;
        }
        State::Waiting(cards.keys().map(|card| (card.clone(), self.missing(card))).collect())
    }

    fn missing(&self, card: &str) -> &'static str {
        if !self.asking.contains_key(card) {
            return "not the card that has booted";
        }
        match fs::read_to_string(Path::new(CARDS).join(card).join("carrier"))
            .as_deref()
            .map(str::trim)
        {
            Ok("1")
                if fs::exists(Path::new(STATE).join(format!("{card}.failed")))
                    .unwrap_or_default() =>
            {
                "no DHCP server has answered, asking again"
            }
            Ok("1") => "asking for an address",
            _ => "no link: is the cable in, and the port of the switch on?",
        }
    }
}

/// Cards with hardware behind them, and their addresses.
fn cards(root: &Path) -> BTreeMap<String, String> {
    let card = |entry: fs::DirEntry| {
        let dir = entry.path();
        // Ethernet, and no bridge, tunnel or loopback
        let is_card =
            dir.join("device").exists() && fs::read_to_string(dir.join("type")).ok()?.trim() == "1";
        let mac = fs::read_to_string(dir.join("address")).ok()?.trim().to_owned();
        is_card.then(|| (entry.file_name().to_string_lossy().into_owned(), mac))
    };
    fs::read_dir(root).into_iter().flatten().flatten().filter_map(card).collect()
}

fn ask(card: &str, metric: usize, asks_for_server: bool) {
    let _ = Command::new("/bin/ip").args(["link", "set", card, "up"]).status();
    // asks four times a second apart, says so, pauses for two seconds, and begins again: a port of
    // a switch may take half a minute
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

fn lease(card: &str, mac: &str) -> Option<Lease> {
    let text = fs::read_to_string(Path::new(STATE).join(card)).ok()?;
    parse(card, mac, &text)
}

/// Reads what the script has written: `name=value` lines.
fn parse(card: &str, mac: &str, text: &str) -> Option<Lease> {
    let value = |name: &str| {
        let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        values
            .map(str::trim)
            .find(|value| !value.is_empty() && *value != "0.0.0.0")
            .map(str::to_owned)
    };
    let of_boot_file = value("boot_file").and_then(|file| {
        let (scheme, rest) = file.split_once("://")?;
        let authority = rest.split('/').next().filter(|authority| !authority.is_empty())?;
        ["http", "https"].contains(&scheme).then(|| format!("{scheme}://{authority}"))
    });
    let of_host =
        || value("tftp").or_else(|| value("siaddr")).map(|host| format!("http://{host}:8080"));
    Some(Lease {
        card: card.to_owned(),
        mac: mac.to_owned(),
        ip: value("ip")?,
        server: of_boot_file.or_else(of_host),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_says_where_a_boot_server_might_be() {
        let server = |text: &str| parse("eth0", "52:54:00:00:00:01", text).unwrap().server;
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
        assert_eq!(parse("eth0", "m", "siaddr=10.0.0.1\n"), None, "no address, no lease");
    }

    #[test]
    fn only_what_has_hardware_behind_it_is_a_card() {
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
