//! Fetches the frames that no disk of a flash holds, once for all targets, and sends each to the
//! targets that need it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::layout::BLOCK;
use super::matches::{BlockSource, Match};
use crate::Result;
use crate::extent::{BUFFER_BYTES, Block, Extent, Pool};
use crate::flash::write_job::WriteJob;
use crate::flash::writer::TargetWriter;
use crate::image::Image;
use crate::pack::{FrameFetcher, PackIndex};
use crate::read_context::ReadContext;

/// Which frames each target needs.
pub(super) struct FetchPlan {
    /// For each target, sorted numbers of frames.
    needed: Vec<Vec<u32>>,
    fetcher: FrameFetcher,
}

impl FetchPlan {
    /// Starts to fetch `needed`, the sorted numbers of frames for each target.
    pub(super) fn start(
        image: &Image,
        index: &Arc<PackIndex>,
        needed: Vec<Vec<u32>>,
        context: &ReadContext,
    ) -> Result<Self> {
        let mut all: Vec<u32> = needed.iter().flatten().copied().collect();
        all.sort_unstable();
        all.dedup();
        let fetcher = FrameFetcher::start(image.source(), index, all, context)?;
        Ok(Self { needed, fetcher })
    }

    /// Bytes of the disk that are fetched.
    pub(super) fn bytes(&self, index: &PackIndex) -> u64 {
        let frames = self.needed.iter().flatten().collect::<BTreeSet<_>>();
        frames.into_iter().map(|&n| u64::from(index.frames()[n as usize].disk_bytes)).sum()
    }

    /// Sends each frame to the targets that need it, until all have come.
    pub(super) fn run(
        mut self,
        index: &PackIndex,
        matches: &[Option<Arc<Match>>],
        writers: &mut [TargetWriter],
        context: &ReadContext,
    ) -> Result<()> {
        let pool = Pool::new(4 + 2 * writers.len());
        let mut batch = FetchedBatch::new(&pool, context, writers.len())?;
        while let Some((number, content)) = self.fetcher.next()? {
            let frame = &index.frames()[number as usize];
            context.counts.decoded_bytes.fetch_add(frame.disk_bytes.into(), Ordering::Relaxed);
            if batch.used + content.len() > BUFFER_BYTES {
                batch.send(writers)?;
                batch = FetchedBatch::new(&pool, context, writers.len())?;
            }
            let start = batch.add(&content);
            for (target, needed) in self.needed.iter().enumerate() {
                if needed.binary_search(&number).is_ok() {
                    let sources = matches[target].as_ref().map(|it| it.sources_of(frame));
                    let has_some = sources.is_some_and(|it| it.contains(&BlockSource::Same));
                    batch.plan(target, has_some, frame.disk_offset, start, content.len());
                }
            }
            if writers.iter().all(|writer| writer.state.has_failed()) {
                return Ok(());
            }
        }
        batch.send(writers)
    }
}

/// A write of a part of the batch.
struct PlannedWrite {
    /// The disk holds some of the blocks already.
    has_some: bool,
    offset: u64,
    start: usize,
    len: usize,
}

/// Frames in one buffer, and where each target writes them.
struct FetchedBatch {
    buffer: crate::extent::Buffer,
    used: usize,
    writes: Vec<Vec<PlannedWrite>>,
}

impl FetchedBatch {
    fn new(pool: &Pool, context: &ReadContext, targets: usize) -> Result<Self> {
        let buffer = pool.take(&context.cancel)?;
        Ok(Self { buffer, used: 0, writes: (0..targets).map(|_| Vec::new()).collect() })
    }

    /// Adds a frame, and returns where it begins in the buffer.
    fn add(&mut self, content: &[u8]) -> usize {
        let start = self.used;
        self.buffer[start..start + content.len()].copy_from_slice(content);
        self.used = (start + content.len()).next_multiple_of(BLOCK as usize);
        start
    }

    fn plan(&mut self, target: usize, has_some: bool, offset: u64, start: usize, len: usize) {
        let writes = &mut self.writes[target];
        if let Some(last) = writes.last_mut()
            && last.has_some == has_some
            && last.offset + last.len as u64 == offset
            && last.start + last.len == start
        {
            last.len += len;
        } else {
            writes.push(PlannedWrite { has_some, offset, start, len });
        }
    }

    fn send(self, writers: &mut [TargetWriter]) -> Result<()> {
        let block = self.buffer.freeze(self.used.min(BUFFER_BYTES));
        for (writer, writes) in writers.iter_mut().zip(self.writes) {
            for write in writes {
                let part = block.slice(write.start..write.start + write.len);
                send(writer, job(write.offset, part, write.has_some))?;
            }
        }
        Ok(())
    }
}

fn job(offset: u64, block: Block, has_some: bool) -> WriteJob {
    if has_some {
        WriteJob::Update { offset, block }
    } else {
        WriteJob::Extent(Extent::Data { offset, block })
    }
}

/// Sends `job`, and waits for room. A failure of the target is not an error here.
pub(super) fn send(writer: &mut TargetWriter, job: WriteJob) -> Result<()> {
    let mut job = Some(job);
    while !writer.offer(&mut job)? {}
    Ok(())
}
