//! Moves frames whose blocks are all on the disk: reads the blocks, checks the frame, writes it.

use std::collections::HashMap;
use std::ops::Range;

use crossbeam_channel::Sender;

use super::batch::{WriteBatch, WriteKind};
use super::layout::BLOCK;
use super::matches::{BlockSource, Match, position};
use super::order::{MoveOrder, MoveStep};
use crate::Result;
use crate::extent::Pool;
use crate::flash::target::TargetState;
use crate::flash::write_job::WriteJob;
use crate::pack::{PackFrame, PackIndex};

/// Buffers between the thread that reads and those that write.
const BUFFERS: usize = 6;

/// The moves of one target. Runs on a thread of its own.
pub(super) struct Mover<'a> {
    pub(super) target: &'a TargetState,
    pub(super) index: &'a PackIndex,
    pub(super) matches: &'a Match,
    pub(super) queue: &'a Sender<WriteJob>,
}

impl Mover<'_> {
    /// Takes all steps of `order`. Returns the numbers of frames that turned out different from what
    /// the scan had found, ascending: they are to be fetched.
    ///
    /// # Errors
    /// Cancelled, or out of memory. A failure of the target is not an error here.
    pub(super) fn run(&self, order: &MoveOrder) -> Result<Vec<u32>> {
        let pool = Pool::new(BUFFERS);
        let mut late = Vec::new();
        let mut stash = Stash::default();
        let new_batch = || WriteBatch::new(&pool, &self.target.io.cancel, 1);
        let mut batch = new_batch()?;
        for step in &order.steps {
            self.target.io.cancel.check()?;
            if self.target.has_failed() {
                return Ok(late);
            }
            let number = match step {
                MoveStep::Stash(blocks) => {
                    stash.add(self.target, blocks)?;
                    continue;
                }
                MoveStep::Release(blocks) => {
                    stash.release(blocks);
                    continue;
                }
                MoveStep::Move(number) => *number,
            };
            let frame = &self.index.frames()[number as usize];
            if !batch.has_room(frame.disk_bytes as usize) {
                self.send(batch);
                batch = new_batch()?;
            }
            let content = batch.room(frame.disk_bytes as usize);
            if self.assemble(frame, &stash, content)? {
                self.add_writes(frame, &mut batch);
            } else {
                late.push(number);
            }
        }
        self.send(batch);
        late.sort_unstable();
        Ok(late)
    }

    fn send(&self, batch: WriteBatch) {
        for (_, job) in batch.into_jobs() {
            // fails only when all workers have ended, because the target has failed
            let _ = self.queue.send(job);
        }
    }

    /// Reads the blocks of `frame` into `content`. False if they are not the frame: the disk
    /// cannot be read, or holds something else than the scan has found.
    fn assemble(&self, frame: &PackFrame, stash: &Stash, content: &mut [u8]) -> Result<bool> {
        let place = position(frame.disk_offset);
        let sources = self.matches.sources_of(frame);
        let old_position = |at: usize| match sources[at] {
            BlockSource::Same => Some(place + block_number(at)),
            BlockSource::At(position) => Some(position),
            BlockSource::Zero | BlockSource::Nowhere => None,
        };
        let is_own =
            |position: u32| (place..place + block_number(sources.len())).contains(&position);
        let mut is_readable = true;
        let mut at = 0;
        while at < sources.len() {
            let Some(first) = old_position(at) else {
                content[bytes(at..at + 1)].fill(0);
                at += 1;
                continue;
            };
            if !is_own(first) && stash.copy(first, &mut content[bytes(at..at + 1)]) {
                at += 1;
                continue;
            }
            let follows = |n: usize| {
                let next = first + block_number(n);
                at + n < sources.len()
                    && old_position(at + n) == Some(next)
                    && (is_own(next) || !stash.has(next))
            };
            let run = (1..).find(|&n| !follows(n)).expect("a frame ends");
            let into = &mut content[bytes(at..at + run)];
            if self.target.io.read(u64::from(first) * BLOCK, into).is_err() {
                self.target.io.cancel.check()?;
                is_readable = false;
            }
            at += run;
        }
        Ok(is_readable && frame.blake3 == Some(*blake3::hash(content).as_bytes()))
    }

    /// Adds those blocks of `frame` that are not in their place to `batch`, which has its content.
    fn add_writes(&self, frame: &PackFrame, batch: &mut WriteBatch) {
        let sources = self.matches.sources_of(frame);
        let mut at = 0;
        while at < sources.len() {
            let is_same = sources[at] == BlockSource::Same;
            let run = sources[at..].iter().take_while(|&&s| (s == BlockSource::Same) == is_same);
            let run = at..at + run.count();
            at = run.end;
            let range = bytes(run);
            if !is_same {
                batch.add(0, frame.disk_offset + range.start as u64, range, WriteKind::Whole);
            }
        }
        batch.keep(frame.disk_bytes as usize);
    }
}

/// Old blocks in memory, by their position. `None` for one that cannot be read: the frames that need
/// it are not the right ones then, and are fetched.
#[derive(Default)]
struct Stash(HashMap<u32, Option<Box<[u8]>>>);

impl Stash {
    fn add(&mut self, target: &TargetState, positions: &[u32]) -> Result<()> {
        let mut buffer = Pool::new(1).take(&target.io.cancel)?;
        for &position in positions {
            let block = &mut buffer[..BLOCK as usize];
            let content = target.io.read(u64::from(position) * BLOCK, block);
            target.io.cancel.check()?;
            self.0.insert(position, content.ok().map(|()| Box::from(&*block)));
        }
        Ok(())
    }

    fn release(&mut self, positions: &[u32]) {
        positions.iter().for_each(|position| drop(self.0.remove(position)));
    }

    fn has(&self, position: u32) -> bool {
        self.0.contains_key(&position)
    }

    /// Copies the block that was at `position`; false if it is not here.
    fn copy(&self, position: u32, into: &mut [u8]) -> bool {
        let Some(content) = self.0.get(&position) else { return false };
        match content {
            Some(content) => into.copy_from_slice(content),
            None => into.fill(0),
        }
        true
    }
}

fn bytes(blocks: Range<usize>) -> Range<usize> {
    blocks.start * BLOCK as usize..blocks.end * BLOCK as usize
}

fn block_number(at: usize) -> u32 {
    u32::try_from(at).expect("a frame has at most 256 blocks")
}
