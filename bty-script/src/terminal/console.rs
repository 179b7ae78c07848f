//! The terminal that this process was started on.
//!
//! The kernel's line discipline edits lines (canonical mode), so that serial lines and consoles
//! without escape sequences work too.

use std::io::{IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use bty::{CancelToken, Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, Termios, tcgetattr, tcgetwinsize,
    tcsetattr,
};

use super::{Style, Terminal, TerminalSize, escape_for_terminal, stdout};

const CANCEL_POLL: Duration = Duration::from_millis(50);
const SHOW_CURSOR: &str = "\x1b[?25h";

/// The terminal of this process. Restores its modes when dropped.
pub struct Console {
    has_color: bool,
    can_ask: bool,
    before: Option<Termios>,
}

impl Console {
    /// Uses styles if `has_color`.
    #[must_use]
    pub fn new(has_color: bool) -> Self {
        let stdin = std::io::stdin();
        Self { has_color, can_ask: stdin.is_terminal(), before: tcgetattr(&stdin).ok() }
    }

    /// Restores modes and cursor. Dropping does it too; a forced exit has to call it.
    pub fn restore(&self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
            show_cursor();
        }
    }

    /// Turns on line mode, echo, signals and the cursor, which an earlier program may have turned
    /// off.
    fn make_usable(&self) {
        let stdin = std::io::stdin();
        let Ok(mut modes) = tcgetattr(&stdin) else { return };
        modes.local_modes |=
            LocalModes::ICANON | LocalModes::ECHO | LocalModes::ECHOE | LocalModes::ISIG;
        modes.input_modes |= InputModes::ICRNL;
        modes.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
        let _ = tcsetattr(&stdin, OptionalActions::Now, &modes);
        show_cursor();
    }

    /// Waits at most `time`; true if somebody pressed Enter. Always false without a terminal.
    pub fn wait_for_enter(&self, time: Duration, cancel: &CancelToken) -> bool {
        let end = Instant::now() + time;
        if !self.can_ask {
            while Instant::now() < end && !cancel.is_cancelled() {
                thread::sleep(CANCEL_POLL.min(end.saturating_duration_since(Instant::now())));
            }
            return false;
        }
        self.wait_for_line(cancel, Some(end)) && read_line().is_ok_and(|line| line.is_some())
    }

    /// Waits for a whole line; false if cancelled, or at `end`.
    fn wait_for_line(&self, cancel: &CancelToken, end: Option<Instant>) -> bool {
        let stdin = std::io::stdin();
        let pause = Timespec { tv_sec: 0, tv_nsec: i64::from(CANCEL_POLL.subsec_nanos()) };
        while !cancel.is_cancelled() && end.is_none_or(|end| Instant::now() < end) {
            let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
            match poll(&mut fds, Some(&pause)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                _ => return true,
            }
        }
        false
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.restore();
    }
}

fn show_cursor() {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _ = stderr.write_all(SHOW_CURSOR.as_bytes());
        let _ = stderr.flush();
    }
}

/// Reads one line byte by byte, so that the rest of the input stays for the next reader.
fn read_line() -> std::io::Result<Option<String>> {
    let stdin = std::io::stdin();
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        match rustix::io::read(&stdin, &mut byte) {
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) => line.push(byte[0]),
            // Ctrl-C arrives as a signal; the caller checks whether it cancels
            Err(rustix::io::Errno::INTR) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()))
}

impl Terminal for Console {
    fn size(&self) -> TerminalSize {
        let reported = [tcgetwinsize(std::io::stderr()), tcgetwinsize(std::io::stdout())]
            .into_iter()
            .flatten()
            .next();
        match reported {
            // serial lines report 0
            Some(size) if size.ws_col > 0 && size.ws_row > 0 => {
                TerminalSize { columns: size.ws_col.into(), rows: size.ws_row.into() }
            }
            _ => TerminalSize::default(),
        }
    }

    fn print(&self, text: &str) {
        stdout::write_line(&escape_for_terminal(
            text,
            self.has_color && std::io::stdout().is_terminal(),
        ));
    }

    fn say(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{}", escape_for_terminal(text, self.has_color));
    }

    fn read_line(&self, prompt: &str, cancel: &CancelToken) -> Result<Option<String>> {
        if !self.can_ask {
            return Err(Error::new(ErrorKind::Usage, "cannot ask: stdin is not a terminal")
                .hint("run it on a terminal, or pass the answers as arguments"));
        }
        self.make_usable();
        {
            let mut stderr = std::io::stderr().lock();
            let _ = write!(stderr, "{}", escape_for_terminal(prompt, self.has_color));
            let _ = stderr.flush();
        }
        if !self.wait_for_line(cancel, None) {
            self.say("");
            return Ok(None);
        }
        let line = read_line()
            .map_err(|e| Error::new(ErrorKind::Host, "reading the answer").because(e))?;
        if line.is_none() {
            self.say("");
        }
        Ok(line)
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if self.has_color && !text.is_empty() {
            format!("\x1b[{}m{text}\x1b[0m", style.sgr())
        } else {
            text.to_owned()
        }
    }
}
