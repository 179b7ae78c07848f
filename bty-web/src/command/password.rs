//! Passwords that somebody types, or that a program writes to stdin. Never arguments: other users of
//! the host can read those.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::domain::error::{Error, Result};
use crate::services::auth;

use super::print::out;

/// Maximum length of a password in bytes.
const BYTES_MAX: u64 = 4096;

/// Prints the hash of a password for the configuration.
pub(crate) fn hash() -> Result<ExitCode> {
    out!("{}", auth::hash_password(&read()?)?);
    Ok(ExitCode::SUCCESS)
}

/// Reads a password: twice and without showing it on a terminal, else everything from stdin.
///
/// # Errors
/// `ErrorKind::Invalid` when it is empty, or the repetition differs.
pub(super) fn read() -> Result<String> {
    let password = if std::io::stdin().is_terminal() {
        let password = ask("password: ")?;
        if ask("again: ")? != password {
            return Err(Error::invalid("the passwords do not match; run the command again"));
        }
        password
    } else {
        let mut text = String::new();
        std::io::stdin().lock().take(BYTES_MAX).read_to_string(&mut text)?;
        text.trim_end_matches(['\n', '\r']).to_owned()
    };
    if password.is_empty() {
        return Err(Error::invalid("the password on stdin is empty"));
    }
    Ok(password)
}

fn ask(prompt: &str) -> Result<String> {
    let mut stderr = std::io::stderr();
    write!(stderr, "{prompt}")?;
    stderr.flush()?;
    let hidden = HiddenInput::start();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    drop(hidden);
    writeln!(stderr)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// A terminal that does not show what is typed, until this is dropped.
struct HiddenInput(Option<Termios>);

impl HiddenInput {
    fn start() -> Self {
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(mut modes) = before.clone() {
            modes.local_modes &= !LocalModes::ECHO;
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &modes);
        }
        Self(before)
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}
