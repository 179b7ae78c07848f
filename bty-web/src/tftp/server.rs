//! The state of a TFTP server: cached files, known clients, and counters.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::names::{AUTOEXEC, PROGRAMS};
use crate::domain::ipxe;
use crate::domain::mac::Mac;
use crate::domain::network::FormattedIp;

/// Maximum size of a file in bytes. Requested files stay in memory; a boot program has about 1 MiB.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Maximum number of known clients; further ones are not reported.
const CLIENTS_MAX: usize = 10_000;

/// Options of a TFTP server.
#[derive(Clone, Debug)]
pub struct TftpOptions {
    /// Address and UDP port to listen at.
    pub listen: SocketAddr,
    /// Directories of the files. The first one that has a file wins.
    pub roots: Vec<PathBuf>,
    /// Names of files that clients may request in addition to [`PROGRAMS`].
    pub allowed: Vec<String>,
    /// URL of the bty server to which iPXE is sent; `None` if it runs on this host.
    pub server_url: Option<String>,
    /// Port of the bty server, if it runs on this host.
    pub server_port: u16,
    /// Path prefix of the bty server, if it runs on this host; usually empty.
    pub server_path: String,
}

/// Counters since the start of the process.
#[derive(Debug, Default)]
pub struct TftpCounters {
    /// Transfers in which the client acknowledged every byte.
    pub sent: AtomicU64,
    /// Incomplete transfers, including those of clients that request only the size.
    pub broken: AtomicU64,
    /// Requests for files that do not exist.
    pub unknown: AtomicU64,
    /// Requests beyond a limit, and write requests.
    pub refused: AtomicU64,
    /// Sent bytes of files.
    pub sent_bytes: AtomicU64,
}

/// The first request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstRequest {
    /// IP address of the client.
    pub ip: IpAddr,
    /// MAC address of the client, if it is in the host's ARP table.
    pub mac: Option<String>,
    /// Name of the requested file.
    pub name: String,
}

/// A TFTP server; [`serve`](super::serve) runs it.
pub struct TftpServer {
    pub(super) options: TftpOptions,
    /// Counters since the start.
    pub counters: TftpCounters,
    on_first_request: Box<dyn Fn(FirstRequest) + Send + Sync>,
    files: Mutex<HashMap<PathBuf, CachedFile>>,
    clients: Mutex<HashSet<(IpAddr, Option<String>)>>,
    /// Number of transfers per address whose client has not replied yet.
    pub(super) unanswered: Mutex<HashMap<IpAddr, usize>>,
    /// Number of all transfers.
    pub(super) transfers: AtomicUsize,
}

/// A file in memory, which is read again once its modification time or length changes.
struct CachedFile {
    modified: SystemTime,
    bytes: Arc<[u8]>,
}

