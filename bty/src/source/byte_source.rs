//! The trait that every kind of source implements.

use std::io::Read;

use crate::{CancelToken, Result};

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
