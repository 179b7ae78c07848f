//! The trait that every kind of source implements.

use std::io::{self, Read};
use std::ops::Range;

use crate::{CancelToken, Error, ErrorKind, Result};

/// Which responses of a server must belong to the same version of an object.
///
/// Validators such as ETags distinguish versions. Mirrors behind one address may send different
/// validators for the same bytes, so callers choose the weakest check that is safe for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionCheck {
    /// All responses since the source was opened: for parts that are read one by one.
    SinceOpened,
    /// The responses of one read: the caller compares with what it saw before.
    WithinRead,
    /// None: the caller checks a digest of all bytes.
    Off,
}

/// Reads the bytes of one kind of source.
pub(crate) trait ByteSource: Send + Sync {
    /// Length in bytes, if known.
    fn len_bytes(&self) -> Option<u64>;

    /// True when [`read_at`](Self::read_at) works, and [`stream`](Self::stream) from any offset.
    fn is_seekable(&self) -> bool;

    /// False when only the first bytes can be read more than once.
    fn is_repeatable(&self) -> bool {
        true
    }

    /// A reader from `offset` to the end.
    ///
    /// It resumes after failures of the network, fails within a second after `cancel`, and returns
    /// `Ok(0)` only at the true end. Its errors carry an [`Error`](crate::Error).
    fn stream(&self, offset: u64, cancel: &CancelToken) -> Result<Box<dyn Read + Send>>;

    /// Fills `buf` from `offset`. Returns fewer bytes only at the end of the source.
    fn read_at(&self, buf: &mut [u8], offset: u64, cancel: &CancelToken) -> Result<usize>;

    /// A reader of `range`, which lies within the source. Needs random access.
    fn range(&self, range: Range<u64>, cancel: &CancelToken) -> Result<Box<dyn RangeReader>> {
        let stream = self.stream(range.start, cancel)?;
        Ok(Box::new(PlainRange(stream.take(range.end - range.start))))
    }

    /// Identifies this version of the object: a strong ETag, or time and length.
    fn version(&self) -> Option<String> {
        None
    }

    /// Sets which responses must be of the same version from now on. Initially
    /// [`VersionCheck::SinceOpened`].
    fn set_version_check(&self, _check: VersionCheck) {}

    /// True when responses have named different versions so far.
    fn has_varied(&self) -> bool {
        false
    }

    /// Fails when the source is known to have changed since it was opened. Reads no bytes; to be
    /// called at the end of a read.
    ///
    /// # Errors
    /// [`ErrorKind::Source`](crate::ErrorKind::Source) when it has changed.
    fn check_unchanged(&self) -> Result<()> {
        Ok(())
    }

    /// The local file behind the source, if there is one. It may have holes, and it must not lie
    /// on the target.
    fn as_file(&self) -> Option<&std::fs::File> {
        None
    }
}

/// Reads a part of a source. Like [`ByteSource::stream`] in everything else.
pub(crate) trait RangeReader: Send {
    /// Reads some bytes into `buf`, which is not empty.
    fn read(&mut self, buf: &mut [u8]) -> Result<RangeRead>;
}

/// What [`RangeReader::read`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeRead {
    /// This many bytes were read; 0 at the end.
    Bytes(usize),
    /// The server sends all of the object instead of the range. What is read from now on starts at
    /// offset 0, and ends with the object.
    FromStart,
}

/// A range of a source that delivers exactly what it is asked for.
pub(crate) struct PlainRange<R>(pub(crate) R);

impl<R: Read + Send> RangeReader for PlainRange<R> {
    fn read(&mut self, buf: &mut [u8]) -> Result<RangeRead> {
        loop {
            match self.0.read(buf) {
                Ok(n) => return Ok(RangeRead::Bytes(n)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(Error::unwrap_io(e).unwrap_or_else(|e| {
                        Error::new(ErrorKind::Source, "reading the source").because(e)
                    }));
                }
            }
        }
    }
}
