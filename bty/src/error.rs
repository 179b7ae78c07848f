//! The error type of the library.
//!
//! [`Error`] has a [`kind`](Error::kind) to match on, and displays as one sentence that says what
//! was attempted, on what, and why it failed, outermost context first:
//!
//! ```text
//! flashing debian-13 to /dev/sdb: writing at offset 4194304: no space left on device (os error 28)
//! ```
//!
//! The next step is not part of this sentence: [`next_step`](Error::next_step) returns it, so that
//! a program can show it on a line of its own.

use std::borrow::Cow;
use std::fmt;
use std::io;

use crate::redact;

/// A [`Result`](std::result::Result) whose error is an [`Error`] by default.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The category of an [`Error`], for callers that react to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument is malformed or ambiguous: a reference, a selector, a digest, a size.
    Usage,
    /// The flash plan breaks a safety rule. Nothing was written.
    Refused,
    /// The source is unreachable, truncated, longer than announced, or changed while it was read.
    Source,
    /// The image has a format that cannot be written to a disk, or it is damaged or hostile.
    Format,
    /// A catalog cannot be read, or violates its schema.
    Catalog,
    /// A digest differs, or the target reads back different data than was written.
    Integrity,
    /// The target failed: an I/O error, a device that disappeared, or no progress.
    Target,
    /// The [`CancelToken`](crate::CancelToken) was cancelled.
    Cancelled,
    /// This machine failed in another way: no memory, no `/sys`, a file that cannot be created.
    Host,
}

impl ErrorKind {
    /// The kind as one lower-case word, as in JSON and in scripts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Refused => "refused",
            Self::Source => "source",
            Self::Format => "format",
            Self::Catalog => "catalog",
            Self::Integrity => "integrity",
            Self::Target => "target",
            Self::Cancelled => "cancelled",
            Self::Host => "host",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error type of this library. The [module](self) shows how it displays.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    /// Innermost first; shown in reverse.
    context: Vec<String>,
    message: String,
    path: Option<String>,
    offset: Option<u64>,
    hint: Option<String>,
    has_written: bool,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Creates an error of `kind`. `message` is lower case, without a full stop at its end.
    ///
    /// Removes passwords from addresses in the message, and in paths and contexts that are added
    /// later. Causes and hints are not changed.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            context: Vec::new(),
            message: without_passwords(message.into()),
            path: None,
            offset: None,
            hint: None,
            has_written: false,
            source: None,
        }))
    }

    /// The error of a cancelled operation.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    /// Wraps an I/O error as `kind`. `doing` says what was attempted: `"opening /dev/sdb"`.
    ///
    /// If the [`io::Error`] carries an [`Error`], for example through a decoder, returns that one
    /// with `doing` as context, so that its kind is kept.
    pub fn from_io(kind: ErrorKind, doing: impl Into<String>, error: io::Error) -> Self {
        match Self::unwrap_io(error) {
            Ok(inner) => inner.context(doing),
            Err(error) => Self::new(kind, doing).because(error),
        }
    }

    /// Returns the [`Error`] that an [`io::Error`] carries.
    ///
    /// # Errors
    /// `error` unchanged, when it carries none.
    pub fn unwrap_io(error: io::Error) -> Result<Self, io::Error> {
        error.downcast::<Self>()
    }

    /// Adds what was attempted, as a gerund: `"flashing debian-13 to /dev/sdb"`.
    #[must_use]
    pub fn context(mut self, doing: impl Into<String>) -> Self {
        self.0.context.push(without_passwords(doing.into()));
        self
    }

    /// Sets the cause, which is shown after the message.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Sets what to do next, as an imperative: `"unmount it first"`. Replaces an earlier hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Sets the file, device or address that the error is about, unless it is set already.
    #[must_use]
    pub fn with_path(mut self, path: impl fmt::Display) -> Self {
        self.0.path.get_or_insert_with(|| redact::address(&path.to_string()).into_owned());
        self
    }

    /// Sets the offset in bytes from the start of [`path`](Self::path), unless it is set already.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Marks the error as one that happened after writing had started.
    #[must_use]
    pub(crate) fn after_writing(mut self) -> Self {
        self.0.has_written = true;
        self
    }

    /// True if writing to the targets had started: they may hold part of the image, and do not
    /// boot. False if nothing was written.
    #[must_use]
    pub fn has_written(&self) -> bool {
        self.0.has_written
    }

    /// The category of the error, to match on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file, device or address that the error is about.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.0.path.as_deref()
    }

    /// The offset in [`path`](Self::path) that the error is about, in bytes.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The suggested next step: the [`hint`](Self::hint).
    #[must_use]
    pub fn next_step(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The kind of the I/O error that caused this one, if any. It distinguishes a missing file from
    /// an unreadable one.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        let cause = self.0.source.as_deref()?;
        match cause.downcast_ref::<Self>() {
            Some(inner) => inner.io_kind(),
            None => cause.downcast_ref::<io::Error>().map(io::Error::kind),
        }
    }

    /// True for [`ErrorKind::Cancelled`].
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.kind == ErrorKind::Cancelled
    }
}

fn without_passwords(text: String) -> String {
    match redact::text(&text) {
        Cow::Owned(text) => text,
        Cow::Borrowed(_) => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for doing in self.0.context.iter().rev() {
            write!(f, "{doing}: ")?;
        }
        f.write_str(&self.0.message)?;
        let mut cause = self.0.source.as_deref().map(|e| e as &dyn std::error::Error);
        let mut previous = self.0.message.clone();
        while let Some(error) = cause {
            let text = error.to_string();
            // libraries often repeat their cause in their own message
            if !previous.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            previous = text;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {self}", self.0.kind)?;
        if let Some(hint) = &self.0.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

// `source()` is not implemented: `Display` already shows the causes.
impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}

/// Adds context to a failing result.
pub trait Context<T> {
    /// Adds what was attempted, as a gerund. `doing` is called only on failure.
    ///
    /// # Errors
    /// The error of `self`, with the context added.
    fn context(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.context(doing()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_as_one_sentence_outermost_context_first() {
        let error = Error::new(ErrorKind::Target, "writing at offset 4194304")
            .because(io::Error::from_raw_os_error(28))
            .context("flashing debian-13 to /dev/sdb");
        assert_eq!(
            error.to_string(),
            "flashing debian-13 to /dev/sdb: writing at offset 4194304: No space left on device (os error 28)"
        );
    }

    #[test]
    fn io_kind_looks_through_nested_errors() {
        let missing =
            Error::from_io(ErrorKind::Source, "opening a", io::ErrorKind::NotFound.into());
        assert_eq!(missing.io_kind(), Some(io::ErrorKind::NotFound));
        let outer = Error::new(ErrorKind::Catalog, "reading the catalog").because(missing);
        assert_eq!(outer.io_kind(), Some(io::ErrorKind::NotFound));
        assert_eq!(Error::cancelled().io_kind(), None);
    }

    #[test]
    fn survives_a_trip_through_an_io_error() {
        let inner =
            Error::new(ErrorKind::Source, "body ended early").at_offset(7).hint("try again");
        let back = Error::from_io(ErrorKind::Format, "decoding", inner.into());
        assert_eq!(back.kind(), ErrorKind::Source);
        assert_eq!(back.offset(), Some(7));
        assert_eq!(back.next_step(), Some("try again"));
        assert_eq!(back.to_string(), "decoding: body ended early");
    }
}
