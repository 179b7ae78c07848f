//! TFTP: the boot programs that firmware asks for, by name, read only.
//!
//! ```text
//!  firmware ─► RRQ ─► listener (one an address, so that answers come from where they were asked) ─► names ─► file in memory ─► blocks
//! ```
//!
//! Whoever asks could be somebody else than it says: what a client is sent before it has answered
//! is bounded, and so is what it can make this host keep.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::domain::error::{Error, Result};
use crate::domain::ipxe;

mod handler;
mod listen;
pub mod probe;

pub use listen::serve;

/// Name of the script that iPXE fetches by itself, from where it came from.
pub const AUTOEXEC: &str = "autoexec.ipxe";

/// Boot programs: those of Debian's package ipxe, and what they are called elsewhere.
pub const PROGRAMS: [&str; 6] = [
    "snponly.efi",
    "ipxe.efi",
    "ipxe-amd64.efi",
    "snponly-arm64.efi",
    "ipxe-arm64.efi",
    "undionly.kpxe",
];

/// Larger files are not served: a boot program is about a MiB, and is kept in memory while it is
/// sent.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// As many transfers at a time.
const TRANSFERS_MAX: usize = 1024;

/// As many of them to clients with one address that have not answered yet.
const UNANSWERED_MAX: usize = 128;

/// As many clients are remembered.
const CLIENTS_MAX: usize = 10_000;

/// What a TFTP server is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Directories of the files; the first that has one is taken.
    pub roots: Vec<PathBuf>,
    /// Files that may be asked for besides [`PROGRAMS`].
    pub further: Vec<String>,
    /// Where the server of the machines is, when it is not on this host.
    pub server_url: Option<String>,
    /// Its port, when it is.
    pub server_port: u16,
}

/// What is counted since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Transfers that have sent all.
    pub sent: AtomicU64,
    /// Transfers that have not: clients that only ask for a size among them.
    pub broken: AtomicU64,
    /// Requests for what is not there.
    pub unknown: AtomicU64,
    /// Requests that were too many.
    pub refused: AtomicU64,
    /// Bytes that were sent.
    pub sent_bytes: AtomicU64,
}

/// What a client asks for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct First {
    /// Its address.
    pub ip: IpAddr,
    /// Its hardware address, where the host knows it.
    pub mac: Option<String>,
    /// What it asks for.
    pub name: String,
}

/// A TFTP server.
pub struct Tftp {
    options: Options,
    /// What is counted.
    pub counts: Counts,
    told: Box<dyn Fn(First) + Send + Sync>,
    files: Mutex<HashMap<PathBuf, Kept>>,
    clients: Mutex<HashSet<(IpAddr, Option<String>)>>,
    unanswered: Mutex<HashMap<IpAddr, usize>>,
    transfers: std::sync::atomic::AtomicUsize,
}

/// A file in memory, as it was when it was last looked at.
struct Kept {
    changed: SystemTime,
    bytes: Arc<[u8]>,
}

impl Tftp {
    /// A server that calls `told` for each client that asks for the first time.
    #[must_use]
    pub fn new(options: Options, told: impl Fn(First) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            options,
            counts: Counts::default(),
            told: Box::new(told),
            files: Mutex::default(),
            clients: Mutex::default(),
            unanswered: Mutex::default(),
            transfers: 0.into(),
        })
    }

    /// The file that `path` means, whichever directory a client thinks it is in. `local` is the
    /// address that was asked.
    fn find(&self, path: &Path, local: IpAddr) -> Option<(String, Arc<[u8]>)> {
        let text = path.to_str()?;
        let name = text.rsplit(['/', '\\']).next()?.to_owned();
        if name == AUTOEXEC {
            let base = self.options.server_url.clone().unwrap_or_else(|| {
                format!(
                    "http://{}:{}",
                    crate::network::FormattedIp(local),
                    self.options.server_port
                )
            });
            return Some((name, ipxe::autoexec(&base).into_bytes().into()));
        }
        let is_known = PROGRAMS.contains(&name.as_str()) || self.options.further.contains(&name);
        let bytes = self
            .options
            .roots
            .iter()
            .filter(|_| is_known)
            .find_map(|root| self.read(&root.join(&name)))?;
        Some((name, bytes))
    }

    fn read(&self, path: &Path) -> Option<Arc<[u8]>> {
        // a link could lead anywhere
        let meta = path
            .symlink_metadata()
            .ok()
            .filter(|meta| meta.is_file() && meta.len() <= FILE_BYTES_MAX)?;
        let changed = meta.modified().ok()?;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = files
            .get(path)
            .filter(|kept| kept.changed == changed && kept.bytes.len() as u64 == meta.len())
        {
            return Some(Arc::clone(&kept.bytes));
        }
        let bytes: Arc<[u8]> = std::fs::read(path).ok()?.into();
        files.insert(path.to_owned(), Kept { changed, bytes: Arc::clone(&bytes) });
        Some(bytes)
    }

    /// Takes note of a client, and tells of it when it is new.
    fn heard(&self, ip: IpAddr, name: &str) {
        let mac = neighbour(ip);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() < CLIENTS_MAX && clients.insert((ip, mac.clone())) {
            drop(clients);
            (self.told)(First { ip, mac, name: name.to_owned() });
        }
    }
}

/// The hardware address of `ip`, where the host has talked to it.
fn neighbour(ip: IpAddr) -> Option<String> {
    find_neighbour(&std::fs::read_to_string("/proc/net/arp").ok()?, ip)
}

