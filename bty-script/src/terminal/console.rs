//! The terminal that this process was started on.
//!
//! The kernel's line discipline edits lines (canonical mode), so that serial lines and consoles
//! without escape sequences work too. Only lists read key by key, and only on a terminal that
//! reports its size.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use bty::{CancelToken, Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr,
    tcgetwinsize, tcsetattr,
};

use super::choices::{numbered, picker::Picker};
use super::keys::{Key, KeyDecoder};
use super::table::wrap;
use super::{Choice, ChoiceList, Style, Terminal, TerminalSize, escape_for_terminal, stdout};

const CANCEL_POLL: Duration = Duration::from_millis(50);
const SHOW_CURSOR: &str = "\x1b[?25h";
/// Erases from the cursor to the end of the screen.
const ERASE_BELOW: &str = "\x1b[J";
/// A smaller terminal gets lists by numbers.
const SIZE_MIN: TerminalSize = TerminalSize { columns: 40, rows: 12 };

/// The terminal of this process. Restores its modes when dropped.
pub struct Console {
    has_color: bool,
    can_ask: bool,
    has_cursor_keys: bool,
    before: Option<Termios>,
}

impl Console {
    /// Uses styles if `has_color`.
    #[must_use]
    pub fn new(has_color: bool) -> Self {
        let stdin = std::io::stdin();
        Self {
            has_color,
            can_ask: stdin.is_terminal(),
            has_cursor_keys: false,
            before: tcgetattr(&stdin).ok(),
        }
    }

    /// Sets whether the terminal understands the escape sequences that move the cursor, so that
    /// rows of lists can be picked with arrow keys. By default it does not.
    #[must_use]
    pub fn with_cursor_keys(mut self, has_cursor_keys: bool) -> Self {
        self.has_cursor_keys = has_cursor_keys;
        self
    }

    /// The size that the terminal reports; `None` on serial lines, which report 0.
    fn reported_size() -> Option<TerminalSize> {
        let reported = [tcgetwinsize(std::io::stderr()), tcgetwinsize(std::io::stdout())];
        let size = reported.into_iter().flatten().next()?;
        (size.ws_col > 0 && size.ws_row > 0)
            .then(|| TerminalSize { columns: size.ws_col.into(), rows: size.ws_row.into() })
    }

    /// True if a list can be redrawn in place.
    fn can_redraw(&self) -> bool {
        self.has_cursor_keys
            && self.can_ask
            && std::io::stderr().is_terminal()
            && Self::reported_size()
                .is_some_and(|size| size.columns >= SIZE_MIN.columns && size.rows >= SIZE_MIN.rows)
    }

    /// Shows the list on the last lines of the screen until a key chooses.
    fn pick(&self, list: &ChoiceList, cancel: &CancelToken) -> Result<Option<Choice>> {
        self.make_usable();
        let _keys = KeyMode::enter();
        let mut picker = Picker::new(list, self.size());
        let mut decoder = KeyDecoder::default();
        let mut drawn = 0;
        let choice = loop {
            picker.resize(self.size());
            drawn = self.draw(&picker.lines(&|style, text| self.paint(style, text)), drawn);
            let Some(key) = next_key(&mut decoder, cancel)? else { break None };
            if let ControlFlow::Break(choice) = picker.press(key) {
                break choice;
            }
        };
        self.draw(&[picker.closing_line(choice.as_ref())], drawn);
        self.say("");
        Ok(choice)
    }

    /// Replaces the last `drawn` lines of the screen by `lines`, and returns their number.
    fn draw(&self, lines: &[String], drawn: usize) -> usize {
        let up = match drawn {
            0 | 1 => String::new(),
            drawn => format!("\x1b[{}A", drawn - 1),
        };
        let text: Vec<String> =
            lines.iter().map(|line| escape_for_terminal(line, self.has_color)).collect();
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "\r{up}{ERASE_BELOW}{}", text.join("\r\n"));
        let _ = stderr.flush();
        lines.len()
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

/// Reads key by key without echo. Ctrl-C still is a signal. Restores the modes when dropped.
struct KeyMode(Option<Termios>);

impl KeyMode {
    fn enter() -> Self {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).ok();
        if let Some(mut modes) = before.clone() {
            modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            modes.special_codes[SpecialCodeIndex::VMIN] = 1;
            modes.special_codes[SpecialCodeIndex::VTIME] = 0;
            // a stopped program would leave the terminal without line editing
            modes.special_codes[SpecialCodeIndex::VSUSP] = 0;
            let _ = tcsetattr(&stdin, OptionalActions::Now, &modes);
        }
        Self(before)
    }
}

impl Drop for KeyMode {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Waits for a key; `None` if cancelled, and at the end of the input.
fn next_key(decoder: &mut KeyDecoder, cancel: &CancelToken) -> Result<Option<Key>> {
    let stdin = std::io::stdin();
    let pause = Timespec { tv_sec: 0, tv_nsec: i64::from(CANCEL_POLL.subsec_nanos()) };
    while !cancel.is_cancelled() {
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        let key = match poll(&mut fds, Some(&pause)) {
            Ok(0) => decoder.pause(),
            Err(rustix::io::Errno::INTR) => None,
            _ => {
                // one byte at a time, so that what follows the choice stays for the next reader
                let mut byte = [0];
                match rustix::io::read(&stdin, &mut byte) {
                    Ok(0) => return Ok(None),
                    Ok(_) => decoder.feed(byte[0]),
                    Err(rustix::io::Errno::INTR) => None,
                    Err(e) => {
                        let error = Error::new(ErrorKind::Host, "reading a key");
                        return Err(error.because(std::io::Error::from(e)));
                    }
                }
            }
        };
        if key.is_some() {
            return Ok(key);
        }
    }
    Ok(None)
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

impl TerminalSize {
    /// The size of the terminal of stderr or stdout, which may change at any time.
    #[must_use]
    pub fn of_stderr() -> Self {
        Console::reported_size().unwrap_or_default()
    }
}

impl Terminal for Console {
    fn size(&self) -> TerminalSize {
        TerminalSize::of_stderr()
    }

    fn print(&self, text: &str) {
        stdout::write_line(&escape_for_terminal(
            text,
            self.has_color && std::io::stdout().is_terminal(),
        ));
    }

    fn say(&self, text: &str) {
        let text = escape_for_terminal(text, self.has_color);
        let mut stderr = std::io::stderr().lock();
        if !stderr.is_terminal() {
            let _ = writeln!(stderr, "{text}");
            return;
        }
        let width = self.size().columns;
        for line in text.split('\n').flat_map(|line| wrap(line, width)) {
            let _ = writeln!(stderr, "{line}");
        }
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

    fn choose(&self, list: &ChoiceList, cancel: &CancelToken) -> Result<Option<Choice>> {
        if self.can_redraw() {
            self.pick(list, cancel)
        } else {
            numbered::choose(self, list, cancel)
        }
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if self.has_color && !text.is_empty() {
            format!("\x1b[{}m{text}\x1b[0m", style.sgr())
        } else {
            text.to_owned()
        }
    }
}
