//! A line on the terminal that is rewritten in place.

use std::io::{IsTerminal, Write};

use bty_script::terminal::TerminalSize;

/// A line on stderr that is rewritten in place. It has no line end, and is always shorter than the
/// terminal is wide, so that it depends neither on where a terminal wraps nor on escape sequences:
/// the live environment shows one output on consoles of several sizes.
#[derive(Debug, Default)]
pub(crate) struct StatusLine {
    /// Number of characters on the screen.
    shown: usize,
}

impl StatusLine {
    /// True if stderr is a terminal; elsewhere a line cannot be rewritten.
    pub(crate) fn is_possible() -> bool {
        std::io::stderr().is_terminal()
    }

    /// Shows `text`, which must have no control characters, instead of the text before. Cuts what
    /// does not fit.
    pub(crate) fn show(&mut self, text: &str) {
        let room = TerminalSize::of_stderr().columns.saturating_sub(1);
        let text: String = text.chars().take(room).collect();
        let chars = text.chars().count();
        let blanks = " ".repeat(self.shown.saturating_sub(chars));
        let mut stderr = std::io::stderr().lock();
        let _ = stderr.write_all(format!("\r{text}{blanks}").as_bytes());
        let _ = stderr.flush();
        self.shown = chars;
    }

    /// Removes the line. What is printed next begins where it began.
    pub(crate) fn clear(&mut self) {
        if self.shown > 0 {
            self.show("");
            let _ = std::io::stderr().lock().write_all(b"\r");
        }
    }
}
