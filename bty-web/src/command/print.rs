//! Prints results to stdout. Write errors are reported at the end of the command; see
//! [`stdout`](bty_script::terminal::stdout).

use std::io::Write as _;

use bty_script::terminal::stdout;

/// Prints a line of text like `println!`, with control characters escaped.
macro_rules! out {
    ($($argument:tt)*) => { bty_script::terminal::stdout::write_line(&bty::text::escape_lines(&format!($($argument)*))) };
}

/// Prints a JSON document.
macro_rules! out_json {
    ($($argument:tt)*) => { bty_script::terminal::stdout::write_line(&bty::text::escape_json(&format!($($argument)*))) };
}

pub(crate) use {out, out_json};

/// Prints text with several lines. On a terminal, control characters are escaped; elsewhere the
/// text is unchanged.
pub(crate) fn text(text: &str) {
    let mut screen = std::io::stdout().lock();
    let is_shown = std::io::IsTerminal::is_terminal(&screen);
    let shown = if is_shown { bty::text::escape_lines(text) } else { text.into() };
    stdout::record(screen.write_all(shown.as_bytes()).and_then(|()| screen.flush()));
}
