//! Shared parts of the tests.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod command;
pub mod disk;
pub mod images;
pub mod loops;
pub mod media;
pub mod netns;
pub mod nginx;
pub mod plan_server;
pub mod podman;
pub mod qemu;
pub mod rack;
pub mod reference;
pub mod registry;
pub mod server;
pub mod terminal;
pub mod tftp;
pub mod web;

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Bytes that differ at every offset a test may confuse: a counter in each 4 bytes.
#[must_use]
pub fn pattern(len_bytes: usize) -> Vec<u8> {
    (0u32..).flat_map(u32::to_be_bytes).take(len_bytes).collect()
}

/// A daemon of the tests; killed when dropped.
pub struct Daemon(Child);

impl Daemon {
    /// Starts `command` and waits until something listens on `port` of the loopback.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(command: &mut Command, port: u16, package: &str) -> Self {
        let child = command.spawn().unwrap_or_else(|e| panic!("{e}: is the Debian package {package} installed?"));
        let daemon = Self(child);
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{package} does not listen on port {port}");
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // both fail only when it is gone already
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody uses at the moment.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port can be had");
    listener.local_addr().expect("a listener has an address").port()
}
