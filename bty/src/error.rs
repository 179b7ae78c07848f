//! The one error type: what was being done, to what, where, why, and the next step.
//!
//! [`Error`] has a [`kind`](Error::kind) to match on, and reads as one sentence, outermost context
//! first:
//!
//! ```text
//! flashing debian-13 to /dev/sdb: writing at offset 4194304: no space left on device (os error 28)
//! ```
//!
//! The next step, where there is one, is apart in [`hint`](Error::hint), so that a command can show
//! it on a line of its own.

use std::borrow::Cow;
use std::fmt;
use std::io;

use crate::redact;

/// Shorthand for a result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller's argument cannot be understood: a reference, a selector, a digest, a size.
    Usage,
    /// The plan breaks a safety rule; nothing was written.
    Refused,
    /// The source is unreachable, truncated, longer than promised, or changed while it was read.
    Source,
    /// The bytes are in no format that can be written to a disk, or are damaged or hostile.
    Format,
    /// A catalog cannot be read or breaks its schema.
    Catalog,
    /// A digest differs, or the target reads back other than what was written.
    Integrity,
    /// The target failed: an I/O error, a vanished device, no progress.
    Target,
    /// The caller cancelled.
    Cancelled,
    /// Anything else of the host: a missing `/sys`, a file that cannot be created.
    Host,
}

impl ErrorKind {
    /// The kind as one lower-case word, as used in JSON and in scripts.
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

/// An error of this library. See the [module](self) for how it reads.
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
    /// A new error of `kind`. `message` is lower-case and has no full stop. Passwords in addresses
    /// are taken out of it, and out of what is added later, the next step excepted.
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

    /// The caller cancelled.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    /// Wraps an I/O error as `kind`; `doing` says what failed (`"opening /dev/sdb"`).
    ///
    /// An [`Error`] that travelled inside an [`io::Error`] (through a decoder, say) comes out as
    /// it was, with `doing` added as context, so that its kind is not lost.
    pub fn from_io(kind: ErrorKind, doing: impl Into<String>, error: io::Error) -> Self {
        match Self::unwrap_io(error) {
            Ok(inner) => inner.context(doing),
            Err(error) => Self::new(kind, doing).because(error),
        }
    }

    /// Takes an [`Error`] back out of the [`io::Error`] that [`From`] put it in.
    ///
    /// # Errors
    /// The unchanged `error` when it carries none.
    pub fn unwrap_io(error: io::Error) -> Result<Self, io::Error> {
        error.downcast::<Self>()
    }

    /// Adds what was being done, in gerund: `"flashing debian-13 to /dev/sdb"`.
    #[must_use]
    pub fn context(mut self, doing: impl Into<String>) -> Self {
        self.0.context.push(without_passwords(doing.into()));
        self
    }

    /// Adds the cause, which is shown after the message.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds the next step, as an order to the reader: `"unmount it first"`.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Names the file, device or address that the error is about.
    #[must_use]
    pub fn with_path(mut self, path: impl fmt::Display) -> Self {
        self.0.path.get_or_insert_with(|| redact::address(&path.to_string()).into_owned());
        self
    }

    /// Names the offset in bytes from the start of [`path`](Self::path).
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Says that it came when targets were being written.
    #[must_use]
    pub(crate) fn after_writing(mut self) -> Self {
        self.0.has_written = true;
        self
    }

    /// True when writing to the targets had begun before it: they may hold a part of the image, and
    /// do not boot. Otherwise nothing was written.
    #[must_use]
    pub fn has_written(&self) -> bool {
        self.0.has_written
    }

    /// What to match on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file, device or address concerned.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.0.path.as_deref()
    }

    /// The offset concerned, in bytes.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The next step, if there is one.
    #[must_use]
    pub fn next_step(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The kind of the I/O error that is the cause, when one is: tells a missing file from one that
    /// may not be read.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        let cause = self.0.source.as_deref()?;
        match cause.downcast_ref::<Self>() {
            Some(inner) => inner.io_kind(),
            None => cause.downcast_ref::<io::Error>().map(io::Error::kind),
        }
    }

    /// True when the caller cancelled.
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
        let mut said = self.0.message.clone();
        while let Some(error) = cause {
            let text = error.to_string();
            // libraries often repeat their cause in their own text
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
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

// `source()` stays empty: the chain is already part of the text.
impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}

/// Adds context to a failing result.
pub trait Context<T> {
    /// Adds what was being done, in gerund.
    ///
    /// # Errors
    /// The same error, with the context in front.
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
    fn reads_as_one_sentence_from_the_outside_in() {
        let error = Error::new(ErrorKind::Target, "writing at offset 4194304")
            .because(io::Error::from_raw_os_error(28))
            .context("flashing debian-13 to /dev/sdb");
        assert_eq!(
            error.to_string(),
            "flashing debian-13 to /dev/sdb: writing at offset 4194304: No space left on device (os error 28)"
        );
    }

    #[test]
    fn tells_what_the_system_said_through_its_layers() {
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
