//! Finds out where a disk holds the blocks of an image. Pure: the scan feeds it with what it reads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::layout::{BLOCK, Layout, Piece, is_head};
use crate::extent::is_zero;
use crate::flash::DeltaReport;
use crate::pack::{PackFrame, PackIndex, block_hash};

/// Where the content of a block of the image comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockSource {
    /// It is in its place.
    Same,
    /// It is zero.
    Zero,
    /// It is at this position on the disk, in blocks.
    At(u32),
    /// It is nowhere on the disk.
    Nowhere,
}

/// How a frame gets onto the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameState {
    /// It is zeros.
    Zero,
    /// It belongs to the first MiB, which is written last, from memory.
    Head,
    /// It is there: its long hash is right.
    Kept,
    /// All its blocks are somewhere on the disk.
    Moved,
    /// It is fetched.
    Fetched,
}

/// The hashes of all blocks of an image, to look them up.
pub(super) struct WantedHashes {
    /// Sorted, without duplicates.
    hashes: Vec<u64>,
    /// For each value of the upper 16 bits, the number of hashes before it.
    starts: Vec<u32>,
}

impl WantedHashes {
    pub(super) fn new(index: &PackIndex) -> Self {
        let mut hashes = index.block_hashes().to_vec();
        hashes.sort_unstable();
        hashes.dedup();
        let mut starts = vec![0; (1 << 16) + 1];
        for hash in &hashes {
            starts[bucket(*hash) + 1] += 1;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        Self { hashes, starts }
    }

    fn find(&self, hash: u64) -> Option<usize> {
        let bucket = bucket(hash);
        let start = self.starts[bucket] as usize;
        let among = &self.hashes[start..self.starts[bucket + 1] as usize];
        among.binary_search(&hash).ok().map(|at| start + at)
    }

    /// True if the image has a block with the content of `block`.
    pub(super) fn has(&self, block: &[u8]) -> bool {
        self.find(block_hash(block)).is_some()
    }
}

fn bucket(hash: u64) -> usize {
    usize::try_from(hash >> 48).expect("16 bits")
}

const NOT_FOUND: u32 = u32::MAX;

/// What a scan has found so far. Threads add to it at the same time.
pub(super) struct Findings {
    /// For each wanted hash, the lowest position at which the disk has it.
    positions: Vec<AtomicU32>,
    /// For each frame: its long hash is right.
    is_kept: Vec<AtomicBool>,
    /// A bit for each block: its short hash is right.
    is_same: Vec<AtomicU64>,
}

impl Findings {
    pub(super) fn new(index: &PackIndex, wanted: &WantedHashes) -> Self {
        Self {
            positions: wanted.hashes.iter().map(|_| AtomicU32::new(NOT_FOUND)).collect(),
            is_kept: index.frames().iter().map(|_| AtomicBool::new(false)).collect(),
            is_same: (0..index.block_hashes().len().div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect(),
        }
    }

    /// Looks at `bytes`, which the disk holds at `piece`.
    pub(super) fn add(
        &self,
        index: &PackIndex,
        wanted: &WantedHashes,
        piece: &Piece,
        bytes: &[u8],
    ) {
        if piece.frames.is_empty() {
            return self.add_blocks(wanted, piece.offset, bytes, |_, _| {});
        }
        for number in piece.frames.clone() {
            let frame = &index.frames()[number];
            let start = usize::try_from(frame.disk_offset - piece.offset).expect("in a buffer");
            let found = &bytes[start..start + frame.disk_bytes as usize];
            let hashes = &index.block_hashes()[frame.first_block..];
            // the hash of the first block tells most frames of another image for less
            if block_hash(&found[..found.len().min(BLOCK as usize)]) == hashes[0]
                && frame.blake3 == Some(*blake3::hash(found).as_bytes())
            {
                self.is_kept[number].store(true, Ordering::Relaxed);
                continue;
            }
            self.add_blocks(wanted, frame.disk_offset, found, |at, hash| {
                if hashes[at] == hash {
                    let block = frame.first_block + at;
                    self.is_same[block / 64].fetch_or(1 << (block % 64), Ordering::Relaxed);
                }
            });
        }
    }

    /// Adds a disk that holds the packed image `old`, without reading it.
    pub(super) fn add_image(&self, index: &PackIndex, wanted: &WantedHashes, old: &PackIndex) {
        let at: HashMap<u32, usize> = blocks_of(index).collect();
        for (position, block) in blocks_of(old) {
            let hash = old.block_hashes()[block];
            if let Some(wanted) = wanted.find(hash) {
                self.positions[wanted].fetch_min(position, Ordering::Relaxed);
            }
            if let Some(&block) = at.get(&position)
                && index.block_hashes()[block] == hash
            {
                self.is_same[block / 64].fetch_or(1 << (block % 64), Ordering::Relaxed);
            }
        }
        for (frame, is_kept) in index.frames().iter().zip(&self.is_kept) {
            let mut blocks = frame.first_block..frame.first_block + frame.blocks();
            is_kept.store(blocks.all(|block| self.is_same(block)), Ordering::Relaxed);
        }
    }

    fn add_blocks(
        &self,
        wanted: &WantedHashes,
        offset: u64,
        bytes: &[u8],
        mut each: impl FnMut(usize, u64),
    ) {
        // an incomplete block at the end of the image is not looked for
        for (at, block) in bytes.chunks_exact(BLOCK as usize).enumerate() {
            let hash = if is_zero(block) { zero_hash() } else { block_hash(block) };
            each(at, hash);
            if hash != zero_hash()
                && let Some(wanted) = wanted.find(hash)
            {
                let position = position(offset) + u32::try_from(at).expect("in a buffer");
                self.positions[wanted].fetch_min(position, Ordering::Relaxed);
            }
        }
    }

    /// Decides about every frame, from what was added so far.
    pub(super) fn to_match(
        &self,
        index: &PackIndex,
        wanted: &WantedHashes,
        layout: Layout,
    ) -> Match {
        self.prefer_lasting_places(index, wanted);
        let mut sources = vec![BlockSource::Nowhere; index.block_hashes().len()];
        let states = index.frames().iter().enumerate().map(|(number, frame)| {
            let sources = &mut sources[frame.first_block..frame.first_block + frame.blocks()];
            for (at, source) in sources.iter_mut().enumerate() {
                *source = self.source(frame, frame.first_block + at, index, wanted);
            }
            let is_kept = self.is_kept[number].load(Ordering::Relaxed);
            match frame {
                PackFrame { blake3: None, .. } => FrameState::Zero,
                _ if is_head(frame) => FrameState::Head,
                _ if is_kept => FrameState::Kept,
                _ if !layout.is_scanned(frame) => FrameState::Fetched,
                _ if sources.contains(&BlockSource::Nowhere) => FrameState::Fetched,
                // only a forged block has the right short hash and the wrong long one
                _ if sources.iter().all(|&source| source == BlockSource::Same) => {
                    FrameState::Fetched
                }
                _ => FrameState::Moved,
            }
        });
        Match { states: states.collect(), sources }
    }

    /// Takes blocks rather from where they stay than from a place that is overwritten.
    fn prefer_lasting_places(&self, index: &PackIndex, wanted: &WantedHashes) {
        for (number, frame) in index.frames().iter().enumerate() {
            let is_kept = self.is_kept[number].load(Ordering::Relaxed);
            for at in 0..frame.blocks() {
                let block = frame.first_block + at;
                let hash = index.block_hashes()[block];
                if (is_kept || self.is_same(block))
                    && let Some(wanted) = wanted.find(hash)
                {
                    let position =
                        position(frame.disk_offset) + u32::try_from(at).expect("a frame is small");
                    self.positions[wanted].store(position, Ordering::Relaxed);
                }
            }
        }
    }

    fn is_same(&self, block: usize) -> bool {
        self.is_same[block / 64].load(Ordering::Relaxed) >> (block % 64) & 1 == 1
    }

    fn source(
        &self,
        frame: &PackFrame,
        block: usize,
        index: &PackIndex,
        wanted: &WantedHashes,
    ) -> BlockSource {
        let end = (block - frame.first_block + 1) as u64 * BLOCK;
        let hash = index.block_hashes()[block];
        if self.is_same(block) {
            BlockSource::Same
        } else if end > u64::from(frame.disk_bytes) {
            BlockSource::Nowhere
        } else if hash == zero_hash() {
            BlockSource::Zero
        } else {
            let found = wanted.find(hash).map(|at| self.positions[at].load(Ordering::Relaxed));
            found.filter(|&at| at != NOT_FOUND).map_or(BlockSource::Nowhere, BlockSource::At)
        }
    }
}

/// The position on the disk and the number of every block of data.
fn blocks_of(index: &PackIndex) -> impl Iterator<Item = (u32, usize)> + '_ {
    let data = index.frames().iter().filter(|frame| frame.blake3.is_some());
    data.flat_map(|frame| {
        (position(frame.disk_offset)..).zip(frame.first_block..).take(frame.blocks())
    })
}

/// The position of the block at `offset`, in blocks.
pub(super) fn position(offset: u64) -> u32 {
    u32::try_from(offset / BLOCK).expect("the layout was checked")
}

/// The short hash of a block of zeros.
fn zero_hash() -> u64 {
    static HASH: std::sync::LazyLock<u64> =
        std::sync::LazyLock::new(|| block_hash(&[0; BLOCK as usize]));
    *HASH
}

/// How each frame of an image gets onto one disk.
#[derive(Clone, Debug)]
pub(super) struct Match {
    /// For each frame of the index.
    pub(super) states: Vec<FrameState>,
    /// For each block of the index. Meaningless in frames that are kept.
    pub(super) sources: Vec<BlockSource>,
}

impl Match {
    /// The match of a disk of which nothing is used.
    pub(super) fn nothing(index: &PackIndex) -> Self {
        let state = |frame: &PackFrame| match frame {
            PackFrame { blake3: None, .. } => FrameState::Zero,
            _ if is_head(frame) => FrameState::Head,
            _ => FrameState::Fetched,
        };
        Self {
            states: index.frames().iter().map(state).collect(),
            sources: vec![BlockSource::Nowhere; index.block_hashes().len()],
        }
    }

