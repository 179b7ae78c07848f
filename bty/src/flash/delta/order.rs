//! The order in which frames are moved: every old block is read before its place is overwritten.
//!
//! A frame waits for all frames that still have to read from its place. Frames that nobody waits
//! for come first. When all wait for each other, the old blocks of one place go to the stash, in
//! memory; the place with the fewest is taken. When the stash is full, the frames that need them
//! are fetched instead. So a small stash costs speed, and never correctness.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use super::matches::BlockSource;

/// A frame to move: its place and the sources of its blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct MovedFrame<'a> {
    /// Number in the index.
    pub(super) number: u32,
    /// Position of its first block on the disk.
    pub(super) position: u32,
    pub(super) sources: &'a [BlockSource],
}

impl MovedFrame<'_> {
    /// True if the block at `position` is in the place of this frame.
    pub(super) fn is_own(&self, position: u32) -> bool {
        position.checked_sub(self.position).is_some_and(|at| (at as usize) < self.sources.len())
    }
}

/// A step of a flash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MoveStep {
    /// Read the old blocks at these positions into memory.
    Stash(Vec<u32>),
    /// Nobody needs these blocks in memory any more.
    Release(Vec<u32>),
    /// Read the blocks of the frame with this number, and write it.
    Move(u32),
}

/// The result of [`order`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MoveOrder {
    pub(super) steps: Vec<MoveStep>,
    /// Frames to fetch, because the stash has no room for their blocks.
    pub(super) given_up: Vec<u32>,
    /// Maximum number of blocks in the stash at the same time.
    pub(super) stash_peak_blocks: usize,
}

/// Orders `frames`, which are sorted by position, for a stash of at most `stash_blocks` blocks.
pub(super) fn order(frames: &[MovedFrame<'_>], stash_blocks: usize) -> MoveOrder {
    let mut sorter = Sorter::new(frames, stash_blocks);
    sorter.run();
    sorter.order
}

struct Sorter<'a> {
    frames: &'a [MovedFrame<'a>],
    /// For each frame: the blocks that others need from its place, as position and reader.
    needs_of_place: Vec<Vec<(u32, usize)>>,
    /// For each frame: the places of other frames that it reads from, and how many blocks.
    reads: Vec<Vec<(usize, usize)>>,
    /// For each frame: how many blocks others still have to read from its place. Frames with none
    /// can be moved.
    pending: Vec<usize>,
    is_done: Vec<bool>,
    /// Frames that can be moved.
    ready: BTreeSet<usize>,
    /// Frames that wait, those that wait for the fewest blocks first. Has outdated entries.
    waiting: BinaryHeap<Reverse<(usize, usize)>>,
    /// Positions in the stash, and how many frames need each.
    stash: HashMap<u32, u32>,
    stash_blocks: usize,
    order: MoveOrder,
}

