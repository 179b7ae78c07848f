//! Frames that are on their way to the disk.

use std::ops::Range;

use super::layout::BLOCK;
use crate::extent::{BUFFER_BYTES, Buffer, Extent, Pool};
use crate::flash::write_job::WriteJob;
use crate::{CancelToken, Result};

/// Content in one buffer, and where each target writes its parts.
pub(super) struct WriteBatch {
    buffer: Buffer,
    used: usize,
    /// For each target.
    writes: Vec<Vec<PlannedWrite>>,
}

struct PlannedWrite {
    offset: u64,
    /// Range in the buffer.
    part: Range<usize>,
    kind: WriteKind,
}

/// How a part of a batch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteKind {
    /// The disk holds none of it.
    Whole,
    /// The disk may hold some of its blocks, which are not written again.
    Update,
}

impl WriteBatch {
    pub(super) fn new(pool: &Pool, cancel: &CancelToken, targets: usize) -> Result<Self> {
        let buffer = pool.take(cancel)?;
        Ok(Self { buffer, used: 0, writes: (0..targets).map(|_| Vec::new()).collect() })
    }

    pub(super) fn has_room(&self, len: usize) -> bool {
        self.used + len <= BUFFER_BYTES
    }

    /// Room for `len` bytes, which stay only after [`keep`](Self::keep).
    pub(super) fn room(&mut self, len: usize) -> &mut [u8] {
        &mut self.buffer[self.used..self.used + len]
    }

    /// Plans that `target` writes `part` of the room to `offset`.
    pub(super) fn add(&mut self, target: usize, offset: u64, part: Range<usize>, kind: WriteKind) {
        let part = self.used + part.start..self.used + part.end;
        let writes = &mut self.writes[target];
        if let Some(last) = writes.last_mut()
            && last.kind == kind
            && last.part.end == part.start
            && last.offset + last.part.len() as u64 == offset
        {
            last.part.end = part.end;
        } else {
            writes.push(PlannedWrite { offset, part, kind });
        }
    }

    pub(super) fn keep(&mut self, len: usize) {
        self.used = (self.used + len).next_multiple_of(BLOCK as usize);
    }

    /// All writes, each with the number of its target.
    pub(super) fn into_jobs(self) -> impl Iterator<Item = (usize, WriteJob)> {
        let block = self.buffer.freeze(self.used.min(BUFFER_BYTES));
        let numbered = self.writes.into_iter().enumerate();
        let writes =
            numbered.flat_map(|(target, writes)| writes.into_iter().map(move |it| (target, it)));
        writes.map(move |(target, PlannedWrite { offset, part, kind })| {
            let block = block.slice(part);
            let job = match kind {
                WriteKind::Whole => WriteJob::Extent(Extent::Data { offset, block }),
                WriteKind::Update => WriteJob::Update { offset, block },
            };
            (target, job)
        })
    }
}
