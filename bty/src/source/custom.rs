//! Bytes that a program supplies itself: a [`CustomSource`], or a reader that is read once.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::extent::zeroed;
use crate::source::pipe::PipeSource;
use crate::source::{ByteSource, Location, PlainRange, RangeReader, Source};
use crate::{CancelToken, Error, ErrorKind, Result, text};

/// Number of failures in a row, without a byte between them, after which a read fails.
const FAILURES_MAX: u32 = 3;

/// Pause after the first failure. It doubles with each further one.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Maximum length of a range that is read at once, because a source may have a cheaper way to read
/// a known length.
const AT_ONCE_BYTES: u64 = 8 << 20;

/// A source of image bytes that a program implements, for storage that bty cannot read itself.
///
/// [`Image::from_source`](crate::Image::from_source) opens an image in it. Only
/// [`len_bytes`](Self::len_bytes) and [`stream`](Self::stream) have no default. A source that can
/// be read from any offset should say so with [`is_seekable`](Self::is_seekable): transfers are
/// then resumed after a failure, and images that need random access (qcow2, zip) are not copied to
/// the spool directory first.
///
/// An `Arc<[u8]>` is a source, for images in memory:
///
/// ```
/// use std::sync::Arc;
///
/// use bty::image::{Format, OpenOptions};
/// use bty::{CancelToken, Client, Image};
///
/// let mut disk = vec![0; 1 << 20];
/// disk[510..512].copy_from_slice(&[0x55, 0xaa]);
/// let bytes: Arc<[u8]> = disk.into();
/// let options = OpenOptions::default();
/// let image =
///     Image::from_source(&Client::default(), "memory", bytes, &options, &CancelToken::new())?;
/// assert_eq!(image.info().format, Format::Raw);
/// # Ok::<(), bty::Error>(())
/// ```
pub trait CustomSource: Send + Sync + 'static {
    /// Length in bytes before decoding, or `None` if it is not known in advance. A read that ends
    /// before or after this length is an error.
    fn len_bytes(&self) -> Option<u64>;

    /// Returns a reader of the bytes from `offset` to the end. `offset` is 0 unless the source
    /// [is seekable](Self::is_seekable). Several readers may be in use at the same time.
    ///
    /// Long waits in the reader should end soon after `cancel` is cancelled, because a flash that
    /// is cancelled waits for them.
    ///
    /// # Errors
    /// Any. A kind of [`NotFound`](io::ErrorKind::NotFound),
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied),
    /// [`InvalidData`](io::ErrorKind::InvalidData) or [`Unsupported`](io::ErrorKind::Unsupported)
    /// is final; after others, a seekable source is tried twice more. An [`Error`] inside the
    /// [`io::Error`] is final as well, and keeps its kind and hint.
    fn stream(&self, offset: u64, cancel: &CancelToken) -> io::Result<Box<dyn Read + Send>>;

    /// True if [`stream`](Self::stream) accepts any offset. False by default.
    fn is_seekable(&self) -> bool {
        false
    }

    /// Reads up to `buf.len()` bytes at `offset`; 0 only at the end. Called only if the source
    /// [is seekable](Self::is_seekable). By default, reads from [`stream`](Self::stream); override
    /// it if a read of a known length is cheaper.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    fn read_at(&self, buf: &mut [u8], offset: u64, cancel: &CancelToken) -> io::Result<usize> {
        self.stream(offset, cancel)?.read(buf)
    }

    /// Identifies the current version of the bytes, such as an ETag or a generation number. A
    /// version that changes while the image is read is an error, so that two versions are never
    /// mixed. `None`, the default, turns this check off.
    ///
    /// # Errors
    /// Any, when the version cannot be determined.
    fn version(&self) -> io::Result<Option<String>> {
        Ok(None)
    }
}

/// The bytes themselves, in memory.
impl CustomSource for Arc<[u8]> {
    fn len_bytes(&self) -> Option<u64> {
        Some(self.len() as u64)
    }

