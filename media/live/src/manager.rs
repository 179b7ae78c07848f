//! What the environment does: devices, network, `bty`, and what a person at one of the consoles
//! wants instead.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::console::{Consoles, quiet_kernel};
use crate::devices::{self, Started};
use crate::modules::Modules;
use crate::network::{Lease, Network, State};
use crate::screen::{self, Waiting};
use crate::terminal::Terminal;
use crate::words::Words;
use crate::{TO_FULL, clock, full, mounts, stick};

/// How often there is a look at what nobody tells.
const TICK: Duration = Duration::from_millis(50);
/// How long a stick with images is waited for: USB takes its time.
const STICK_TIME: Duration = Duration::from_secs(10);
/// Ctrl-\.
const SHELL_KEY: u8 = 0x1c;
/// File systems of sticks, and what keyboards and the full environment need without being a device.
const USEFUL: [&str; 8] =
    ["efivarfs", "loop", "exfat", "vfat", "isofs", "nls_iso8859_1", "nls_cp437", "hid_generic"];

enum Event {
    /// Keys, of whichever console.
    Typed(Vec<u8>),
    /// What `bty` shows; nothing when it has ended.
    Bty(Vec<u8>),
    /// The same of the shell.
    Shell(Vec<u8>),
}

enum Step {
    /// The address of the server is being typed in.
    Asking(String),
    /// Something is missing before `bty` can start.
    Waiting(Waiting),
    /// `bty` runs.
    Running(Terminal),
    /// It has ended.
    Ended,
}

struct Manager {
    words: Words,
    consoles: Consoles,
    sender: Sender<Event>,
    step: Step,
    shell: Option<Terminal>,
    network: Network,
    started: Started,
    begun: Instant,
    /// A stick was found.
    has_images: bool,
    looks_for_stick: bool,
}

/// Runs it all; gives the exit code that process 1 understands.
pub(crate) fn run() -> Result<u8, String> {
    // a manager that is started again has them
    let words = Words::of_kernel();
    let modules = Arc::new(Modules::of_kernel(words.all("modprobe.blacklist")));
    let started = devices::start(&modules);
    let (sender, events) = channel();
    let consoles = Consoles::open(&words, &sender, Event::Typed);
    let network = Network::new(&words);
    consoles.write(screen::banner(&words).as_bytes());
    USEFUL.iter().for_each(|module| modules.load(module));
    mounts::firmware_variables();
    let mut manager = Manager {
        looks_for_stick: !words.is_led(),
        step: Step::Waiting(Waiting::new()),
        begun: Instant::now(),
        shell: None,
        has_images: false,
        words,
        consoles,
        sender,
        network,
        started,
    };
    manager.follow(&events)
}

impl Manager {
    fn follow(&mut self, events: &Receiver<Event>) -> Result<u8, String> {
        self.ask_person();
        loop {
            match events.recv_timeout(TICK) {
                Ok(Event::Typed(keys)) => self.typed(&keys),
                Ok(Event::Bty(text)) if text.is_empty() => self.bty_has_ended(),
                Ok(Event::Bty(text)) if self.shell.is_none() => self.consoles.write(&text),
                Ok(Event::Bty(_)) => {}
                Ok(Event::Shell(text)) if text.is_empty() => self.shell_has_ended(),
                Ok(Event::Shell(text)) => self.consoles.write(&text),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("all consoles are gone".into()),
            }
            if full::is_wanted() {
                match full::prepare(&self.words, &mut |line| {
                    self.consoles.write(format!("  {line}\n").as_bytes());
                }) {
                    Ok(()) => return Ok(TO_FULL),
                    Err(why) => {
                        self.say(&format!("\nthe full environment cannot be started: {why}\n"));
                    }
                }
            }
            self.look();
        }
    }

    fn say(&self, text: &str) {
        self.consoles.write(text.as_bytes());
    }

    /// Goes on as soon as nothing is missing any more.
    fn look(&mut self) {
        let state = self.network.look();
        let Step::Waiting(waiting) = &mut self.step else { return };
        let line = if self.looks_for_stick && !self.has_images {
            "disks: looking for images".into()
        } else {
            screen::network(&state)
        };
        if let Some(line) = waiting.line(&line).filter(|_| self.shell.is_none()) {
            self.consoles.write(line.as_bytes());
        }
        if !self.started.is_settled() {
            return;
        }
        if self.looks_for_stick {
            self.look_for_stick();
        } else if let State::Up(lease) = state {
            self.go_to_server(&lease);
        }
    }

