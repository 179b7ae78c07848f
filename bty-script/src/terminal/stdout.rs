//! Writes results to stdout and remembers whether that failed.
//!
//! A reader that closes the pipe is not a failure. Other errors, such as a full disk, are recorded,
//! so that a program can exit with an error instead of silently losing its results.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// The first write error.
static FAILURE: Mutex<Option<String>> = Mutex::new(None);

/// Writes a line to stdout. It is not escaped: escape untrusted text first. Failures are recorded.
pub fn write_line(line: &str) {
    let mut stdout = io::stdout().lock();
    record(writeln!(stdout, "{line}").and_then(|()| stdout.flush()));
}

/// Records the result of a write to stdout that did not use [`write_line`].
pub fn record(written: io::Result<()>) {
    let Err(error) = written else { return };
    if error.kind() != io::ErrorKind::BrokenPipe {
        FAILURE
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(|| error.to_string());
    }
}

/// The first recorded error, if any.
#[must_use]
pub fn failure() -> Option<String> {
    FAILURE.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
