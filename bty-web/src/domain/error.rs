//! Errors of the server.

use std::fmt;
use std::path::Path;

use bty::redact;
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::limit::Limit;

/// A result whose error is an [`Error`] of the server.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Classes of errors, by how the caller can react.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request cannot be understood: 400.
    Malformed,
    /// The client sends its request too slowly: 408.
    Slow,
    /// The server is at its capacity: 503.
    Busy,
    /// The caller is not logged in: 401.
    LoginRequired,
    /// The caller lacks permission: 403.
    Forbidden,
    /// The subject of the request does not exist: 404.
    NotFound,
    /// The request assumes another state than the current one: 409.
    Conflict,
    /// The body of the request is too large: 413.
    TooLarge,
    /// The request is well-formed, but a value in it is invalid: 422.
    Invalid,
    /// The caller has made too many attempts: 429.
    Throttled,
    /// The server's disk has no space for the change: 507.
    Full,
    /// Another server, such as a registry, has failed: 502.
    Upstream,
    /// The server has failed: 500.
    Internal,
}

/// An error of the server.
#[derive(Clone, Debug)]
pub struct Error {
    /// How the caller can react.
    pub kind: ErrorKind,
    /// Message for the caller: one sentence.
    pub detail: String,
    /// All problems of an invalid request, each with its location; empty if `detail` says
    /// everything.
    pub problems: Vec<Problem>,
    /// Seconds after which a retry may succeed.
    pub retry_after: Option<u64>,
    /// The limit that the request has reached, if any.
    pub limit: Option<Limit>,
    /// The cause, for the log; clients do not see it.
    pub cause: Option<String>,
}

/// One problem of an invalid request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// The field, line or item that is wrong.
    pub at: String,
    /// What is wrong: one sentence.
    pub message: String,
    /// How to fix it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// Creates a problem without a hint. Redacts passwords in URLs.
    pub fn new(at: impl Into<String>, message: impl Into<String>) -> Self {
        let shown = |text: String| redact::text(&text).into_owned();
        Self { at: shown(at.into()), message: shown(message.into()), hint: None }
    }
}

impl Error {
    /// Creates an error of `kind`. Redacts passwords in URLs in `detail`.
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: redact::text(&detail.into()).into_owned(),
            problems: Vec::new(),
            retry_after: None,
            limit: None,
            cause: None,
        }
    }

    /// Creates a [`NotFound`](ErrorKind::NotFound) error: `what` does not exist.
    pub fn not_found(what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotFound, format!("{what} does not exist"))
    }

    /// Creates an [`Invalid`](ErrorKind::Invalid) error.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, detail)
    }

    /// Adds the problems of an invalid request.
    #[must_use]
    pub fn with_problems(mut self, problems: Vec<Problem>) -> Self {
        self.problems = problems;
        self
    }

    /// Creates an error for a request that has reached `limit`; a retry may succeed after
    /// `seconds`.
    pub fn limited(kind: ErrorKind, limit: Limit, seconds: u64, detail: impl Into<String>) -> Self {
        Self { retry_after: Some(seconds), limit: Some(limit), ..Self::new(kind, detail) }
    }

    /// Creates a [`Full`](ErrorKind::Full) error. Only the log shows `cause`.
    pub fn full(cause: impl fmt::Display) -> Self {
        let mut error =
            Self::new(ErrorKind::Full, format!("no space left on the server's disk; {FREE_SPACE}"));
        error.cause = Some(cause.to_string());
        error
    }

    /// Creates the error of a failed write into `dir`: [`Full`](ErrorKind::Full) if its file system
    /// is full, otherwise [`Internal`](ErrorKind::Internal).
    pub fn writing(dir: &Path, error: &std::io::Error) -> Self {
        let cause = format!("writing {}: {error}", dir.display());
        if is_full(error) { Self::full(cause).in_dir(dir) } else { Self::internal(cause) }
    }

    /// Names the full directory in a [`Full`](ErrorKind::Full) error. Leaves other errors
    /// unchanged.
    #[must_use]
    pub fn in_dir(mut self, dir: &Path) -> Self {
        if self.kind == ErrorKind::Full {
            self.detail = format!("no space left in {}; {FREE_SPACE}", dir.display());
        }
        self
    }

    /// Creates an [`Internal`](ErrorKind::Internal) error. Only the log shows `cause`.
    pub fn internal(cause: impl fmt::Display) -> Self {
        let mut error =
            Self::new(ErrorKind::Internal, "internal error; see the server's log for the cause");
        error.cause = Some(cause.to_string());
        error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        for Problem { at, message, hint } in &self.problems {
            write!(f, "\n  {at}: {message}")?;
            if let Some(hint) = hint {
                write!(f, " ({hint})")?;
            }
        }
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// The hint for a full file system.
const FREE_SPACE: &str = "delete something there, such as old backups or versions of the live \
                          environment, or enlarge its file system";

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        if is_full(&error) { Self::full(error) } else { Self::internal(error) }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::internal(format!("stored JSON: {error}"))
    }
}

/// Converts an error of the `bty` library; its hint becomes part of the detail.
impl From<bty::Error> for Error {
    fn from(error: bty::Error) -> Self {
        use bty::ErrorKind as Kind;
        let kind = match error.kind() {
            Kind::Catalog | Kind::Format => ErrorKind::Invalid,
            Kind::Usage => ErrorKind::Malformed,
            Kind::Source | Kind::Integrity => ErrorKind::Upstream,
            _ => ErrorKind::Internal,
        };
        let hint = error.next_step().map(|hint| format!("; {hint}")).unwrap_or_default();
        Self::new(kind, format!("{error:#}{hint}"))
    }
}

impl Error {
    /// Returns the error as the details of an event.
    #[must_use]
    pub fn details(&self) -> Value {
        json!({ "error": self.detail, "problems": self.problems, "cause": self.cause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_full_disk_names_its_directory_and_the_next_step() {
        let dir = Path::new("/var/lib/bty/boot");
        for code in [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT] {
            let error = Error::writing(dir, &code.into());
            assert_eq!(error.kind, ErrorKind::Full);
            assert!(
                error
                    .detail
                    .starts_with("no space left in /var/lib/bty/boot; delete something there"),
                "{error}"
            );
        }
        let other = Error::writing(dir, &rustix::io::Errno::IO.into());
        assert_eq!(
            (other.kind, other.clone().in_dir(dir).detail),
            (ErrorKind::Internal, other.detail)
        );
    }
}
