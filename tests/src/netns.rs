//! Network namespaces, in which a test can have addresses, packet loss and DHCP without affecting
//! other tests or this machine.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::tool;

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A network namespace. Deleted when dropped.
pub struct Netns(String);

impl Netns {
    /// Creates a namespace with a loopback interface. Needs root.
    #[must_use]
    pub fn new() -> Self {
        let name =
            format!("bty-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        tool(&["ip", "netns", "add", &name]);
        let ns = Self(name);
        ns.ip("link set lo up");
        ns
    }

    /// Runs `ip` in the namespace.
    pub fn ip(&self, arguments: &str) {
        let mut command = vec!["ip", "-n", &self.0];
        command.extend(arguments.split(' '));
        tool(&command);
    }

    /// Connects this namespace to another by a pair of interfaces: `here` in this one, `there` in
    /// the other.
    pub fn cable(&self, here: &str, other: &Self, there: &str) {
        self.ip(&format!("link add {here} type veth peer name {there} netns {}", other.0));
        self.ip(&format!("link set {here} up"));
        other.ip(&format!("link set {there} up"));
    }

    /// A command that runs in the namespace.
    pub fn tool(&self, command: &[&str]) {
        let mut all = vec!["ip", "netns", "exec", &self.0];
        all.extend(command);
        tool(&all);
    }

    /// Runs `work` in the namespace, on a new thread. Processes that `work` starts run in the
    /// namespace too.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let in_it = || {
                let ns = File::open(format!("/run/netns/{}", self.0)).unwrap();
                move_into_link_name_space(ns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            };
            scope.spawn(in_it).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Default for Netns {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}
