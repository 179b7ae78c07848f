//! What went wrong, and what to do about it.

use std::fmt;
use std::path::Path;

/// One sentence, and the next step.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    next: Option<String>,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), next: None }
    }

    /// With what to do, as it is typed or said.
    pub(crate) fn or(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Of a file.
    pub(crate) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |error| {
            let failure = Self::new(format!("{}: {error}", path.display()));
            match error.kind() {
                std::io::ErrorKind::PermissionDenied => failure.or(format!(
                    "name a directory of yours, or: sudo mkdir -p {0} && sudo chown $USER {0}",
                    path.parent().unwrap_or(path).display()
                )),
                std::io::ErrorKind::StorageFull => {
                    failure.or("make room there, or name another directory")
                }
                _ => failure,
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        self.next.iter().try_for_each(|next| write!(f, "\n  next: {next}"))
    }
}