    /// Images, and a file with words, may be on the stick that this machine was started from.
    fn look_for_stick(&mut self) {
        let found = stick::find(&mut |line| self.consoles.write(format!("  {line}\n").as_bytes()));
        if found.is_none() && self.begun.elapsed() < STICK_TIME {
            return;
        }
        self.looks_for_stick = false;
        if let Some(stick) = found {
            self.words.complete(stick.words);
            self.say(&format!("  images: those of {}\n", stick.device));
            self.has_images = true;
        }
        if !self.words.is_led() {
            return self.start_bty(None);
        }
        self.say("  server: the stick says which\n");
        if self.words.asks_dhcp() {
            self.network.ask_for_server();
        }
        self.ask_person();
    }

    /// When it is a person who names the server.
    fn ask_person(&mut self) {
        if self.words.asks_person() {
            self.step = Step::Asking(String::new());
            self.say(screen::WHICH_SERVER);
        }
    }

    /// The server's plan is wanted, and there is an address to ask from.
    fn go_to_server(&mut self, lease: &Lease) {
        // a file for one machine only would be no file for a stick
        let server = self
            .words
            .server()
            .or_else(|| lease.server.clone())
            .unwrap_or_else(|| "http://bty-server:8080".into());
        let mac = self.words.mac().unwrap_or_else(|| lease.mac.clone());
        if self.words.wants_full() {
            full::ask().unwrap_or_else(|why| self.say(&why));
            return;
        }
        if let Some(clock) = clock::follow(&server) {
            self.say(&format!("  {clock}\n"));
        }
        self.say(&format!("  server: {server}\n"));
        self.start_bty(Some((&server, &mac)));
    }

    fn start_bty(&mut self, server: Option<(&str, &str)>) {
        quiet_kernel();
        let mut command = vec!["/bin/bty"];
        if let Some((server, mac)) = server {
            command.extend(["--server", server, "--mac", mac, "--boot-flashed"]);
        }
        match Terminal::start(&command, &self.sender, Event::Bty) {
            Ok(terminal) => self.step = Step::Running(terminal),
            Err(why) => {
                self.say(&format!("\n{why}\n"));
                self.step = Step::Ended;
            }
        }
    }

    fn bty_has_ended(&mut self) {
        if let Step::Running(terminal) = std::mem::replace(&mut self.step, Step::Ended) {
            let code = terminal.end();
            self.say(&screen::ended(code));
        }
    }

    fn start_shell(&mut self) {
        self.say("\nthis is a shell; `exit` goes back, `bty-live full` to the full environment\n");
        match Terminal::start(&["/bin/sh", "-l"], &self.sender, Event::Shell) {
            Ok(terminal) => self.shell = Some(terminal),
            Err(why) => self.say(&format!("{why}\n")),
        }
    }

    fn shell_has_ended(&mut self) {
        if let Some(shell) = self.shell.take() {
            shell.end();
        }
        match self.step {
            Step::Running(_) => self.say("\nback in bty; what it shows next is shown here\n"),
            Step::Ended => self.say(&screen::ended(0)),
            Step::Waiting(_) => self.say("\nwaiting again\n"),
            Step::Asking(_) => self.say(screen::WHICH_SERVER),
        }
    }

    /// With what is known by now.
    fn begin_again(&mut self) {
        self.begun = Instant::now();
        self.looks_for_stick = !self.has_images && !self.words.is_led();
        self.step = Step::Waiting(Waiting::new());
        if self.has_images && !self.words.is_led() {
            self.start_bty(None);
        }
    }

    /// A line, with no more than a way to take back: none means that there is no server.
    fn server_typed(&mut self, keys: &[u8]) {
        let Step::Asking(address) = &mut self.step else { return };
        for key in keys {
            match key {
                b'\r' | b'\n' => {
                    self.words.set_server(address);
                    self.say("\n");
                    return self.begin_again();
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

    fn typed(&mut self, keys: &[u8]) {
        if let Some(shell) = &mut self.shell {
            return shell.write(keys);
        }
        if keys.contains(&SHELL_KEY) {
            return self.start_shell();
        }
        match (&mut self.step, keys.first()) {
            (Step::Running(terminal), _) => terminal.write(keys),
            (Step::Asking(_), _) => self.server_typed(keys),
            (Step::Waiting(_), Some(b'\r' | b'\n')) => self.start_bty(None),
            (Step::Ended, Some(b'\r' | b'\n')) => self.begin_again(),
            (Step::Ended, Some(b's')) => self.start_shell(),
            (Step::Ended, Some(b'f')) => full::ask().unwrap_or_else(|why| self.say(&why)),
            (Step::Ended, Some(b'r')) => power(rustix::system::RebootCommand::Restart),
            (Step::Ended, Some(b'p')) => power(rustix::system::RebootCommand::PowerOff),
            _ => {}
        }
    }
}

fn power(command: rustix::system::RebootCommand) {
    rustix::fs::sync();
    let _ = rustix::system::reboot(command);
}
