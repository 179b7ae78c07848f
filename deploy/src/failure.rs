//! The error type of the command: what failed, and what to do next.

use std::fmt;
use std::path::Path;

#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Adds what the user can do next, preferably a command.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Converts an I/O error at `path`, for `map_err`.
    pub(crate) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |error| {
            let failure = Self::new(format!("{}: {error}", path.display()));
            match error.kind() {
                std::io::ErrorKind::PermissionDenied => failure.hint(format!(
                    "choose a directory that you own, or run \
                     sudo mkdir -p {0} && sudo chown $USER {0}",
                    path.parent().unwrap_or(path).display()
                )),
                std::io::ErrorKind::StorageFull => {
                    failure.hint("free space there, or choose another directory")
                }
                _ => failure,
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, "\n  next: {hint}"))
    }
}
