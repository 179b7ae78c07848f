//! A session of the live environment: loads drivers, waits for a stick or the network, runs `bty`,
//! and handles the keys of a person at any console.
//!
//! One thread owns the [`Session`] and processes [`Event`]s in order. Other threads only read
//! consoles, pseudo-terminals and the kernel's device events.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::console::{Consoles, quiet_kernel};
use crate::devices::{self, Coldplug};
use crate::kernel_args::KernelArgs;
use crate::modules::Modules;
use crate::network::{Lease, Network, State};
use crate::screen::{self, StatusLine};
use crate::terminal::Terminal;
use crate::{EXIT_TO_FULL, clock, full, mounts, stick};

/// Interval for polling what sends no events: network cards, sticks, `bty-live full`.
const TICK: Duration = Duration::from_millis(50);
/// How long to wait for a stick with images. USB devices may take seconds to appear.
const STICK_TIMEOUT: Duration = Duration::from_secs(10);
/// Ctrl-\, which opens a shell beside the running `bty`.
const SHELL_KEY: u8 = 0x1c;
/// Modules that no device asks for: file systems of sticks, keyboards, and what the full
/// environment needs.
const EXTRA_MODULES: [&str; 8] =
    ["efivarfs", "loop", "exfat", "vfat", "isofs", "nls_iso8859_1", "nls_cp437", "hid_generic"];

enum Event {
    /// Keys typed at any console.
    Typed(Vec<u8>),
    /// Output of `bty`; empty when it has exited.
    Bty(Vec<u8>),
    /// Output of the shell; empty when it has exited.
    Shell(Vec<u8>),
}

enum Step {
    /// A person is typing the address of the server; holds what was typed so far.
    AskingServer(String),
    /// Waiting for drivers, a stick or the network before `bty` starts.
    Waiting(StatusLine),
    /// `bty` is running on this terminal.
    Running(Terminal),
    /// `bty` has exited, and a person decides what comes next.
    Ended,
}

struct Session {
    args: KernelArgs,
    consoles: Consoles,
    sender: Sender<Event>,
    step: Step,
    /// The shell in front of `bty`, if a person has opened one.
    shell: Option<Terminal>,
    network: Network,
    coldplug: Coldplug,
    /// Start of the wait for a stick.
    wait_start: Instant,
    /// A stick with images was found and mounted.
    has_images: bool,
    looks_for_stick: bool,
}

/// Runs a session until it ends. Returns the exit code for process 1, which is [`EXIT_TO_FULL`].
///
/// A session may be restarted after a crash: mounts and modules of the first one are still there.
pub(crate) fn run() -> Result<u8, String> {
    let args = KernelArgs::from_kernel();
    let modules = Arc::new(Modules::from_kernel(args.all("modprobe.blacklist")));
    let coldplug = devices::start(&modules);
    let (sender, events) = channel();
    let consoles = Consoles::open(&args, &sender, Event::Typed);
    let network = Network::new(&args);
    consoles.write(screen::banner(&args).as_bytes());
    EXTRA_MODULES.iter().for_each(|module| modules.load(module));
    mounts::mount_efivarfs();
    let mut session = Session {
        looks_for_stick: !args.has_server(),
        step: Step::Waiting(StatusLine::new()),
        wait_start: Instant::now(),
        shell: None,
        has_images: false,
        args,
        consoles,
        sender,
        network,
        coldplug,
    };
    session.run(&events)
}

impl Session {
    fn run(&mut self, events: &Receiver<Event>) -> Result<u8, String> {
        self.ask_for_server();
        loop {
            match events.recv_timeout(TICK) {
                Ok(Event::Typed(keys)) => self.handle_keys(&keys),
                Ok(Event::Bty(text)) if text.is_empty() => self.bty_has_ended(),
                Ok(Event::Bty(text)) if self.shell.is_none() => self.consoles.write(&text),
                Ok(Event::Bty(_)) => {}
                Ok(Event::Shell(text)) if text.is_empty() => self.shell_has_ended(),
                Ok(Event::Shell(text)) => self.consoles.write(&text),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("all consoles are gone".into()),
            }
            if full::take_request() {
                match full::prepare(&self.args, &mut |line| {
                    self.consoles.write(format!("  {line}\n").as_bytes());
                }) {
                    Ok(()) => return Ok(EXIT_TO_FULL),
                    Err(why) => {
                        self.print(&format!("\ncannot start the full environment: {why}\n"));
                    }
                }
            }
            self.poll();
        }
    }

    fn print(&self, text: &str) {
        self.consoles.write(text.as_bytes());
    }

    /// Updates the status line, and goes on to `bty` as soon as nothing is missing any more.
    fn poll(&mut self) {
        let state = self.network.poll();
        let Step::Waiting(status) = &mut self.step else { return };
        let text = if self.looks_for_stick && !self.has_images {
            "disks: looking for images".into()
        } else {
            screen::network(&state)
        };
        if let Some(line) = status.update(&text).filter(|_| self.shell.is_none()) {
            self.consoles.write(line.as_bytes());
        }
        if !self.coldplug.is_done() {
            return;
        }
        if self.looks_for_stick {
            self.look_for_stick();
        } else if let State::Up(lease) = state {
            self.contact_server(&lease);
        }
    }