impl TftpServer {
    /// Creates a server that calls `on_first_request` for each new client. The call delays the
    /// response, so it must not block.
    #[must_use]
    pub fn new(
        options: TftpOptions,
        on_first_request: impl Fn(FirstRequest) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            options,
            counters: TftpCounters::default(),
            on_first_request: Box::new(on_first_request),
            files: Mutex::default(),
            clients: Mutex::default(),
            unanswered: Mutex::default(),
            transfers: 0.into(),
        })
    }

    /// Finds the file by the last component of `path`, because firmware sends various directories.
    /// `local` is the address of this host that the client contacted.
    pub(super) fn find(&self, path: &Path, local: IpAddr) -> Option<(String, Arc<[u8]>)> {
        let name = path.to_str()?.rsplit(['/', '\\']).next()?.to_owned();
        if name == AUTOEXEC {
            let base = self.options.server_url.clone().unwrap_or_else(|| {
                let (port, path) = (self.options.server_port, &self.options.server_path);
                format!("http://{}:{port}{path}", FormattedIp(local))
            });
            return Some((name, ipxe::autoexec(&base).into_bytes().into()));
        }
        if !PROGRAMS.contains(&name.as_str()) && !self.options.allowed.contains(&name) {
            return None;
        }
        let bytes = self.options.roots.iter().find_map(|root| self.read(&root.join(&name)))?;
        Some((name, bytes))
    }

    fn read(&self, path: &Path) -> Option<Arc<[u8]>> {
        // do not follow symbolic links, which could point anywhere
        let meta = path.symlink_metadata().ok()?;
        if !meta.is_file() || meta.len() > FILE_BYTES_MAX {
            return None;
        }
        let modified = meta.modified().ok()?;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current =
            |file: &&CachedFile| file.modified == modified && file.bytes.len() as u64 == meta.len();
        if let Some(file) = files.get(path).filter(is_current) {
            return Some(Arc::clone(&file.bytes));
        }
        let bytes: Arc<[u8]> = std::fs::read(path).ok()?.into();
        files.insert(path.to_owned(), CachedFile { modified, bytes: Arc::clone(&bytes) });
        Some(bytes)
    }

    /// Remembers a client, and reports it if it is new.
    pub(super) fn record_client(&self, ip: IpAddr, name: &str) {
        let mac = neighbor(ip);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() < CLIENTS_MAX && clients.insert((ip, mac.clone())) {
            drop(clients);
            (self.on_first_request)(FirstRequest { ip, mac, name: name.to_owned() });
        }
    }
}

/// Returns the MAC address of `ip` in the host's ARP table.
fn neighbor(ip: IpAddr) -> Option<String> {
    find_neighbor(&std::fs::read_to_string("/proc/net/arp").ok()?, ip)
}

fn find_neighbor(table: &str, ip: IpAddr) -> Option<String> {
    let ip = ip.to_canonical().to_string();
    let line =
        table.lines().skip(1).find(|line| line.split_whitespace().next() == Some(ip.as_str()))?;
    let mac = line.split_whitespace().nth(3)?;
    // the kernel lists an unresolved address as zeros
    mac.parse::<Mac>().ok().map(|mac| mac.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(root: &Path) -> Arc<TftpServer> {
        let options = TftpOptions {
            listen: ([127, 0, 0, 1], 0).into(),
            roots: vec![root.join("none"), root.to_owned()],
            allowed: vec!["own.bin".into()],
            server_url: None,
            server_port: 8080,
            server_path: "/bty".into(),
        };
        TftpServer::new(options, |_| {})
    }

    #[test]
    fn only_allowed_names_are_found_in_whatever_directory() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["ipxe.efi", "own.bin", "state.db"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("snponly.efi")).unwrap();
        let server = server(dir.path());
        let find =
            |path: &str| server.find(Path::new(path), [10, 0, 0, 1].into()).map(|(_, bytes)| bytes);
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
    fn autoexec_refers_to_the_address_that_was_asked() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(dir.path());
        for (local, base) in
            [("10.0.0.1", "http://10.0.0.1:8080/bty/"), ("fd00::1", "http://[fd00::1]:8080/bty/")]
        {
            let (_, bytes) =
                server.find(Path::new("x/autoexec.ipxe"), local.parse().unwrap()).unwrap();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            assert!(text.starts_with("#!ipxe\n") && text.contains(base), "{text}");
        }
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(dir.path());
        let path = dir.path().join("ipxe.efi");
        for text in ["one", "three"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(&*server.read(&path).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn neighbors_are_found_in_the_arp_table() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.0.0.9         0x1         0x2         52:54:00:AA:bb:01     *        br0\n\
                     10.0.0.10        0x1         0x0         00:00:00:00:00:00     *        br0\n";
        assert_eq!(
            find_neighbor(table, "10.0.0.9".parse().unwrap()).as_deref(),
            Some("52:54:00:aa:bb:01")
        );
        assert_eq!(find_neighbor(table, "10.0.0.10".parse().unwrap()), None);
        assert_eq!(find_neighbor(table, "10.0.0.1".parse().unwrap()), None);
        assert_eq!(find_neighbor("", "10.0.0.1".parse().unwrap()), None);
    }
}
