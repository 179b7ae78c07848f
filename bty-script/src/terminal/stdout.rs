//! Results on stdout, and whether they got there.
//!
//! A reader that went away is no failure: what was done is done, and nobody is there to be told.
//! Anything else, a full disk above all, is kept, so that a program can end with an error in place
//! of losing its results silently.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// Why a line could not be written first.
static FAILURE: Mutex<Option<String>> = Mutex::new(None);

/// Writes a line as it is; escape what comes from elsewhere first.
pub fn write_line(line: &str) {
    let mut stdout = io::stdout().lock();
    note(writeln!(stdout, "{line}").and_then(|()| stdout.flush()));
}

/// Takes note of how an attempt to write to stdout ended.
pub fn note(written: io::Result<()>) {
    let Err(error) = written else { return };
    if error.kind() != io::ErrorKind::BrokenPipe {
        FAILURE
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(|| error.to_string());
    }
}

/// Why results have not been written, if there is a reason.
#[must_use]
pub fn failure() -> Option<String> {
    FAILURE.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
