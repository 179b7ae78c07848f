//! Networks of their own, so that a test can have addresses, losses and DHCP without touching
//! anybody's.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::tool;

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A network namespace; gone when dropped.
pub struct Netns(String);

impl Netns {
    /// Makes one with a loopback. Needs root.
    #[must_use]
    pub fn new() -> Self {
        let name =
            format!("bty-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        tool(&["ip", "netns", "add", &name]);
        let ns = Self(name);
        ns.ip("link set lo up");
        ns
    }

    /// `ip` in it.
    pub fn ip(&self, arguments: &str) {
        let mut command = vec!["ip", "-n", &self.0];
        command.extend(arguments.split(' '));
        tool(&command);
    }

    /// A cable from it to another: `here` is its own end, `there` the other's.
    pub fn cable(&self, here: &str, other: &Self, there: &str) {
        self.ip(&format!("link add {here} type veth peer name {there} netns {}", other.0));
        self.ip(&format!("link set {here} up"));
        other.ip(&format!("link set {there} up"));
    }

    /// A command in it.
    pub fn tool(&self, command: &[&str]) {
        let mut all = vec!["ip", "netns", "exec", &self.0];
        all.extend(command);
        tool(&all);
    }

    /// Does `work` in it, on a thread of its own. Processes that `work` starts are in it too, and
    /// stay there.
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