    /// The stick that this machine was started from may have images, and parameters in `bty.txt`.
    fn look_for_stick(&mut self) {
        let found = stick::find(&mut |line| self.consoles.write(format!("  {line}\n").as_bytes()));
        if found.is_none() && self.wait_start.elapsed() < STICK_TIMEOUT {
            return;
        }
        self.looks_for_stick = false;
        if let Some(stick) = found {
            self.args.add_missing(stick.args);
            self.print(&format!("  images: from {}\n", stick.device));
            self.has_images = true;
        }
        if !self.args.has_server() {
            return self.start_bty(None);
        }
        self.print("  server: set by bty.txt on the stick\n");
        if self.args.is_server_from_dhcp() {
            self.network.ask_for_server();
        }
        self.ask_for_server();
    }

    /// Prompts for the address of the server, if the parameters say so.
    fn ask_for_server(&mut self) {
        if self.args.is_server_typed_in() {
            self.step = Step::AskingServer(String::new());
            self.print(screen::SERVER_PROMPT);
        }
    }

    /// Runs `bty` for the server, or requests the full environment, which contacts the server
    /// itself.
    fn contact_server(&mut self, lease: &Lease) {
        // `bty.txt` on a stick names no MAC address, since the stick starts more than one machine
        let server = self
            .args
            .server()
            .or_else(|| lease.server.clone())
            .unwrap_or_else(|| "http://bty-server:8080".into());
        let mac = self.args.mac().unwrap_or_else(|| lease.mac.clone());
        if self.args.wants_full() {
            full::request().unwrap_or_else(|why| self.print(&why));
            return;
        }
        if let Some(message) = clock::advance_to(&server) {
            self.print(&format!("  {message}\n"));
        }
        self.print(&format!("  server: {server}\n"));
        self.start_bty(Some((&server, &mac)));
    }

    /// Starts `bty` for a server and a MAC address, or the wizard.
    fn start_bty(&mut self, server: Option<(&str, &str)>) {
        quiet_kernel();
        let mut command = vec!["/bin/bty"];
        if let Some((server, mac)) = server {
            command.extend(["--server", server, "--mac", mac, "--boot-flashed"]);
        }
        match Terminal::start(&command, &self.sender, Event::Bty) {
            Ok(terminal) => self.step = Step::Running(terminal),
            Err(why) => {
                self.print(&format!("\n{why}\n"));
                self.step = Step::Ended;
            }
        }
    }

    fn bty_has_ended(&mut self) {
        if let Step::Running(terminal) = std::mem::replace(&mut self.step, Step::Ended) {
            let code = terminal.wait();
            self.print(&screen::ended(code));
        }
    }

    fn start_shell(&mut self) {
        self.print("\nshell: `exit` goes back, `bty-live full` switches to the full environment\n");
        match Terminal::start(&["/bin/sh", "-l"], &self.sender, Event::Shell) {
            Ok(terminal) => self.shell = Some(terminal),
            Err(why) => self.print(&format!("{why}\n")),
        }
    }

    fn shell_has_ended(&mut self) {
        if let Some(shell) = self.shell.take() {
            shell.wait();
        }
        match self.step {
            Step::Running(_) => self.print("\nback in bty: its next output appears here\n"),
            Step::Ended => self.print(&screen::ended(0)),
            Step::Waiting(_) => self.print("\nwaiting again\n"),
            Step::AskingServer(_) => self.print(screen::SERVER_PROMPT),
        }
    }

    /// Starts over with the parameters known by now, and with the stick that was found.
    fn restart(&mut self) {
        self.wait_start = Instant::now();
        self.looks_for_stick = !self.has_images && !self.args.has_server();
        self.step = Step::Waiting(StatusLine::new());
        if self.has_images && !self.args.has_server() {
            self.start_bty(None);
        }
    }

    /// Edits the address of the server: printable keys, Backspace, and Enter to accept. An empty
    /// address means that there is no server.
    fn edit_server(&mut self, keys: &[u8]) {
        let Step::AskingServer(address) = &mut self.step else { return };
        for key in keys {
            match key {
                b'\r' | b'\n' => {
                    self.args.set_server(address);
                    self.print("\n");
                    return self.restart();
                }
                0x08 | 0x7f if address.pop().is_some() => self.consoles.write(b"\x08 \x08"),
                b'!'..=b'~' => {
                    address.push(char::from(*key));
                    self.consoles.write(&[*key]);
                }
                _ => {}
            }
        }
    }

    fn handle_keys(&mut self, keys: &[u8]) {
        if let Some(shell) = &mut self.shell {
            return shell.write(keys);
        }
        if keys.contains(&SHELL_KEY) {
            return self.start_shell();
        }
        match (&mut self.step, keys.first()) {
            (Step::Running(terminal), _) => terminal.write(keys),
            (Step::AskingServer(_), _) => self.edit_server(keys),
            (Step::Waiting(_), Some(b'\r' | b'\n')) => self.start_bty(None),
            (Step::Ended, Some(b'\r' | b'\n')) => self.restart(),
            (Step::Ended, Some(b's')) => self.start_shell(),
            (Step::Ended, Some(b'f')) => full::request().unwrap_or_else(|why| self.print(&why)),
            (Step::Ended, Some(b'r')) => reboot(rustix::system::RebootCommand::Restart),
            (Step::Ended, Some(b'p')) => reboot(rustix::system::RebootCommand::PowerOff),
            _ => {}
        }
    }
}

fn reboot(command: rustix::system::RebootCommand) {
    rustix::fs::sync();
    let _ = rustix::system::reboot(command);
}
