//! Writes results to stdout and remembers whether that failed.
//!
//! A reader that closes the pipe is not a failure. Other errors, such as a full disk, are recorded,
//! so that a program can exit with an error instead of silently losing its results.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::termios::tcgetwinsize;

/// The first write error.
static FAILURE: Mutex<Option<String>> = Mutex::new(None);
static IS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Writes a line to stdout. It is not escaped: escape untrusted text first. Failures are recorded.
pub fn write_line(line: &str) {
    let mut stdout = io::stdout().lock();
    record(writeln!(stdout, "{line}").and_then(|()| stdout.flush()));
}

/// Records the result of a write to stdout that did not use [`write_line`].
pub fn record(written: io::Result<()>) {
    let Err(error) = written else { return };
    if error.kind() == io::ErrorKind::BrokenPipe {
        IS_CLOSED.store(true, Ordering::Relaxed);
    } else {
        FAILURE
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(|| error.to_string());
    }
}

/// True if a reader has closed the pipe: nobody sees what is written from now on.
#[must_use]
pub fn is_closed() -> bool {
    IS_CLOSED.load(Ordering::Relaxed)
}

/// Width in characters of the terminal that stdout is; `None` if it is none, or reports no width.
#[must_use]
pub fn columns() -> Option<usize> {
    let stdout = io::stdout();
    let size = stdout.is_terminal().then(|| tcgetwinsize(&stdout).ok()).flatten();
    size.map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

/// The first recorded error, if any.
#[must_use]
pub fn failure() -> Option<String> {
    FAILURE.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