fn find_neighbour(table: &str, ip: IpAddr) -> Option<String> {
    let wanted = ip.to_canonical().to_string();
    let line = table
        .lines()
        .skip(1)
        .find(|line| line.split_whitespace().next() == Some(wanted.as_str()))?;
    let mac = line.split_whitespace().nth(3)?;
    // what is not known yet is written as zeros
    mac.parse::<crate::domain::mac::Mac>()
        .ok()
        .map(|mac| mac.to_string())
        .filter(|mac| mac != "00:00:00:00:00:00")
}

/// What is wrong with a port that cannot be had.
fn unbound(address: SocketAddr, e: &std::io::Error) -> Error {
    crate::network::cannot_listen(&format!("{address} (UDP)"), address.port(), "BTY_TFTP_LISTEN", e)
}

/// Checks that there is something to serve.
///
/// # Errors
/// When none of `roots` is a directory that can be read.
pub fn check_roots(roots: &[PathBuf]) -> Result<()> {
    if roots.iter().any(|root| std::fs::read_dir(root).is_ok()) {
        return Ok(());
    }
    let named: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
    let detail = format!(
        "there is nothing to serve: {} is no directory that can be read",
        named.join(" or ")
    );
    Err(Error::invalid(format!("{detail}; name that of the boot programs with --root")))
}

/// Checks names that an operator allows.
///
/// # Errors
/// For what is no bare file name.
pub fn check_names(names: &[String]) -> Result<()> {
    let is_plain =
        |name: &String| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']);
    match names.iter().find(|name| !is_plain(name)) {
        Some(wrong) => Err(Error::invalid(format!("{wrong:?} is no bare file name"))),
        None => Ok(()),
    }
}

impl Counts {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// How long a client that does not answer is waited for, and how often it is asked again.
const TIMEOUT: Duration = Duration::from_secs(1);
const RETRIES: u32 = 12;
/// What a client may ask for instead, in seconds.
const CLIENT_TIMEOUT_MAX_S: u8 = 5;
/// Until a client has answered for the first time it is sent one packet a request. Its answer may
/// be lost too, and come again.
const FIRST_RETRIES: u32 = 0;
const FIRST_TIMEOUT: Duration = Duration::from_secs(5);
/// A lost packet is sent again after four round trips, but not sooner.
const TIMEOUT_MIN: Duration = Duration::from_millis(20);
/// An Ethernet frame holds such a block with its headers.
const BLOCK_BYTES_MAX: u16 = 1468;
const WINDOW_MAX: u16 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn tftp(root: &Path) -> Arc<Tftp> {
        let options = Options {
            listen: ([127, 0, 0, 1], 0).into(),
            roots: vec![root.join("none"), root.to_owned()],
            further: vec!["own.bin".into()],
            server_url: None,
            server_port: 8080,
        };
        Tftp::new(options, |_| {})
    }

    #[test]
    fn only_what_is_allowed_is_found_wherever_a_client_thinks_it_is() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["ipxe.efi", "own.bin", "state.db"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("snponly.efi")).unwrap();
        let tftp = tftp(dir.path());
        let find =
            |path: &str| tftp.find(Path::new(path), [10, 0, 0, 1].into()).map(|(_, bytes)| bytes);
        for path in ["ipxe.efi", "/ipxe.efi", "boot/ipxe.efi", "..\\..\\ipxe.efi", "/../../own.bin"]
        {
            assert!(find(path).is_some(), "{path}");
        }
        for path in [
            "state.db",
            "../state.db",
            "",
            "/",
            "snponly.efi",
            "/etc/passwd",
            "undionly.kpxe",
            "ipxe.efi\0",
            "own.bin/",
        ] {
            assert!(find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn the_script_names_the_address_that_was_asked() {
        let dir = tempfile::tempdir().unwrap();
        let tftp = tftp(dir.path());
        for (local, base) in
            [("10.0.0.1", "http://10.0.0.1:8080/"), ("fd00::1", "http://[fd00::1]:8080/")]
        {
            let (_, bytes) =
                tftp.find(Path::new("x/autoexec.ipxe"), local.parse().unwrap()).unwrap();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            assert!(text.starts_with("#!ipxe\n") && text.contains(base), "{text}");
        }
    }

    #[test]
    fn a_file_that_changes_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let tftp = tftp(dir.path());
        let path = dir.path().join("ipxe.efi");
        for text in ["one", "three"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(&*tftp.read(&path).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn neighbours_are_found_in_the_table_of_the_kernel() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.0.0.9         0x1         0x2         52:54:00:AA:bb:01     *        br0\n\
                     10.0.0.10        0x1         0x0         00:00:00:00:00:00     *        br0\n";
        assert_eq!(
            find_neighbour(table, "10.0.0.9".parse().unwrap()).as_deref(),
            Some("52:54:00:aa:bb:01")
        );
        assert_eq!(find_neighbour(table, "10.0.0.10".parse().unwrap()), None);
        assert_eq!(find_neighbour(table, "10.0.0.1".parse().unwrap()), None);
        assert_eq!(find_neighbour("", "10.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn names_of_operators_are_bare() {
        assert!(check_names(&["shim.efi".into()]).is_ok());
        for wrong in ["", "a/b", "..", ".x", "a\\b"] {
            assert!(check_names(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