    /// Decides to fetch the frames with these `numbers`.
    pub(super) fn fetch(&mut self, numbers: &[u32]) {
        numbers.iter().for_each(|&number| self.states[number as usize] = FrameState::Fetched);
    }

    /// What it comes to, in bytes. The frames `late`, ascending, were fetched after all.
    pub(super) fn report(
        &self,
        index: &PackIndex,
        stash_peak_blocks: usize,
        late: &[u32],
    ) -> DeltaReport {
        let mut report = DeltaReport {
            stash_peak_bytes: stash_peak_blocks as u64 * BLOCK,
            ..DeltaReport::default()
        };
        for ((frame, &state), number) in index.frames().iter().zip(&self.states).zip(0..) {
            let disk_bytes = u64::from(frame.disk_bytes);
            let is_late = late.binary_search(&number).is_ok();
            match if is_late { FrameState::Fetched } else { state } {
                FrameState::Zero => {}
                FrameState::Kept => report.kept_bytes += disk_bytes,
                FrameState::Moved => {
                    let sources = self.sources_of(frame).iter();
                    let same = sources.filter(|&&source| source == BlockSource::Same).count();
                    report.kept_bytes += same as u64 * BLOCK;
                    report.moved_bytes += disk_bytes - same as u64 * BLOCK;
                }
                FrameState::Head | FrameState::Fetched => {
                    report.fetched_bytes += disk_bytes;
                    report.source_bytes += u64::from(frame.file_bytes);
                }
            }
        }
        report
    }

    /// The sources of the blocks of `frame`.
    pub(super) fn sources_of(&self, frame: &PackFrame) -> &[BlockSource] {
        &self.sources[frame.first_block..frame.first_block + frame.blocks()]
    }

    /// Numbers of the frames with `state`, ascending.
    pub(super) fn frames(&self, state: FrameState) -> impl Iterator<Item = u32> + '_ {
        let states = self.states.iter().enumerate();
        let with_state = states.filter(move |(_, it)| **it == state);
        with_state.map(|(number, _)| u32::try_from(number).expect("at most 2^27 frames"))
    }
}
