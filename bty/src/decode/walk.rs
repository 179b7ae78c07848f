//! Hops from header to header over a local file, for sizes that no single place of a file tells.

use std::time::{Duration, Instant};

use crate::CancelToken;
use crate::source::ByteSource;

/// A size that takes longer to find is not worth the wait: on a slow disk each hop is a seek.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Walk<'a> {
    source: &'a dyn ByteSource,
    cancel: &'a CancelToken,
    offset: u64,
    len_bytes: u64,
    until: Instant,
}

impl<'a> Walk<'a> {
    pub(super) fn new(source: &'a dyn ByteSource, cancel: &'a CancelToken) -> Option<Self> {
        let len_bytes = source.len_bytes()?;
        Some(Self { source, cancel, offset: 0, len_bytes, until: Instant::now() + PATIENCE })
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.offset == self.len_bytes
    }

    /// The next bytes: as many as `buf` holds, fewer at the end; `None` when they cannot be had in
    /// time.
    pub(super) fn peek<'b>(&self, buf: &'b mut [u8]) -> Option<&'b [u8]> {
        if Instant::now() > self.until {
            return None;
        }
        let n = self.source.read_at(buf, self.offset, self.cancel).ok()?;
        Some(&buf[..n])
    }

    /// Hops over `count` bytes; `None` when the file ends before.
    pub(super) fn skip(&mut self, count: u64) -> Option<()> {
        self.offset = self.offset.checked_add(count).filter(|&offset| offset <= self.len_bytes)?;
        Some(())
    }
}
