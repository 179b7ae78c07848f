//! Loads drivers for devices: for those present at the start (coldplug), and for those that the
//! kernel announces later (hotplug).

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use crate::modules::Modules;

/// Threads that load drivers. More than there are processors, because loading mostly waits for
/// hardware.
const LOADERS: usize = 8;
/// Larger than any message that the kernel sends.
const MESSAGE_BYTES_MAX: usize = 8192;

/// Starts threads that load drivers for all present and future devices.
pub(crate) fn start(modules: &Arc<Modules>) -> Coldplug {
    // the socket must exist before sysfs is read: otherwise a device that appears in between is
    // missed
    let hotplug_modules = Arc::clone(modules);
    let socket = listen();
    let aliases = present_aliases(Path::new("/sys/devices"));
    let running = Arc::new(AtomicUsize::new(LOADERS));
    let next = Arc::new(AtomicUsize::new(0));
    let aliases = Arc::new(aliases);
    for _ in 0..LOADERS {
        let (modules, running, next, aliases) =
            (Arc::clone(modules), Arc::clone(&running), Arc::clone(&next), Arc::clone(&aliases));
        thread::spawn(move || {
            while let Some(alias) = aliases.get(next.fetch_add(1, Ordering::Relaxed)) {
                modules.load_for(alias);
            }
            running.fetch_sub(1, Ordering::Release);
        });
    }
    if let Some(socket) = socket {
        thread::spawn(move || load_added(&socket, &hotplug_modules));
    }
    Coldplug(running)
}

/// Loading of drivers for the devices that were present at the start; holds the number of threads
/// that are still loading.
pub(crate) struct Coldplug(Arc<AtomicUsize>);

impl Coldplug {
    /// True when every device that was present at the start has its driver.
    pub(crate) fn is_done(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

/// Opens the socket on which the kernel announces devices; none if the kernel refuses it.
fn listen() -> Option<rustix::fd::OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(KOBJECT_UEVENT),
    );
    let socket = socket.ok()?;
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1 << 20);
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 1)).ok()?;
    Some(socket)
}

/// Loads a driver for every device that the kernel announces; never returns.
fn load_added(socket: &rustix::fd::OwnedFd, modules: &Arc<Modules>) {
    let mut message = [0; MESSAGE_BYTES_MAX];
    loop {
        let Ok((len, _)) = rustix::net::recv(socket, message.as_mut_slice(), RecvFlags::empty())
        else {
            continue;
        };
        if let Some(alias) = added_alias(&message[..len]) {
            let (modules, alias) = (Arc::clone(modules), alias.to_owned());
            thread::spawn(move || modules.load_for(&alias));
        }
    }
}

/// The alias of an added device: `add@/devices/…\0ACTION=add\0…\0MODALIAS=…\0`.
fn added_alias(message: &[u8]) -> Option<&str> {
    let fields = || message.split(|&b| b == 0).filter_map(|field| std::str::from_utf8(field).ok());
    fields().any(|field| field == "ACTION=add").then_some(())?;
    fields().find_map(|field| field.strip_prefix("MODALIAS="))
}

/// The aliases of all devices below `devices`, without duplicates. Network cards come first,
/// because their links take seconds to come up.
fn present_aliases(devices: &Path) -> Vec<String> {
    let mut all = HashSet::new();
    let mut dirs = vec![devices.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                Ok(kind) if kind.is_file() && entry.file_name() == "modalias" => {
                    all.extend(read_alias(&entry.path()));
                }
                _ => {}
            }
        }
    }
    let mut all: Vec<String> = all.into_iter().collect();
    all.sort_by_key(|alias| (!is_network(alias), alias.clone()));
    all
}

fn read_alias(path: &PathBuf) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|alias| !alias.is_empty())
}

/// PCI devices of the class "network", and VirtIO network cards.
fn is_network(alias: &str) -> bool {
    alias.starts_with("virtio:d00000001") || (alias.starts_with("pci:") && alias.contains("bc02"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_message_has_the_alias_of_an_added_device() {
        let message =
            b"add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0MODALIAS=usb:v0525\0SEQNUM=7\0";
        assert_eq!(added_alias(message), Some("usb:v0525"));
        assert_eq!(added_alias(b"remove@/devices/x\0ACTION=remove\0MODALIAS=usb:v0525\0"), None);
        assert_eq!(added_alias(b"add@/x\0ACTION=add\0SUBSYSTEM=net\0"), None);
        assert_eq!(added_alias(b"\xff\0\0"), None);
    }

    #[test]
    fn network_cards_are_first() {
        let dir = tempfile::tempdir().unwrap();
        for (name, alias) in [
            ("a/b", "acpi:PNP0A08:"),
            ("c", "pci:v00008086d000010D3sv0sd0bc02sc00i00"),
            ("d", "acpi:PNP0A08:"),
            ("e", ""),
        ] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("modalias"), format!("{alias}\n")).unwrap();
        }
        assert_eq!(
            present_aliases(dir.path()),
            ["pci:v00008086d000010D3sv0sd0bc02sc00i00", "acpi:PNP0A08:"]
        );
    }
}
