//! Where image bytes come from: a file, a pipe, a web server, an OCI registry.
//!
//! [`Client::open`](crate::Client::open) turns a reference into a [`Source`]: an origin that is
//! known to be there, with its length and expected digest where the origin tells them. A source can
//! be read any number of times, except for a pipe: see [`Source::is_repeatable`].
//!
//! Readers obey one contract, whatever the origin: **a clean end means that all of it was there.**
//! A body that is shorter or longer than promised, or that changed between two requests, is an
//! error of kind [`Source`](crate::ErrorKind::Source), never an end.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use url::Url;

use crate::digest::{Checksums, FileHasher};
use crate::oci::OciReference;
use crate::{CancelToken, ClientOptions, Digest, Error, ErrorKind, Result, redact, text};

pub(crate) mod file;
pub(crate) mod http;
pub(crate) mod pipe;
pub(crate) mod spool;
pub(crate) mod wire;

/// A reference to an origin, parsed from what a person wrote.
///
/// `http://` and `https://` are web addresses, `oras://` is an OCI artifact, `-` is stdin,
/// `file://` is a path in which `%20` is a blank, and everything else without a scheme is a path as
/// it is (`./-` is a file called `-`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// A local file, or a named pipe.
    File(PathBuf),
    /// What is piped into this process.
    Stdin,
    /// An object on a web server.
    Http(Url),
    /// A layer of an artifact in an OCI registry.
    Oci(OciReference),
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        let Some((scheme, _)) = text.split_once("://") else {
            return Ok(Self::File(PathBuf::from(text)));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => {
                let url = Url::parse(text).map_err(|e| {
                    Error::new(
                        ErrorKind::Usage,
                        format!("{:?} is no address", redact::address(text)),
                    )
                    .because(e)
                })?;
                if url.host_str().is_none_or(str::is_empty) {
                    return Err(Error::new(
                        ErrorKind::Usage,
                        format!("{:?} names no host", redact::address(text)),
                    ));
                }
                Ok(Self::Http(url))
            }
            "oras" => text.parse().map(Self::Oci),
            "file" => file_path(&text["file://".len()..]).map(Self::File),
            other => Err(Error::new(ErrorKind::Usage, format!("{other}:// is not supported"))
                .with_path(redact::address(text))
                .hint("give a path, or an http://, https:// or oras:// address")),
        }
    }
}

/// The path in what follows `file://`. `localhost` is this machine (RFC 8089); nothing but `%` is
/// special in the rest.
fn file_path(rest: &str) -> Result<PathBuf> {
    let path = match rest.get(..10) {
        Some(host) if host.eq_ignore_ascii_case("localhost/") => &rest[9..],
        _ => rest,
    };
    let bytes = percent_decoded(path);
    if bytes.contains(&0) {
        let error =
            Error::new(ErrorKind::Usage, format!("{:?} names no file", format!("file://{rest}")));
        return Err(error.hint("%00 cannot be part of a path"));
    }
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

/// `%41` is `A`; what is malformed stays as it is.
pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|d| byte == b'%' && d.iter().all(u8::is_ascii_hexdigit));
        let value = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        decoded.push(value.unwrap_or(byte));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    decoded
}

/// Without user and password: what is displayed gets into messages and lists.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(&text::path_reference(path)),
            Self::Stdin => f.write_str("stdin"),
            Self::Http(url) => f.write_str(&http::origin::shown(url)),
            Self::Oci(reference) => reference.fmt(f),
        }
    }
}

/// Which of the replies of an origin must be of the same version of the object. What tells versions
/// apart is what the origin says, an ETag say, and mirrors behind one address may say different
/// things about the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionRule {
    /// All of them: the parts that are read one by one make up one thing.
    Opened,
    /// Those of one reading: what was seen before is looked at again by the caller.
    OneReading,
    /// None: a digest of all of it proves the bytes.
    Proven,
}

/// How the bytes of one origin are had. One implementation per kind of origin, each in a file of
/// its own.
pub(crate) trait ByteSource: Send + Sync {
    /// Length in bytes, when the origin tells it.
    fn len_bytes(&self) -> Option<u64>;

    /// True when [`read_at`](Self::read_at) works, and [`stream`](Self::stream) from any offset.
    fn is_seekable(&self) -> bool;

    /// False when its bytes can be had only once, but for the first few.
    fn is_repeatable(&self) -> bool {
        true
    }