    fn stream(&self, offset: u64, _: &CancelToken) -> io::Result<Box<dyn Read + Send>> {
        let mut reader = io::Cursor::new(Self::clone(self));
        reader.set_position(offset);
        Ok(Box::new(reader))
    }

    fn is_seekable(&self) -> bool {
        true
    }
}

/// Opens `custom` as a source called `name` in messages and reports.
///
/// # Errors
/// [`ErrorKind::Source`] when its version cannot be determined.
pub(crate) fn open(name: &str, custom: impl CustomSource) -> Result<Source> {
    let mut opened = Opened { name: name.to_owned(), custom: Box::new(custom), version: None };
    opened.version = opened.current_version()?;
    Ok(source(name, Arc::new(CustomBytes(Arc::new(opened)))))
}

/// A source called `name` that reads `reader` once, from its start.
pub(crate) fn from_reader(name: &str, reader: impl Read + Send + 'static) -> Source {
    source(name, Arc::new(PipeSource::of_reader(reader, name)))
}

fn source(name: &str, bytes: Arc<dyn ByteSource>) -> Source {
    let location = Location::Custom(name.to_owned());
    let last = name.rsplit('/').next().unwrap_or(name);
    Source::new(location, text::shown_name(last.as_ref()), bytes)
}

struct CustomBytes(Arc<Opened>);

struct Opened {
    name: String,
    custom: Box<dyn CustomSource>,
    /// The version when the source was opened.
    version: Option<String>,
}

impl Opened {
    fn current_version(&self) -> Result<Option<String>> {
        self.custom.version().map_err(|e| {
            Error::from_io(ErrorKind::Source, format!("finding the version of {}", self.name), e)
        })
    }

    fn check_unchanged(&self) -> Result<()> {
        if self.current_version()? == self.version {
            return Ok(());
        }
        let message = format!("{} was changed while it was read", self.name);
        Err(Error::new(ErrorKind::Source, message).with_path(&self.name).hint("start again"))
    }

    fn read_error(&self, offset: u64, error: io::Error) -> Error {
        Error::from_io(
            ErrorKind::Source,
            format!("reading {} at offset {offset}", self.name),
            error,
        )
        .with_path(&self.name)
        .at_offset(offset)
    }

    fn length_error(&self, offset: u64, len_bytes: u64) -> Error {
        let message = match offset < len_bytes {
            true => format!("{} ends after {offset} of {len_bytes} bytes", self.name),
            false => format!("{} is longer than its {len_bytes} bytes", self.name),
        };
        Error::new(ErrorKind::Source, message).with_path(&self.name).at_offset(offset)
    }

    fn random_access_error(&self) -> Error {
        Error::new(ErrorKind::Source, format!("{} can be read only from its start", self.name))
            .with_path(&self.name)
            .hint("implement CustomSource::is_seekable, or save the image to a file first")
    }

    /// Calls `read` until it succeeds, with pauses between attempts.
    fn with_retries<T>(
        &self,
        offset: u64,
        cancel: &CancelToken,
        mut read: impl FnMut() -> io::Result<T>,
    ) -> Result<T> {
        let mut failures = 0;
        loop {
            cancel.check()?;
            match read() {
                Ok(read) => return Ok(read),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if !self.custom.is_seekable() || is_final(&e) => {
                    return Err(self.read_error(offset, e));
                }
                Err(e) => {
                    failures += 1;
                    if failures == FAILURES_MAX {
                        return Err(self.read_error(offset, e));
                    }
                    pause(RETRY_DELAY * 2u32.pow(failures - 1), cancel)?;
                }
            }
        }
    }
}

/// True if another attempt would fail in the same way.
fn is_final(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, PermissionDenied, Unsupported};
    matches!(error.kind(), NotFound | PermissionDenied | InvalidData | Unsupported)
        || matches!(error.get_ref(), Some(inner) if inner.is::<Error>())
}

