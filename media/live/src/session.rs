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
use crate::keys::{Key, KeyFilter};
use crate::modules::Modules;
use crate::network::{Lease, Network, State};
use crate::screen::{self, StatusLine};
use crate::stick::Media;
use crate::terminal::Terminal;
use crate::{EXIT_TO_FULL, clock, full, keyboard, log, mounts, stick};

/// Interval for polling what sends no events: network cards, sticks, `bty-live full`.
const TICK: Duration = Duration::from_millis(50);
/// How long to wait for a stick with images. USB devices may take seconds to appear.
const STICK_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of looking for media while `bty` runs.
const MEDIA_EVERY: Duration = Duration::from_secs(1);
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
    /// Somebody has pressed Ctrl-Alt-Del.
    CtrlAltDel,
    /// The log that somebody has asked for.
    Log(log::Report),
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
    /// Sticks and other media with images.
    media: Media,
    media_polled: Instant,
    looks_for_stick: bool,
    /// The layout of the keyboard, if one was loaded.
    keyboard: Option<String>,
    keys: KeyFilter,
    /// Ctrl-Alt-Del was pressed while `bty` runs; pressed again, it restarts the machine.
    asks_to_restart: bool,
    /// The last output of `bty`, for the log.
    transcript: log::Transcript,
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
        media: Media::default(),
        media_polled: Instant::now(),
        keyboard: None,
        keys: KeyFilter::default(),
        asks_to_restart: false,
        transcript: log::Transcript::default(),
        step: Step::Waiting(StatusLine::new()),
        wait_start: Instant::now(),
        shell: None,
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
        self.load_keyboard();
        self.listen_for_ctrl_alt_del();
        self.ask_for_server();
        loop {
            match events.recv_timeout(TICK) {
                Ok(Event::Typed(keys)) => self.handle_keys(&keys),
                Ok(Event::Bty(text)) if text.is_empty() => self.bty_has_ended(),
                Ok(Event::Bty(text)) => {
                    self.transcript.add(&text);
                    if self.shell.is_none() {
                        self.consoles.write(&text);
                    }
                }
                Ok(Event::CtrlAltDel) => self.ctrl_alt_del(),
                Ok(Event::Log(report)) => self.save_log(&report),
                Ok(Event::Shell(text)) if text.is_empty() => self.shell_has_ended(),
                Ok(Event::Shell(text)) => self.consoles.write(&text),
                Err(RecvTimeoutError::Timeout) => {
                    self.keys.release().into_iter().for_each(|key| self.handle_key(&key));
                }
                Err(RecvTimeoutError::Disconnected) => return Err("all consoles are gone".into()),
            }
            if full::take_request() {
                match full::prepare(&self.args, &mut |line| {
                    self.consoles.write(format!("  {line}\n").as_bytes());
                }) {
                    Ok(()) => return Ok(EXIT_TO_FULL),
                    Err(why) => self.full_has_failed(&why),
                }
            }
            self.poll();
        }
    }

    fn print(&self, text: &str) {
        self.consoles.write(text.as_bytes());
    }

    /// Loads the layout that the parameters name.
    fn load_keyboard(&mut self) {
        let Some(layout) = self.args.get("bty.keyboard").map(str::to_owned) else { return };
        match keyboard::load(&layout) {
            Ok(()) => self.keyboard = Some(layout),
            Err(why) => self.print(&format!("  {why}\n")),
        }
    }

    /// Has the kernel send Ctrl-Alt-Del here instead of restarting the machine.
    fn listen_for_ctrl_alt_del(&self) {
        let Ok(mut signals) = signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT])
        else {
            return;
        };
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            let _ = signals.forever().try_for_each(|_| sender.send(Event::CtrlAltDel));
        });
        let _ = std::fs::write("/proc/sys/kernel/cad_pid", std::process::id().to_string());
        let _ = rustix::system::reboot(rustix::system::RebootCommand::CadOff);
    }

    /// Restarts the machine, but asks while `bty` runs: it may be writing a disk. The answer is the
    /// same keys, which are in the same place on all keyboards.
    fn ctrl_alt_del(&mut self) {
        if self.asks_to_restart || !matches!(self.step, Step::Running(_)) {
            return reboot(rustix::system::RebootCommand::Restart);
        }
        self.asks_to_restart = true;
        self.print(screen::RESTART_PROMPT);
    }

    /// Says why, and what is possible instead.
    fn full_has_failed(&mut self, why: &str) {
        self.print(&format!("\ncannot start the full environment: {why}\n"));
        if matches!(self.step, Step::Waiting(_)) {
            // otherwise it would be tried again at once
            self.step = Step::Ended;
        }
        if matches!(self.step, Step::Ended) {
            self.print(screen::KEYS);
        }
    }

    /// Collects a log for a person who helps from afar, on another thread: it may take a while.
    fn collect_log(&self) {
        self.print("\nlog: collecting\n");
        let (args, shown, sender) =
            (self.args.clone(), self.transcript.text(), self.sender.clone());
        std::thread::spawn(move || sender.send(Event::Log(log::report(&args, &shown))));
    }

    /// Saves a log to the stick, or else where it stays until the machine restarts.
    fn save_log(&self, report: &log::Report) {
        let said = match self.media.save(&report.name, report.text.as_bytes()) {
            Ok(()) => format!("saved to the stick: {}", report.name),
            Err(why) => match std::fs::write(log::FALLBACK, &report.text) {
                Ok(()) => format!("saved to {} until the machine restarts: {why}", log::FALLBACK),
                Err(e) => format!("not saved: {why}; {}: {e}", log::FALLBACK),
            },
        };
        self.print(&format!("\nlog: {said}\n"));
    }

    /// Finds sticks that were plugged in or pulled out after `bty` has started.
    fn poll_media(&mut self) {
        if self.args.has_server() || self.media_polled.elapsed() < MEDIA_EVERY {
            return;
        }
        self.media_polled = Instant::now();
        // quiet: the wizard asks a question
        let _ = self.media.poll(true, &mut |_| {});
    }

    /// Updates the status line, and goes on to `bty` as soon as nothing is missing any more.
    fn poll(&mut self) {
        if matches!(self.step, Step::Running(_) | Step::Ended) {
            self.poll_media();
        }
        let state = self.network.poll();
        let Step::Waiting(status) = &mut self.step else { return };
        let text = if self.looks_for_stick && !self.media.has_images() {
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

    /// The stick that this machine was started from may have images, and settings in `bty.txt`.
    fn look_for_stick(&mut self) {
        let consoles = &self.consoles;
        let found =
            self.media.poll(false, &mut |line| consoles.write(format!("  {line}\n").as_bytes()));
        for medium in found {
            self.print(&format!("  images: from {}\n", medium.device));
            for message in &medium.settings.messages {
                self.print(&format!("  {message}\n"));
            }
            self.args.add_missing(medium.settings.args);
        }
        if !self.media.has_images() && self.wait_start.elapsed() < STICK_TIMEOUT {
            return;
        }
        self.looks_for_stick = false;
        if self.keyboard.is_none() {
            self.load_keyboard();
        }
        if self.args.wants_full() && self.args.get("fetch").is_none() {
            // it is on the stick, so it needs no network
            return full::request().unwrap_or_else(|why| self.print(&why));
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
        match self.start_program(&command, Event::Bty) {
            Ok(terminal) => self.step = Step::Running(terminal),
            Err(why) => {
                self.print(&format!("\n{why}\n"));
                self.step = Step::Ended;
            }
        }
    }

    /// Starts a program on a terminal that fits all consoles, with what it should know.
    fn start_program(
        &self,
        command: &[&str],
        wrap: fn(Vec<u8>) -> Event,
    ) -> Result<Terminal, String> {
        let mut variables = vec![("BTY_MEDIA", stick::FURTHER_IMAGES.to_owned())];
        if let Some(layout) = &self.keyboard {
            variables.push(("BTY_KEYBOARD", layout.clone()));
        }
        if let Some(disk) = self.args.is_from_stick().then(stick::boot_disk).flatten() {
            variables.push(("BTY_MEDIUM", disk.display().to_string()));
        }
        if std::path::Path::new("/sys/firmware/efi").exists() {
            variables.push(("BTY_REGISTER_UEFI_BOOT", "1".to_owned()));
        }
        Terminal::start(command, &variables, self.consoles.size(), &self.sender, wrap)
    }

    fn bty_has_ended(&mut self) {
        if let Step::Running(terminal) = std::mem::replace(&mut self.step, Step::Ended) {
            let code = terminal.wait();
            self.print(&screen::ended(code));
        }
    }

    fn start_shell(&mut self) {
        self.print("\nshell: `exit` goes back, `bty-live full` switches to the full environment\n");
        match self.start_program(&["/bin/sh", "-l"], Event::Shell) {
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
        self.looks_for_stick = !self.media.has_images() && !self.args.has_server();
        self.step = Step::Waiting(StatusLine::new());
        if self.media.has_images() && !self.args.has_server() {
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
        if std::mem::take(&mut self.asks_to_restart) {
            return self.print("\nnot restarted\n");
        }
        if let Some(shell) = &mut self.shell {
            return shell.write(keys);
        }
        for key in self.keys.feed(keys) {
            self.handle_key(&key);
        }
    }

    fn handle_key(&mut self, key: &Key) {
        // typed right after the key that has opened it
        if let (Some(shell), Key::Other(keys)) = (&mut self.shell, key) {
            return shell.write(keys);
        }
        let keys = match key {
            _ if self.shell.is_some() => return,
            Key::Shell => return self.start_shell(),
            Key::Log => return self.collect_log(),
            Key::Other(keys) => keys,
        };
        match (&mut self.step, keys.first()) {
            (Step::Running(terminal), _) => terminal.write(keys),
            (Step::AskingServer(_), _) => self.edit_server(keys),
            (Step::Waiting(_), Some(b'\r' | b'\n')) => self.start_bty(None),
            (Step::Ended, Some(b'\r' | b'\n')) => self.restart(),
            (Step::Ended, Some(b's')) => self.start_shell(),
            (Step::Ended, Some(b'l')) => self.collect_log(),
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
