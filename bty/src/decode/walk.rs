//! Walks from header to header over a local file, to add up the sizes of its frames.

use std::time::{Duration, Instant};

use crate::CancelToken;
use crate::source::ByteSource;

/// Time limit of a walk. On a slow disk, each hop is a seek.
const TIME_LIMIT: Duration = Duration::from_secs(1);

pub(super) struct Walk<'a> {
    source: &'a dyn ByteSource,
    cancel: &'a CancelToken,
    offset: u64,
    len_bytes: u64,
    deadline: Instant,
}

impl<'a> Walk<'a> {
    pub(super) fn new(source: &'a dyn ByteSource, cancel: &'a CancelToken) -> Option<Self> {
        let len_bytes = source.len_bytes()?;
        Some(Self { source, cancel, offset: 0, len_bytes, deadline: Instant::now() + TIME_LIMIT })
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.offset == self.len_bytes
    }

    /// The next bytes: as many as `buf` holds, fewer at the end of the file. `None` on an error or
    /// after the time limit.
    pub(super) fn peek<'b>(&self, buf: &'b mut [u8]) -> Option<&'b [u8]> {
        if Instant::now() > self.deadline {
            return None;
        }
        let n = self.source.read_at(buf, self.offset, self.cancel).ok()?;
        Some(&buf[..n])
    }

    /// Skips `count` bytes; `None` when the file is shorter.
    pub(super) fn skip(&mut self, count: u64) -> Option<()> {
        self.offset = self.offset.checked_add(count).filter(|&offset| offset <= self.len_bytes)?;
        Some(())
    }
}
