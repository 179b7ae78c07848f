//! The error type of the library.
//!
//! [`Error`] has a [`kind`](Error::kind) to match on. `{error}` says what was attempted and on
//! what, outermost context first. `{error:#}` adds the causes, and is what a program shows to a
//! person:
//!
//! ```text
//! {error}    flashing debian-13 to /dev/sdb: writing at offset 4194304
//! {error:#}  flashing debian-13 to /dev/sdb: writing at offset 4194304: No space left on device
//! ```
//!
//! The causes are [`source`](std::error::Error::source) and its sources, so programs that print a
//! chain of errors themselves print each part once.
//!
//! The next step is not part of the sentence: [`next_step`](Error::next_step) returns it, so that
//! a program can show it on a line of its own. [`remedy`](Error::remedy) is the same as a value,
//! for programs that add how their interface calls it.
//!
//! ```
//! use std::error::Error as _;
//! use bty::{Client, CancelToken, ErrorKind};
//!
//! let error = Client::default().open("/no/such.img", &CancelToken::new()).err().unwrap();
//! assert_eq!(error.kind(), ErrorKind::Source);
//! let cause = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>()).unwrap();
//! assert_eq!(cause.kind(), std::io::ErrorKind::NotFound);
//! ```

use std::borrow::Cow;
use std::fmt;
use std::io;

use crate::redact;
use crate::string_enum::string_enum;

/// A [`Result`](std::result::Result) whose error is an [`Error`] by default.
pub type Result<T, E = Error> = std::result::Result<T, E>;

string_enum! {
    /// The category of an [`Error`], for callers that react to it. Reports and events have the same
    /// kinds.
    pub enum ErrorKind: "kind of error" {
        /// An argument is malformed or ambiguous: a reference, a selector, a digest, a size.
        Usage = "usage",
        /// The flash plan breaks a safety rule. Nothing was written.
        Refused = "refused",
        /// The source is unreachable, truncated, longer than announced, or changed while it was
        /// read.
        Source = "source",
        /// The image has a format that cannot be written to a disk, or it is damaged or hostile.
        Format = "format",
        /// A catalog cannot be read, or violates its schema.
        Catalog = "catalog",
        /// A digest differs, or the target reads back different data than was written.
        Integrity = "integrity",
        /// The target failed: an I/O error, a device that disappeared, or no progress.
        Target = "target",
        /// The [`CancelToken`](crate::CancelToken) was cancelled.
        Cancelled = "cancelled",
        /// This machine failed in another way: no memory, no `/sys`, a file that cannot be created.
        Host = "host",
    }
}

