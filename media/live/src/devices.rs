//! Drivers for the devices that are there, and for those that come later.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use crate::modules::Modules;

/// A loader waits for its hardware most of the time: more of them than there are processors.
const LOADERS: usize = 8;
/// Messages of the kernel are shorter.
const MESSAGE_BYTES_MAX: usize = 8192;

/// Loads drivers in threads of their own, from now on. Gives what tells whether all devices that
/// were there at the start have theirs.
pub(crate) fn start(modules: &Arc<Modules>) -> Started {
    // first listen, then look: nothing gets lost in between
    let listening = Arc::clone(modules);
    let socket = listen();
    let aliases = coldplug(Path::new("/sys/devices"));
    let left = Arc::new(AtomicUsize::new(LOADERS));
    let next = Arc::new(AtomicUsize::new(0));
    let aliases = Arc::new(aliases);
    for _ in 0..LOADERS {
        let (modules, left, next, aliases) =
            (Arc::clone(modules), Arc::clone(&left), Arc::clone(&next), Arc::clone(&aliases));
        thread::spawn(move || {
            while let Some(alias) = aliases.get(next.fetch_add(1, Ordering::Relaxed)) {
                modules.load_for(alias);
            }
            left.fetch_sub(1, Ordering::Release);
        });
    }
    if let Some(socket) = socket {
        thread::spawn(move || follow(&socket, &listening));
    }
    Started(left)
}

/// Loading that goes on.
pub(crate) struct Started(Arc<AtomicUsize>);

impl Started {
    /// The devices that were there at the start have their drivers.
    pub(crate) fn is_settled(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

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

/// What the kernel says about devices that come.
fn follow(socket: &rustix::fd::OwnedFd, modules: &Arc<Modules>) {
    let mut message = [0; MESSAGE_BYTES_MAX];
    loop {
        let Ok((len, _)) = rustix::net::recv(socket, message.as_mut_slice(), RecvFlags::empty())
        else {
            continue;
        };
        if let Some(alias) = added(&message[..len]) {
            let (modules, alias) = (Arc::clone(modules), alias.to_owned());
            thread::spawn(move || modules.load_for(&alias));
        }
    }
}

/// The alias of a device that was added: `add@/devices/…\0ACTION=add\0…\0MODALIAS=…\0`.
fn added(message: &[u8]) -> Option<&str> {
    let words = || message.split(|&b| b == 0).filter_map(|word| std::str::from_utf8(word).ok());
    words().any(|word| word == "ACTION=add").then_some(())?;
    words().find_map(|word| word.strip_prefix("MODALIAS="))
}

/// The aliases of all devices, each once. Network cards are first: their links need a while to come
/// up.
fn coldplug(devices: &Path) -> Vec<String> {
    let mut all = HashSet::new();
    let mut dirs = vec![devices.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                Ok(kind) if kind.is_file() && entry.file_name() == "modalias" => {
                    all.extend(alias(&entry.path()));
                }
                _ => {}
            }
        }
    }
    let mut all: Vec<String> = all.into_iter().collect();
    all.sort_by_key(|alias| (!is_network(alias), alias.clone()));
    all
}

fn alias(path: &PathBuf) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|alias| !alias.is_empty())
}

/// PCI cards of the class "network", and VirtIO's.
fn is_network(alias: &str) -> bool {
    alias.starts_with("virtio:d00000001") || (alias.starts_with("pci:") && alias.contains("bc02"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_the_kernel_names_what_was_added() {
        let message =
            b"add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0MODALIAS=usb:v0525\0SEQNUM=7\0";
        assert_eq!(added(message), Some("usb:v0525"));
        assert_eq!(added(b"remove@/devices/x\0ACTION=remove\0MODALIAS=usb:v0525\0"), None);
        assert_eq!(added(b"add@/x\0ACTION=add\0SUBSYSTEM=net\0"), None);
        assert_eq!(added(b"\xff\0\0"), None);
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
            coldplug(dir.path()),
            ["pci:v00008086d000010D3sv0sd0bc02sc00i00", "acpi:PNP0A08:"]
        );
    }
}