fn pause(time: Duration, cancel: &CancelToken) -> Result<()> {
    let end = Instant::now() + time;
    while let Some(rest) = end.checked_duration_since(Instant::now()) {
        cancel.check()?;
        thread::sleep(rest.min(Duration::from_millis(50)));
    }
    Ok(())
}

impl ByteSource for CustomBytes {
    fn len_bytes(&self) -> Option<u64> {
        self.0.custom.len_bytes()
    }

    fn is_seekable(&self) -> bool {
        self.0.custom.is_seekable()
    }

    fn stream(&self, offset: u64, cancel: &CancelToken) -> Result<Box<dyn Read + Send>> {
        if offset > 0 && !self.is_seekable() {
            return Err(self.0.random_access_error());
        }
        let open = || self.0.custom.stream(offset, cancel);
        Ok(Box::new(CustomStream {
            reader: Some(self.0.with_retries(offset, cancel, open)?),
            source: Arc::clone(&self.0),
            position: offset,
            cancel: cancel.clone(),
        }))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64, cancel: &CancelToken) -> Result<usize> {
        if !self.is_seekable() {
            return Err(self.0.random_access_error());
        }
        let len_bytes = self.len_bytes().unwrap_or(u64::MAX);
        let rest = usize::try_from(len_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = rest.min(buf.len());
        let mut filled = 0;
        while filled < wanted {
            let at = offset + filled as u64;
            let part = &mut buf[filled..wanted];
            let read = || self.0.custom.read_at(part, at, cancel);
            match self.0.with_retries(at, cancel, read)? {
                0 if self.len_bytes().is_some() => return Err(self.0.length_error(at, len_bytes)),
                0 => break,
                n => filled += n.min(wanted - filled),
            }
        }
        Ok(filled)
    }

    fn range(&self, range: Range<u64>, cancel: &CancelToken) -> Result<Box<dyn RangeReader>> {
        let len_bytes = range.end - range.start;
        if len_bytes > AT_ONCE_BYTES {
            let stream = self.stream(range.start, cancel)?;
            return Ok(Box::new(PlainRange(stream.take(len_bytes))));
        }
        let mut bytes = zeroed(usize::try_from(len_bytes).expect("8 MiB"))?;
        let read = self.read_at(&mut bytes, range.start, cancel)?;
        bytes.truncate(read);
        Ok(Box::new(PlainRange(io::Cursor::new(bytes))))
    }

    fn version(&self) -> Option<String> {
        self.0.version.clone()
    }

    fn check_unchanged(&self) -> Result<()> {
        self.0.check_unchanged()
    }
}

/// Reads a custom source from one offset to its end, and opens it again after a failure.
struct CustomStream {
    source: Arc<Opened>,
    /// `None` after a failure.
    reader: Option<Box<dyn Read + Send>>,
    position: u64,
    cancel: CancelToken,
}

impl CustomStream {
    fn read_once(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                self.source.check_unchanged()?;
                let stream = self.source.custom.stream(self.position, &self.cancel)?;
                self.reader.insert(stream)
            }
        };
        reader.read(buf).inspect_err(|e| {
            if e.kind() != io::ErrorKind::Interrupted {
                self.reader = None;
            }
        })
    }

    /// Compares the length so far with that of the source. `n` bytes were read last.
    fn check_length(&self, n: usize) -> Result<()> {
        let Some(len_bytes) = self.source.custom.len_bytes() else { return Ok(()) };
        let is_short = n == 0 && self.position < len_bytes;
        if is_short || self.position > len_bytes {
            return Err(self.source.length_error(self.position, len_bytes));
        }
        Ok(())
    }
}

impl Read for CustomStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let source = Arc::clone(&self.source);
        let (position, cancel) = (self.position, self.cancel.clone());
        let n = source.with_retries(position, &cancel, || self.read_once(buf))?;
        self.position += n as u64;
        self.check_length(n)?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
