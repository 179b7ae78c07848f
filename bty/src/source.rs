//! Sources of image bytes: a file, a pipe, a web server, an OCI registry, or a [`CustomSource`] of
//! the program.
//!
//! [`Client::open`](crate::Client::open) turns a reference into a [`Source`]. It verifies that the
//! source exists, and finds its length and expected digest if the server declares them. A source
//! can be read any number of times, except for a pipe: see [`Source::is_repeatable`].
//!
//! All readers keep one promise: **a clean end means that every byte was delivered.** A body that
//! is shorter or longer than announced, or an object that changed between two requests, is an error
//! of kind [`Source`](crate::ErrorKind::Source), never a clean end.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::digest::{Checksums, FileHasher};
use crate::{CancelToken, Digest, Error, ErrorKind, Result};

mod byte_source;
pub(crate) mod custom;
pub(crate) mod file;
#[cfg(feature = "http")]
pub(crate) mod http;
pub(crate) mod local;
mod location;
pub(crate) mod pipe;
pub(crate) mod read_ahead;
pub(crate) mod spool;

pub(crate) use byte_source::{ByteSource, PlainRange, RangeRead, RangeReader, VersionCheck};
pub use custom::CustomSource;
pub use location::Location;

/// Time limit of [`Source::read_small`].
pub(crate) const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(120);

/// An opened source of bytes. Cheap to clone; clones read independently.
#[derive(Clone)]
pub struct Source {
    pub(crate) location: Location,
    pub(crate) name: String,
    pub(crate) bytes: Arc<dyn ByteSource>,
    /// Digests that the bytes must have.
    pub(crate) expected: Checksums,
    /// SHA-256 that the index of the packed image must have.
    pub(crate) expected_pack_index: Option<Digest>,
}

impl Source {
    /// A source without expected digests.
    pub(crate) fn new(
        location: Location,
        name: impl Into<String>,
        bytes: Arc<dyn ByteSource>,
    ) -> Self {
        let (name, expected) = (name.into(), Checksums::default());
        Self { location, name, bytes, expected, expected_pack_index: None }
    }

    /// The location it was opened from.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// A short name for display: the file name, or the title of an OCI layer.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Length in bytes before decoding, if known.
    #[must_use]
    pub fn len_bytes(&self) -> Option<u64> {
        self.bytes.len_bytes()
    }

    /// The SHA-256 that the bytes must have, as declared by the OCI layer or a `.sha256` file, or
    /// given to [`expect`](Self::expect).
    #[must_use]
    pub fn expected_digest(&self) -> Option<Digest> {
        self.expected.sha256
    }

    /// All digests that the bytes must have.
    #[must_use]
    pub fn expected_checksums(&self) -> Checksums {
        self.expected
    }

    /// Adds a SHA-256 that the bytes must have.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] when another SHA-256 is already expected, for example that of the
    /// OCI layer.
    pub fn expect(self, digest: Digest) -> Result<Self> {
        self.expect_all(digest.into())
    }

    /// Adds digests of several kinds, as [`expect`](Self::expect) does.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] when another digest of the same kind is already expected.
    pub fn expect_all(mut self, checksums: Checksums) -> Result<Self> {
        let Some(merged) = self.expected.merged(checksums) else {
            return Err(self.contradiction(&self.expected, &checksums));
        };
        self.expected = merged;
        if !merged.is_empty() {
            self.bytes.set_version_check(VersionCheck::Off);
        }
        Ok(self)
    }

    /// Adds the SHA-256 that the index of the packed image must have.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] when another one is already expected.
    pub(crate) fn expect_pack_index(mut self, index: Option<Digest>) -> Result<Self> {
        if let (Some(declared), Some(index)) = (self.expected_pack_index, index)
            && declared != index
        {
            let shown = |digest: Digest| format!("a pack index with SHA-256 {digest}");
            return Err(self.contradiction(&shown(declared), &shown(index)));
        }
        self.expected_pack_index = index.or(self.expected_pack_index);
        Ok(self)
    }

    fn contradiction(&self, declared: &dyn fmt::Display, expected: &dyn fmt::Display) -> Error {
        let message =
            format!("{} is declared with {declared}, but {expected} is expected", self.location);
        Error::new(ErrorKind::Integrity, message)
            .hint("check which of the two is right; nothing was written")
    }