    /// A reader from `offset` to the end. It resumes by itself after faults, fails within a second
    /// after `cancel`, and returns `Ok(0)` only at the true end. Its errors carry an [`Error`]
    /// inside.
    fn stream(&self, offset: u64, cancel: &CancelToken) -> Result<Box<dyn Read + Send>>;

    /// Fills `buf` from `offset`; returns fewer bytes only at the end of the origin.
    fn read_at(&self, buf: &mut [u8], offset: u64, cancel: &CancelToken) -> Result<usize>;

    /// What tells this version from others, for as long as the origin keeps it: a strong ETag, or a
    /// time and a length.
    fn version(&self) -> Option<String> {
        None
    }

    /// Says which replies must be of the same version from now on; [`VersionRule::Opened`] until
    /// then.
    fn set_version_rule(&self, _rule: VersionRule) {}

    /// True when replies have named different versions so far.
    fn has_varied(&self) -> bool {
        false
    }

    /// Fails when it is no longer what was opened, as far as can be seen without reading it again.
    /// For the end of a reading.
    ///
    /// # Errors
    /// [`ErrorKind::Source`] when it has changed.
    fn check_unchanged(&self) -> Result<()> {
        Ok(())
    }

    /// The local file behind it, if there is one: it may have holes, and must not be the target.
    fn as_file(&self) -> Option<&std::fs::File> {
        None
    }
}

/// An opened origin. Cheap to clone; clones read independently.
#[derive(Clone)]
pub struct Source {
    pub(crate) location: Location,
    pub(crate) name: String,
    pub(crate) input: Arc<dyn ByteSource>,
    /// What its bytes must have.
    pub(crate) promised: Checksums,
}

impl Source {
    /// A source about which nothing is promised.
    pub(crate) fn new(
        location: Location,
        name: impl Into<String>,
        input: Arc<dyn ByteSource>,
    ) -> Self {
        Self { location, name: name.into(), input, promised: Checksums::default() }
    }

    /// What it was opened from.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// A short name for people: the file name, or the title of the layer.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Length in bytes as it comes over the wire, when the origin tells it.
    #[must_use]
    pub fn len_bytes(&self) -> Option<u64> {
        self.input.len_bytes()
    }

    /// The digest that the bytes must have: of the layer, from a `.sha256` file, or as given by
    /// [`expect`](Self::expect).
    #[must_use]
    pub fn expected_digest(&self) -> Option<Digest> {
        self.promised.sha256
    }

    /// All digests that the bytes must have.
    #[must_use]
    pub fn promised(&self) -> Checksums {
        self.promised
    }

    /// Adds the digest that the caller knows.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] when the origin itself declares another one.
    pub fn expect(self, digest: Digest) -> Result<Self> {
        self.expect_all(digest.into())
    }

    /// The same for digests of every kind.
    ///
    /// # Errors
    /// As [`expect`](Self::expect).
    pub fn expect_all(mut self, promised: Checksums) -> Result<Self> {
        let Some(merged) = self.promised.merged(promised) else {
            return Err(Error::new(
                ErrorKind::Integrity,
                format!(
                    "{} is declared with {}, but {promised} is expected",
                    self.location, self.promised
                ),
            )
            .hint("check which of the two is right; nothing was written"));
        };
        self.promised = merged;
        if !merged.is_empty() {
            self.input.set_version_rule(VersionRule::Proven);
        }
        Ok(self)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("location", &self.location)
            .field("len_bytes", &self.len_bytes())
            .field("promised", &self.promised)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// A reader from the start to the end, which fails within a second after `cancel`.
    ///
    /// Its clean end means that all of it was there; the digest is for the caller to check. An
    /// [`Error`] travels inside its I/O errors, see [`Error::unwrap_io`].
    ///
    /// # Errors
    /// [`ErrorKind::Source`] when it cannot be read.
    pub fn reader(&self, cancel: &CancelToken) -> Result<impl Read + Send + use<>> {
        self.input.stream(0, cancel)
    }

    /// A reader from `offset` bytes on, with the same promises. Needs an origin with random access,
    /// see [`is_seekable`](Self::is_seekable).
    ///
    /// # Errors
    /// [`ErrorKind::Source`] when it cannot be read, or only from the start.
    pub fn reader_from(
        &self,
        offset: u64,
        cancel: &CancelToken,
    ) -> Result<impl Read + Send + use<>> {
        self.input.stream(offset, cancel)
    }

    /// True when it can be read from any offset.
    #[must_use]
    pub fn is_seekable(&self) -> bool {
        self.input.is_seekable()
    }

    /// True when it can be read more than once. A pipe cannot: its first MiB is examined, then it
    /// is read once.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        self.input.is_repeatable()
    }

