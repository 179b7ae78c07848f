//! Fetches the frames that no disk of a flash holds, once for all targets, and sends each to the
//! targets that need it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::batch::{WriteBatch, WriteKind};
use super::matches::{BlockSource, Match};
use crate::Result;
use crate::extent::Pool;
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
        let mut batch = WriteBatch::new(&pool, &context.cancel, writers.len())?;
        while let Some((number, content)) = self.fetcher.next()? {
            let frame = &index.frames()[number as usize];
            context.counts.decoded_bytes.fetch_add(frame.disk_bytes.into(), Ordering::Relaxed);
            if !batch.has_room(content.len()) {
                send_all(batch, writers)?;
                batch = WriteBatch::new(&pool, &context.cancel, writers.len())?;
            }
            batch.room(content.len()).copy_from_slice(&content);
            for (target, needed) in self.needed.iter().enumerate() {
                if needed.binary_search(&number).is_ok() {
                    let sources = matches[target].as_ref().map(|it| it.sources_of(frame));
                    let has_some = sources.is_some_and(|it| it.contains(&BlockSource::Same));
                    let kind = if has_some { WriteKind::Update } else { WriteKind::Whole };
                    batch.add(target, frame.disk_offset, 0..content.len(), kind);
                }
            }
            batch.keep(content.len());
            if writers.iter().all(|writer| writer.state.has_failed()) {
                return Ok(());
            }
        }
        send_all(batch, writers)
    }
}

fn send_all(batch: WriteBatch, writers: &mut [TargetWriter]) -> Result<()> {
    batch.into_jobs().try_for_each(|(target, job)| send(&mut writers[target], job))
}

/// Sends `job`, and waits for room. A failure of the target is not an error here.
pub(super) fn send(writer: &mut TargetWriter, job: WriteJob) -> Result<()> {
    let mut job = Some(job);
    while !writer.offer(&mut job)? {}
    Ok(())
}