    /// Returns a reader of the whole source. Its reads fail within a second after `cancel` is
    /// cancelled.
    ///
    /// A clean end means that every byte was delivered. The reader does not check digests; the
    /// caller must. Its I/O errors carry an [`Error`], see [`Error::unwrap_io`].
    ///
    /// # Errors
    /// [`ErrorKind::Source`] when the source cannot be read, or is a pipe that was already read.
    pub fn reader(&self, cancel: &CancelToken) -> Result<impl Read + Send + use<>> {
        self.bytes.stream(0, cancel)
    }

    /// Like [`reader`](Self::reader), but starts at `offset`, in bytes. Needs random access, see
    /// [`is_seekable`](Self::is_seekable).
    ///
    /// # Errors
    /// [`ErrorKind::Source`] when the source cannot be read, or can be read only from its start.
    pub fn reader_from(
        &self,
        offset: u64,
        cancel: &CancelToken,
    ) -> Result<impl Read + Send + use<>> {
        self.bytes.stream(offset, cancel)
    }

    /// True when the source can be read from any offset.
    #[must_use]
    pub fn is_seekable(&self) -> bool {
        self.bytes.is_seekable()
    }

    /// True when the source can be read more than once. A pipe can be read only once, after its
    /// beginning was examined.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        self.bytes.is_repeatable()
    }

    /// Identifies the version of the object: two sources with the same location and the same
    /// version have the same bytes. `None` for local files, and when the server sends no validator,
    /// unless a SHA-256 is expected.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        self.expected
            .sha256
            .map(|digest| format!("sha256:{digest}"))
            .or_else(|| self.bytes.version())
    }

    /// Fills `buf` from `offset`, in bytes. Returns fewer bytes only at the end of the source.
    /// Needs random access, see [`is_seekable`](Self::is_seekable).
    ///
    /// # Errors
    /// [`ErrorKind::Source`] when the source cannot be read, or can be read only from its start.
    pub fn read_at(&self, buf: &mut [u8], offset: u64, cancel: &CancelToken) -> Result<usize> {
        self.bytes.read_at(buf, offset, cancel)
    }

    /// Reads a whole document of at most `limit_bytes` within two minutes, and checks its expected
    /// digests.
    ///
    /// # Errors
    /// - [`ErrorKind::Source`]: the document is larger, takes longer, or cannot be read.
    /// - [`ErrorKind::Integrity`]: a digest differs.
    pub fn read_small(&self, limit_bytes: u64, cancel: &CancelToken) -> Result<Vec<u8>> {
        self.read_small_within(limit_bytes, DOCUMENT_TIMEOUT, cancel)
    }

    /// Like [`read_small`](Self::read_small), with another time limit. The limit is checked between
    /// reads, so a stalled read may exceed it by the stall timeout.
    pub(crate) fn read_small_within(
        &self,
        limit_bytes: u64,
        timeout: Duration,
        cancel: &CancelToken,
    ) -> Result<Vec<u8>> {
        let started = Instant::now();
        if self.expected.is_empty() {
            self.bytes.set_version_check(VersionCheck::WithinRead);
        }
        let mut bytes = Vec::new();
        let mut reader = self.bytes.stream(0, cancel)?.take(limit_bytes.saturating_add(1));
        let mut buf = vec![0; 64 << 10];
        loop {
            match reader.read(&mut buf) {
                Ok(0) => break,
                Ok(n) => bytes.extend_from_slice(&buf[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(Error::from_io(
                        ErrorKind::Source,
                        format!("reading {}", self.location),
                        e,
                    ));
                }
            }
            if started.elapsed() > timeout {
                let message =
                    format!("{} takes longer than {:.1} s", self.location, timeout.as_secs_f64());
                let error = Error::new(ErrorKind::Source, message).with_path(&self.location);
                return Err(error.hint(
                    "the server is too slow; download the file first, or use another server",
                ));
            }
        }
        if bytes.len() as u64 > limit_bytes {
            return Err(Error::new(
                ErrorKind::Source,
                format!("{} is larger than {}", self.location, crate::size::human(limit_bytes)),
            )
            .with_path(&self.location)
            .hint("is this the file you meant?"));
        }
        let mut hasher = FileHasher::new(&self.expected);
        hasher.update(&bytes);
        self.check_digests(&hasher.finish())?;
        Ok(bytes)
    }

    /// Compares `actual`, the digests of all bytes, with the expected ones.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] when one differs, or was not computed.
    pub(crate) fn check_digests(&self, actual: &Checksums) -> Result<()> {
        let mismatch = |expected: Option<String>, actual: Option<String>| {
            expected
                .filter(|expected| actual.as_ref() != Some(expected))
                .map(|expected| (expected, actual))
        };
        let expected = &self.expected;
        let sha256 = mismatch(expected.sha256.map(String::from), actual.sha256.map(String::from));
        let sha512 = mismatch(expected.sha512.map(String::from), actual.sha512.map(String::from));
        let Some((expected, actual)) = sha256.or(sha512) else { return Ok(()) };
        let Some(actual) = actual else {
            let message =
                "the digest of the image could not be computed, because not all of it was read";
            return Err(Error::new(ErrorKind::Integrity, message).with_path(&self.location));
        };
        let message = format!("{} has digest {actual}, expected {expected}", self.location);
        Err(Error::new(ErrorKind::Integrity, message).with_path(&self.location).hint(
            "the file is not the one that was published, or was damaged in transit: fetch it \
             again, and check the digest",
        ))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("location", &self.location)
            .field("len_bytes", &self.len_bytes())
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

/// Refuses a claimed size in bytes that is too large to be real.
///
/// # Errors
/// [`ErrorKind::Format`] when `claimed` is larger than `limit`.
pub(crate) fn check_size(claimed: u64, limit: u64) -> Result<()> {
    if claimed <= limit {
        return Ok(());
    }
    let (claimed, limit) = (crate::size::human(claimed), crate::size::human(limit));
    Err(Error::new(
        ErrorKind::Format,
        format!("it claims a size of {claimed}, but the limit is {limit}"),
    )
    .hint(
        "the image is damaged or hostile: fetch it again; a program can raise the limit with \
         ClientOptions::image_bytes_max",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delivers one byte after each pause, and never ends.
    struct Endless(Duration);

    impl ByteSource for Endless {
        fn len_bytes(&self) -> Option<u64> {
            None
        }
        fn is_seekable(&self) -> bool {
            false
        }
        fn stream(&self, _: u64, _: &CancelToken) -> Result<Box<dyn Read + Send>> {
            struct Stream(Duration);
            impl Read for Stream {
                fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                    std::thread::sleep(self.0);
                    buf[0] = b'x';
                    Ok(1)
                }
            }
            Ok(Box::new(Stream(self.0)))
        }
        fn read_at(&self, _: &mut [u8], _: u64, _: &CancelToken) -> Result<usize> {
            panic!("documents are streamed")
        }
    }

    fn endless(pause: Duration) -> Source {
        Source::new(Location::File("x".into()), "x", Arc::new(Endless(pause)))
    }

    #[test]
    fn contradicting_digests_are_refused() {
        let source = endless(Duration::ZERO).expect(Digest::of(b"a")).unwrap();
        let other_kind = Checksums { sha256: None, sha512: Some(crate::digest::Sha512::of(b"a")) };
        let source = source.expect_all(other_kind).unwrap();
        assert_eq!(
            source.expected_checksums(),
            Checksums { sha256: Some(Digest::of(b"a")), ..other_kind }
        );
        let error = source.expect(Digest::of(b"b")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity);
    }

    #[test]
    fn an_endless_document_is_refused() {
        let error = endless(Duration::ZERO).read_small(1000, &CancelToken::new()).unwrap_err();
        assert!(error.to_string().contains("larger than 1000 B"), "{error}");
    }

    #[test]
    fn a_slow_document_is_given_up() {
        let (started, timeout) = (Instant::now(), Duration::from_millis(200));
        let slow = endless(Duration::from_millis(10));
        let error = slow.read_small_within(1 << 20, timeout, &CancelToken::new()).unwrap_err();
        assert!(error.to_string().contains("takes longer than 0.2 s"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    }
}