    /// What tells this version of the object from others: two sources of the same location with the
    /// same version have the same bytes. None when the origin says nothing about that, and for
    /// local files.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        self.promised
            .sha256
            .map(|digest| format!("sha256:{digest}"))
            .or_else(|| self.input.version())
    }

    /// Fills `buf` from `offset` bytes on; returns fewer only at the end. Needs an origin with
    /// random access.
    ///
    /// # Errors
    /// [`ErrorKind::Source`] when it cannot be read, or only from the start.
    pub fn read_at(&self, buf: &mut [u8], offset: u64, cancel: &CancelToken) -> Result<usize> {
        self.input.read_at(buf, offset, cancel)
    }

    /// Reads all of it, which must not be larger than `limit_bytes`, within two minutes; checks the
    /// digest where one is expected.
    ///
    /// # Errors
    /// [`ErrorKind::Source`] when it is too large, takes too long or cannot be read,
    /// [`ErrorKind::Integrity`] when the digest differs.
    pub fn read_small(&self, limit_bytes: u64, cancel: &CancelToken) -> Result<Vec<u8>> {
        self.read_within(limit_bytes, ClientOptions::default().document_timeout, cancel)
    }

    /// The same within `deadline`. A read that is under way then ends first, which the stall
    /// timeout bounds.
    pub(crate) fn read_within(
        &self,
        limit_bytes: u64,
        deadline: Duration,
        cancel: &CancelToken,
    ) -> Result<Vec<u8>> {
        let begun = Instant::now();
        if self.promised.is_empty() {
            self.input.set_version_rule(VersionRule::OneReading);
        }
        let mut bytes = Vec::new();
        let mut reader = self.input.stream(0, cancel)?.take(limit_bytes.saturating_add(1));
        let mut piece = vec![0; 64 << 10];
        loop {
            match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => bytes.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(Error::from_io(
                        ErrorKind::Source,
                        format!("reading {}", self.location),
                        e,
                    ));
                }
            }
            if begun.elapsed() > deadline {
                let message =
                    format!("{} takes longer than {:.1} s", self.location, deadline.as_secs_f64());
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
        let mut hasher = FileHasher::new(&self.promised);
        hasher.update(&bytes);
        spool::check_digest(self, &hasher.finish())?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An origin that gives one byte after each pause, without an end.
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
            panic!("it is read from its beginning")
        }
    }

    fn endless(pause: Duration) -> Source {
        Source::new(Location::File("x".into()), "x", Arc::new(Endless(pause)))
    }

    #[test]
    fn a_file_address_is_percent_decoded() {
        use std::os::unix::ffi::OsStrExt;
        for (address, path) in [
            ("file:///a/b%20c%2B.img", &b"/a/b c+.img"[..]),
            ("FILE://localhost/a", b"/a"),
            ("file:///a%ff", b"/a\xff"),
            ("file:///a%zz?x#y", b"/a%zz?x#y"),
            ("file://a/b", b"a/b"),
            ("/a%20b", b"/a%20b"),
        ] {
            let Location::File(found) = address.parse().unwrap() else { panic!("{address}") };
            assert_eq!(found.as_os_str().as_bytes(), path, "{address}");
        }
        assert_eq!("file:///a%00b".parse::<Location>().unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn digests_that_contradict_each_other_are_refused() {
        let source = endless(Duration::ZERO).expect(Digest::of(b"a")).unwrap();
        let also = Checksums { sha256: None, sha512: Some(crate::digest::Sha512::of(b"a")) };
        let source = source.expect_all(also).unwrap();
        assert_eq!(source.promised(), Checksums { sha256: Some(Digest::of(b"a")), ..also });
        let error = source.expect(Digest::of(b"b")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity);
    }

    #[test]
    fn a_document_without_an_end_is_cut_off() {
        let error = endless(Duration::ZERO).read_small(1000, &CancelToken::new()).unwrap_err();
        assert!(error.to_string().contains("larger than 1000 B"), "{error}");
    }

    #[test]
    fn a_document_that_comes_slowly_is_given_up() {
        let (begun, deadline) = (Instant::now(), Duration::from_millis(200));
        let slow = endless(Duration::from_millis(10));
        let error = slow.read_within(1 << 20, deadline, &CancelToken::new()).unwrap_err();
        assert!(error.to_string().contains("takes longer than 0.2 s"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
