//! Code that tests share.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod command;
pub mod desk;
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
pub mod recording;
pub mod reference;
pub mod registry;
pub mod server;
pub mod terminal;
pub mod tftp;
pub mod web;

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Timeout for something that takes milliseconds on an idle machine. Generous, because a limit that
/// is too short makes a test flaky, and one that is too long costs nothing unless the test fails.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Bytes that differ at different offsets: a counter in each 4 bytes.
#[must_use]
pub fn pattern(len_bytes: usize) -> Vec<u8> {
    (0u32..).flat_map(u32::to_be_bytes).take(len_bytes).collect()
}

/// Polls `probe` until it returns something. The interval grows from 1 ms to 50 ms.
///
/// # Panics
/// After `limit`, with `what` in the message.
pub fn eventually<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let (begun, mut pause) = (Instant::now(), Duration::from_millis(1));
    loop {
        // measured before the probe, which may take long itself
        let waited = begun.elapsed();
        if let Some(found) = probe() {
            return found;
        }
        assert!(waited < limit, "{what}: not within {limit:?}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// A daemon for a test. Killed when dropped.
pub struct Daemon(Child);

impl Daemon {
    /// Starts `command` and waits until something listens on `port` of the loopback.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn start(command: &mut Command, port: u16, package: &str) -> Self {
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("{e}: is the Debian package {package} installed?"));
        let daemon = Self(child);
        let what = format!("{package} listens on port {port}");
        eventually(LIMIT, &what, || TcpStream::connect(("127.0.0.1", port)).ok());
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // both fail only if the process has exited
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a loopback port that is free for TCP and UDP.
///
/// No two calls in one process return the same port, so that concurrent tests do not compete for
/// it. The ports are below those that the kernel assigns (32768 and up).
#[must_use]
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // another test process starts at another port
    let start = std::process::id().wrapping_mul(499);
    let ports = std::iter::repeat_with(|| {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        u16::try_from(FIRST + number).expect("it is below 32768")
    });
    let is_free = |port: &u16| {
        TcpListener::bind(("127.0.0.1", *port)).is_ok()
            && UdpSocket::bind(("127.0.0.1", *port)).is_ok()
    };
    ports.take(COUNT as usize).find(is_free).expect("a loopback port is free")
}