string_enum! {
    /// Something that a program can offer to a person to get past an [`Error`] or a
    /// [`Refusal`](crate::flash::Refusal).
    ///
    /// The library's hints say it in words. A program adds how its own interface calls it, such as
    /// a command-line option.
    pub enum Remedy: "remedy" {
        /// Give the digest of the file: [`OpenOptions::sha256`](crate::image::OpenOptions).
        Sha256 = "sha256",
        /// Give the digest of the decoded image:
        /// [`OpenOptions::image_sha256`](crate::image::OpenOptions).
        ImageSha256 = "image_sha256",
        /// Ignore bytes after compressed data:
        /// [`OpenOptions::ignore_trailing`](crate::image::OpenOptions).
        IgnoreTrailing = "ignore_trailing",
        /// Give a user and a password:
        /// [`ClientOptions::credentials`](crate::ClientOptions).
        Credentials = "credentials",
        /// Trust a certificate: [`ClientOptions::ca_files`](crate::ClientOptions).
        CaFiles = "ca_files",
        /// Move the backup GPT to the end of the disk:
        /// [`FlashOptions::fix_gpt`](crate::flash::FlashOptions).
        FixGpt = "fix_gpt",
        /// Leave the backup GPT where it is: no
        /// [`FlashOptions::fix_gpt`](crate::flash::FlashOptions).
        NoFixGpt = "no_fix_gpt",
        /// Leave out what follows the last partition:
        /// [`FlashOptions::fit`](crate::flash::FlashOptions).
        Fit = "fit",
        /// Write an image that was not recognized:
        /// [`FlashOptions::raw`](crate::flash::FlashOptions).
        Raw = "raw",
        /// Overwrite a file that holds an image:
        /// [`FlashOptions::overwrite`](crate::flash::FlashOptions).
        Overwrite = "overwrite",
        /// Write to a partition: [`FlashOptions::allow_partition`](crate::flash::FlashOptions).
        AllowPartition = "allow_partition",
        /// Keep the image as large as the disk: no
        /// [`CreateOptions::shrink`](crate::create::CreateOptions).
        NoShrink = "no_shrink",
        /// Create a file as a target: [`DiskHost::create`](crate::DiskHost::create).
        CreateFile = "create_file",
        /// Write to a file that exists, instead of creating it.
        NoCreateFile = "no_create_file",
        /// Show the disks: [`DiskHost::list`](crate::DiskHost::list).
        ListDisks = "list_disks",
        /// Show the images in a directory: [`image::directory`](crate::image::directory).
        ListImages = "list_images",
        /// Feed the image through standard input.
        PipeImage = "pipe_image",
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
    remedy: Option<Remedy>,
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
            remedy: None,
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

    /// Sets the cause: the [`source`](std::error::Error::source) of this error.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Sets what to do next, as an imperative: `"unmount it first"`. Replaces an earlier hint and
    /// its remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self.0.remedy = None;
        self
    }

    /// Sets what the hint asks for, as a value. Set the hint first.
    #[must_use]
    pub fn with_remedy(mut self, remedy: Remedy) -> Self {
        self.0.remedy = Some(remedy);
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

    /// What [`next_step`](Self::next_step) asks for, if a program may have its own name for it.
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        self.0.remedy
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

    /// True if the [kind](Self::kind) is [`ErrorKind::Cancelled`].
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

/// `{}` shows the contexts and the message, `{:#}` also the causes.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for doing in self.0.context.iter().rev() {
            write!(f, "{doing}: ")?;
        }
        f.write_str(&self.0.message)?;
        if f.alternate() { self.write_causes(f) } else { Ok(()) }
    }
}

impl Error {
    fn write_causes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut previous = self.0.message.clone();
        let mut cause = std::error::Error::source(self);
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
        write!(f, "[{}] {self:#}", self.0.kind)?;
        if let Some(hint) = &self.0.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|cause| cause as _)
    }
}

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
        let outer = "flashing debian-13 to /dev/sdb: writing at offset 4194304";
        assert_eq!(error.to_string(), outer);
        let chain = format!("{outer}: No space left on device (os error 28)");
        assert_eq!(format!("{error:#}"), chain);
        assert_eq!(format!("{error:?}"), format!("[target] {chain}"));
    }

    #[test]
    fn the_cause_can_be_reached_and_is_shown_once_in_a_chain() {
        let missing =
            Error::from_io(ErrorKind::Source, "opening a", io::ErrorKind::NotFound.into());
        let outer = Error::new(ErrorKind::Catalog, "reading the catalog").because(missing);
        let inner = std::error::Error::source(&outer).unwrap();
        assert_eq!(inner.downcast_ref::<Error>().unwrap().kind(), ErrorKind::Source);
        assert!(inner.source().unwrap().is::<io::Error>());
        assert_eq!(format!("{outer:#}"), "reading the catalog: opening a: entity not found");
    }

    #[test]
    fn a_new_hint_drops_the_remedy_of_the_old_one() {
        let error = Error::cancelled().hint("give the digest").with_remedy(Remedy::Sha256);
        assert_eq!(error.remedy(), Some(Remedy::Sha256));
        assert_eq!(error.hint("start again").remedy(), None);
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
