//! A program on a pseudo-terminal: its screen, and the keys of a person.
//!
//! A terminal emulator renders the screen, so that a test sees what a person sees.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use tempfile::TempDir;

use crate::{LIMIT, eventually};

/// A program and its terminal. The program is killed when dropped.
pub struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keyboard: Box<dyn Write + Send>,
    shown: Arc<Mutex<Shown>>,
    reader: Option<thread::JoinHandle<()>>,
    home: TempDir,
}

struct Shown {
    parser: vt100::Parser,
    all: Vec<u8>,
}

/// Options for starting a program on a terminal.
pub struct Start {
    command: CommandBuilder,
    size: PtySize,
    home: TempDir,
}

impl Start {
    /// `program` on a console of 80 by 25 characters, with a new home directory and an otherwise
    /// empty environment.
    #[must_use]
    pub fn new(program: &Path, arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory can be made");
        let mut command = CommandBuilder::new(program);
        command.args(arguments);
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", home.path());
        command.env("TERM", "linux");
        command.env("LANG", "C.UTF-8");
        command.cwd(home.path());
        Self {
            command,
            size: PtySize { rows: 25, cols: 80, pixel_width: 0, pixel_height: 0 },
            home,
        }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the size of the terminal; 0 by 0 is a serial line, which reports none.
    #[must_use]
    pub fn size(mut self, columns: u16, rows: u16) -> Self {
        (self.size.cols, self.size.rows) = (columns, rows);
        self
    }

    /// Starts the program.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(self) -> Terminal {
        let pair = native_pty_system().openpty(self.size).expect("a pseudo-terminal can be had");
        let child = pair.slave.spawn_command(self.command).expect("the program can be started");
        drop(pair.slave);
        let keyboard = pair.master.take_writer().expect("it has a keyboard");
        let mut screen = pair.master.try_clone_reader().expect("it has a screen");
        let (rows, columns) =
            (self.size.rows.max(25), if self.size.cols == 0 { 80 } else { self.size.cols });
        let shown = Arc::new(Mutex::new(Shown {
            parser: vt100::Parser::new(rows, columns, 0),
            all: Vec::new(),
        }));
        let seen = Arc::clone(&shown);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(len @ 1..) = screen.read(&mut chunk) {
                let mut shown = seen.lock().expect("nobody panics holding it");
                shown.parser.process(&chunk[..len]);
                shown.all.extend_from_slice(&chunk[..len]);
            }
        });
        Terminal {
            child,
            master: pair.master,
            keyboard,
            shown,
            reader: Some(reader),
            home: self.home,
        }
    }
}

impl Terminal {
    /// Its home directory, which is also its working directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The text on the screen, without blanks at the ends of lines.
    #[must_use]
    pub fn screen(&self) -> String {
        let shown = self.shown.lock().expect("nobody panics holding it");
        let text = shown.parser.screen().contents();
        text.lines()
            .map(|line| line.trim_end().to_owned() + "\n")
            .collect::<String>()
            .trim_end()
            .to_owned()
    }

    /// The screen with its colors.
    ///
    /// # Panics
    /// If the thread that reads the screen has panicked.
    #[must_use]
    pub fn snapshot(&self) -> vt100::Screen {
        self.shown.lock().expect("nobody panics holding it").parser.screen().clone()
    }

    /// Everything that the program printed, including escape sequences.
    #[must_use]
    pub fn transcript(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("nobody panics holding it").all)
            .into_owned()
    }

    /// True if the cursor is visible.
    #[must_use]
    pub fn has_cursor(&self) -> bool {
        !self.shown.lock().expect("nobody panics holding it").parser.screen().hide_cursor()
    }

    /// Waits until `text` is on the screen.
    ///
    /// # Panics
    /// If it does not appear in time.
    pub fn wait_for(&self, text: &str) {
        self.wait_until(text, |screen| screen.contains(text));
    }

    /// Waits until the program has printed `text`, even if it has scrolled off the screen.
    ///
    /// # Panics
    /// If it was not printed in time.
    pub fn wait_for_ever_shown(&self, text: &str) {
        self.wait_until(text, |_| self.transcript().contains(text));
    }

    fn wait_until(&self, what: &str, is_there: impl Fn(&str) -> bool) {
        eventually(LIMIT, &format!("the terminal shows {what:?}"), || {
            is_there(&self.screen()).then_some(())
        });
    }

    /// Types `keys`.
    ///
    /// # Panics
    /// If the program has exited.
    pub fn send(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .and_then(|()| self.keyboard.flush())
            .expect("somebody listens");
    }

    /// Waits until the last line on the screen is `prompt`, with nothing typed yet.
    ///
    /// # Panics
    /// If it does not appear in time.
    pub fn wait_for_prompt(&self, prompt: &str) {
        self.wait_until(prompt, |screen| {
            screen.lines().next_back().is_some_and(|line| line.trim_end() == prompt)
        });
    }

    /// Waits for `prompt`, then types a line.
    pub fn answer(&mut self, prompt: &str, line: &str) {
        self.wait_for_prompt(prompt);
        self.send(&format!("{line}\r"));
    }

    /// Sends a signal, like `kill -TERM`.
    pub fn kill(&self, signal: &str) {
        let id = self.child.process_id().expect("it runs").to_string();
        let _ = crate::command::tool(&["kill", &format!("-{signal}"), &id]);
    }

    /// True if the terminal is in its normal mode: line editing, echo, and signals.
    ///
    /// # Panics
    /// If the mode of the terminal cannot be read.
    #[must_use]
    pub fn is_restored(&self) -> bool {
        let modes = self.master.get_termios().expect("it is a terminal");
        let wanted = libc::ICANON | libc::ECHO | libc::ISIG;
        modes.local_flags.bits() & wanted == wanted
            && modes.input_flags.bits() & libc::ICRNL != 0
            && modes.output_flags.bits() & libc::OPOST != 0
            && self.has_cursor()
    }

    /// Waits for the program to exit, and returns its exit code.
    ///
    /// # Panics
    /// If it does not exit in time.
    pub fn wait_exit(&mut self) -> u32 {
        let status = eventually(LIMIT, "the program ends", || {
            self.child.try_wait().expect("it was started")
        });
        // the end of its output may not have been read yet
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        status.exit_code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the terminal shows:\n{}", self.screen());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