impl<'a> Sorter<'a> {
    fn new(frames: &'a [MovedFrame<'a>], stash_blocks: usize) -> Self {
        let mut needs_of_place = vec![Vec::new(); frames.len()];
        let mut reads = vec![Vec::new(); frames.len()];
        for (reader, frame) in frames.iter().enumerate() {
            for position in foreign_positions(frame) {
                if let Some(place) = overwritten_by(frames, position) {
                    needs_of_place[place].push((position, reader));
                    count_read(&mut reads[reader], place);
                }
            }
        }
        let pending: Vec<usize> = needs_of_place.iter().map(Vec::len).collect();
        let is_ready = |&frame: &usize| pending[frame] == 0;
        let ready = (0..frames.len()).filter(is_ready).collect();
        let waiting = (0..frames.len()).filter(|frame| !is_ready(frame));
        let waiting = waiting.map(|frame| Reverse((pending[frame], frame))).collect();
        let is_done = vec![false; frames.len()];
        let (stash, order) = (HashMap::new(), MoveOrder::default());
        Self {
            frames,
            needs_of_place,
            reads,
            pending,
            is_done,
            ready,
            waiting,
            stash,
            stash_blocks,
            order,
        }
    }

    fn run(&mut self) {
        let mut last = 0;
        loop {
            // ascending, because disks like that
            let next = self.ready.range(last..).next().or_else(|| self.ready.first()).copied();
            if let Some(frame) = next {
                self.ready.remove(&frame);
                last = frame;
                self.order.steps.push(MoveStep::Move(self.frames[frame].number));
                self.end(frame);
            } else if let Some(place) = self.cheapest_place() {
                self.make_room(place);
            } else {
                return;
            }
        }
    }

    /// The waiting frame whose place has the fewest blocks that others need.
    fn cheapest_place(&mut self) -> Option<usize> {
        while let Some(Reverse((blocks, frame))) = self.waiting.pop() {
            if !self.is_done[frame] && self.pending[frame] == blocks && blocks > 0 {
                return Some(frame);
            }
        }
        None
    }

    /// Lets the frame be moved whose place is `place`, although others need its old blocks.
    fn make_room(&mut self, place: usize) {
        let needs: Vec<(u32, usize)> = self.needs_of_place[place]
            .iter()
            .copied()
            .filter(|&(_, reader)| !self.is_done[reader])
            .collect();
        let mut blocks: HashMap<u32, u32> = HashMap::new();
        needs.iter().for_each(|(position, _)| *blocks.entry(*position).or_default() += 1);
        if self.stash.len() + blocks.len() > self.stash_blocks {
            for (_, reader) in needs {
                if !self.is_done[reader] {
                    self.ready.remove(&reader);
                    self.order.given_up.push(self.frames[reader].number);
                    self.end(reader);
                }
            }
            return;
        }
        let mut step: Vec<u32> = blocks.keys().copied().collect();
        step.sort_unstable();
        self.stash.extend(blocks);
        self.order.stash_peak_blocks = self.order.stash_peak_blocks.max(self.stash.len());
        self.order.steps.push(MoveStep::Stash(step));
        self.pending[place] = 0;
        self.ready.insert(place);
    }

    /// Takes note that `frame` has read its blocks, or does not need them.
    fn end(&mut self, frame: usize) {
        self.is_done[frame] = true;
        for (place, blocks) in std::mem::take(&mut self.reads[frame]) {
            // places that are done, or whose blocks are in the stash, wait for nothing
            if self.is_done[place] || self.pending[place] == 0 {
                continue;
            }
            self.pending[place] -= blocks;
            if self.pending[place] == 0 {
                self.ready.insert(place);
            } else {
                self.waiting.push(Reverse((self.pending[place], place)));
            }
        }
        let mut unneeded = foreign_positions(&self.frames[frame]);
        unneeded.retain(|position| {
            let Some(readers) = self.stash.get_mut(position) else { return false };
            *readers -= 1;
            *readers == 0
        });
        if !unneeded.is_empty() {
            self.stash.retain(|_, readers| *readers > 0);
            self.order.steps.push(MoveStep::Release(unneeded));
        }
    }
}

/// The positions outside its place that `frame` reads from, ascending and without duplicates.
fn foreign_positions(frame: &MovedFrame<'_>) -> Vec<u32> {
    let mut positions: Vec<u32> = frame
        .sources
        .iter()
        .filter_map(|source| match source {
            BlockSource::At(position) if !frame.is_own(*position) => Some(*position),
            _ => None,
        })
        .collect();
    positions.sort_unstable();
    positions.dedup();
    positions
}

/// The frame whose move overwrites the block at `position`.
fn overwritten_by(frames: &[MovedFrame<'_>], position: u32) -> Option<usize> {
    let place = frames.partition_point(|frame| frame.position <= position).checked_sub(1)?;
    let frame = &frames[place];
    let source = frame.sources.get((position - frame.position) as usize)?;
    (*source != BlockSource::Same).then_some(place)
}

fn count_read(reads: &mut Vec<(usize, usize)>, place: usize) {
    match reads.iter_mut().find(|(it, _)| *it == place) {
        Some((_, blocks)) => *blocks += 1,
        None => reads.push((place, 1)),
    }
}

#[cfg(test)]
mod tests;
