//! What the command prints: results on stdout; progress, warnings and errors on stderr.
//!
//! A reader that has closed its end, such as `head`, is not an error.

use std::fmt::Display;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::failure::{Failure, Result};

/// Prints a part of the result as it is.
pub(crate) fn print(text: impl Display) {
    let mut stdout = std::io::stdout().lock();
    let _ = write!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// Prints a line of the result.
pub(crate) fn line(text: impl Display) {
    print(format_args!("{text}\n"));
}

/// Prints a line of the result: a label, and what it names.
pub(crate) fn labeled(label: &str, text: impl Display) {
    line(format_args!("{label:<9} {text}"));
}

pub(crate) fn warn(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "warning: {text}");
}

pub(crate) fn error(failure: &Failure) {
    let _ = writeln!(std::io::stderr(), "bty-lab: {failure}");
}

/// Progress of a command with several steps: `[2/6] images: loaded`.
pub(crate) struct Steps {
    done: usize,
    total: usize,
}

impl Steps {
    pub(crate) fn new(total: usize) -> Self {
        Self { done: 0, total }
    }

    /// Prints the result of a completed step.
    pub(crate) fn report(&mut self, label: &str, detail: impl Display) {
        self.done += 1;
        let _ = writeln!(std::io::stderr(), "[{}/{}] {label}: {detail}", self.done, self.total);
    }
}

/// Asks for confirmation on the terminal; anything but yes means no.
pub(crate) fn confirm() -> Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::new("cannot ask for confirmation: stdin is not a terminal")
            .hint("--yes continues without confirmation"));
    }
    print("Proceed? [y/N] ");
    let mut line = String::new();
    stdin
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::new(format!("cannot read the confirmation: {error}")))?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}
