//! Finds out what the disks hold, and whether a delta flash pays. Writes nothing.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::layout::{Layout, ScanPart, pieces, region_bytes};
use super::matches::{Findings, FrameState, Match, WantedHashes};
use super::policy::{DiskClass, Estimate, Sample, proof_of};
use super::scan::scan;
use crate::extent::{Buffer, Pool, zeroed};
use crate::flash::device_io::index as in_buffer;
use crate::flash::target::TargetState;
use crate::flash::writer::TargetWriter;
use crate::flash::{DeltaMode, FlashOptions, Proof};
use crate::image::Image;
use crate::pack::{BLOCK_BYTES, PackFrame, PackIndex};
use crate::size::{MIB, align_up};
use crate::source::Location;
use crate::{CancelToken, Result};

/// Images with less data than this are scanned without a sample, which would take as long.
const SAMPLED_FROM: u64 = 16 * MIB;
/// Frames, or parts of frames of zeros, in a sample.
const SAMPLES: usize = 64;
/// Length of a sample in a frame of zeros, in bytes.
const ZEROS_SAMPLE: usize = 64 << 10;
/// Pieces that are read to measure the rate of a disk.
const RATE_PIECES: usize = 4;
/// Rate of a source on this machine: it never is what a flash waits for.
const LOCAL_RATE: u64 = 2 << 30;

/// What the survey of all targets shares.
pub(super) struct Survey {
    pub(super) index: Arc<PackIndex>,
    wanted: WantedHashes,
    /// Bytes per second; not measured if nothing depends on it.
    source_rate: u64,
    file_bytes: u64,
    /// A delta flash is demanded, even if it is slower.
    is_demanded: bool,
    proof: Proof,
}

impl Survey {
    pub(super) fn new(
        image: &Image,
        index: Arc<PackIndex>,
        options: &FlashOptions,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let is_demanded = options.delta == DeltaMode::Always;
        Ok(Self {
            wanted: WantedHashes::new(&index),
            source_rate: if is_demanded { LOCAL_RATE } else { source_rate(image, cancel)? },
            file_bytes: image.info().source_bytes.unwrap_or(index.frames_file_bytes()),
            is_demanded,
            proof: proof_of(options),
            index,
        })
    }

    /// Surveys all targets, side by side. `None` for a target that has failed, or for which a delta
    /// flash does not pay.
    pub(super) fn run(
        self: &Arc<Self>,
        writers: &mut [TargetWriter],
        layouts: &[Layout],
    ) -> Result<Vec<Option<Match>>> {
        let slots: Arc<Vec<Mutex<Option<Match>>>> =
            Arc::new(writers.iter().map(|_| Mutex::new(None)).collect());
        let running: Vec<_> = writers
            .iter()
            .enumerate()
            .map(|(i, writer)| {
                let (survey, slots, layout) = (Arc::clone(self), Arc::clone(&slots), layouts[i]);
                let class = DiskClass::of(&writer.disk);
                writer.begin(move |target| match survey.of_target(target, layout, class) {
                    Ok(found) => *slots[i].lock().expect("nobody panics holding it") = found,
                    Err(error) => target.fail(error),
                })
            })
            .collect();
        for (writer, running) in writers.iter_mut().zip(&running) {
            // if the device hangs, the target has failed
            let _ = writer.wait(running);
            writer.state.io.cancel.check()?;
        }
        let take =
            |slot: &Mutex<Option<Match>>| slot.lock().expect("nobody panics holding it").take();
        Ok(slots.iter().map(take).collect())
    }

    /// Surveys one target. `None` if a delta flash does not pay.
    pub(super) fn of_target(
        &self,
        target: &TargetState,
        layout: Layout,
        class: DiskClass,
    ) -> Result<Option<Match>> {
        let is_sampled = !self.is_demanded && self.index.data_bytes() >= SAMPLED_FROM;
        let mut estimate = self.estimate(layout, class);
        if is_sampled {
            estimate.disk_rate = self.disk_rate(target, layout)?;
            let sample = self.sample_data(target, layout)?;
            (estimate.moved_bytes, estimate.fetched_bytes) = sample.guess(estimate.data_bytes);
            if !estimate.pays() {
                return Ok(None);
            }
        }
        let findings = Findings::new(&self.index, &self.wanted);
        let started = Instant::now();
        scan(target, &self.index, &self.wanted, layout, ScanPart::Data, &findings)?;
        estimate.disk_rate = rate(estimate.scan_bytes, started);
        estimate.scan_bytes = 0;
        let matches = findings.to_match(&self.index, &self.wanted, layout);
        let missing_bytes = self.bytes_of(&matches, FrameState::Fetched);
        let matches = if self.should_scan_zeros(target, layout, &estimate, missing_bytes)? {
            scan(target, &self.index, &self.wanted, layout, ScanPart::Zeros, &findings)?;
            findings.to_match(&self.index, &self.wanted, layout)
        } else {
            matches
        };
        estimate.moved_bytes = self.bytes_of(&matches, FrameState::Moved);
        estimate.fetched_bytes = self.bytes_of(&matches, FrameState::Fetched);
        Ok((self.is_demanded || estimate.pays()).then_some(matches))
    }

    /// The estimate before anything of the disk is known.
    fn estimate(&self, layout: Layout, disk: DiskClass) -> Estimate {
        let data_bytes = self.index.data_bytes();
        Estimate {
            scan_bytes: region_bytes(&self.index, layout, ScanPart::Data),
            data_bytes,
            moved_bytes: 0,
            fetched_bytes: data_bytes,
            file_bytes: self.file_bytes,
            source_rate: self.source_rate,
            disk_rate: 0,
            disk,
            proof: self.proof,
        }
    }

    fn bytes_of(&self, matches: &Match, state: FrameState) -> u64 {
        let frames = matches.frames(state).map(|n| self.index.frames()[n as usize].disk_bytes);
        frames.map(u64::from).sum()
    }

    /// True if reading the places where the image has zeros is likely to find enough of the
    /// `missing_bytes`.
    fn should_scan_zeros(
        &self,
        target: &TargetState,
        layout: Layout,
        estimate: &Estimate,
        missing_bytes: u64,
    ) -> Result<bool> {
        let region = region_bytes(&self.index, layout, ScanPart::Zeros);
        if missing_bytes == 0 || region == 0 || self.is_demanded {
            return Ok(missing_bytes > 0 && region > 0);
        }
        let sample = self.sample_zeros(target, layout)?;
        Ok(estimate.finding_pays(region, sample.found_bytes(region).min(missing_bytes)))
    }

    /// Looks at some frames of data, evenly spread.
    fn sample_data(&self, target: &TargetState, layout: Layout) -> Result<Sample> {
        let is_usable = |frame: &&PackFrame| {
            frame.blake3.is_some()
                && layout.is_scanned(frame)
                && frame.disk_bytes.is_multiple_of(BLOCK_BYTES)
        };
        let frames: Vec<_> = self.index.frames().iter().filter(is_usable).collect();
        let mut sample = Sample::default();
        let mut buffer = Pool::new(1).take(&target.io.cancel)?;
        for frame in frames.iter().step_by(frames.len().div_ceil(SAMPLES).max(1)) {
            let len = frame.disk_bytes as usize;
            let Some(found) = read(target, frame.disk_offset, len, &mut buffer)? else { continue };
            sample.frames += 1;
            if frame.blake3 == Some(*blake3::hash(found).as_bytes()) {
                sample.kept += 1;
            } else {
                self.look_for_blocks(found, &mut sample);
            }
        }
        Ok(sample)
    }

    /// Looks at some places where the image has zeros, evenly spread.
    fn sample_zeros(&self, target: &TargetState, layout: Layout) -> Result<Sample> {
        let pieces: Vec<_> = pieces(&self.index, layout, ScanPart::Zeros).collect();
        let mut sample = Sample::default();
        let mut buffer = Pool::new(1).take(&target.io.cancel)?;
        for piece in pieces.iter().step_by(pieces.len().div_ceil(SAMPLES).max(1)) {
            let len = piece.len.min(ZEROS_SAMPLE);
            if let Some(found) = read(target, piece.offset, len, &mut buffer)? {
                sample.frames += 1;
                self.look_for_blocks(found, &mut sample);
            }
        }
        Ok(sample)
    }

    fn look_for_blocks(&self, bytes: &[u8], sample: &mut Sample) {
        for block in bytes.chunks_exact(BLOCK_BYTES as usize) {
            sample.blocks += 1;
            sample.wanted += u32::from(self.wanted.has(block));
        }
    }

    /// Measures how fast the disk is read, in bytes per second.
    fn disk_rate(&self, target: &TargetState, layout: Layout) -> Result<u64> {
        let mut buffer = Pool::new(1).take(&target.io.cancel)?;
        let started = Instant::now();
        let mut bytes = 0;
        for piece in pieces(&self.index, layout, ScanPart::Data).take(RATE_PIECES) {
            if read(target, piece.offset, piece.len, &mut buffer)?.is_some() {
                bytes += piece.len as u64;
            }
        }
        Ok(rate(bytes, started))
    }
}

/// Reads `len` bytes at `offset`; `None` if they cannot be read.
fn read<'b>(
    target: &TargetState,
    offset: u64,
    len: usize,
    buffer: &'b mut Buffer,
) -> Result<Option<&'b [u8]>> {
    // the image may end inside a sector, and the disk goes on
    let whole = in_buffer(align_up(len as u64, target.io.sector()));
    let is_readable = target.io.read(offset, &mut buffer[..whole]).is_ok();
    target.io.cancel.check()?;
    Ok(is_readable.then(|| &buffer[..len]))
}

/// Measures how fast the source is read, in bytes per second.
fn source_rate(image: &Image, cancel: &CancelToken) -> Result<u64> {
    let source = image.source();
    if matches!(source.location(), Location::File(_)) {
        return Ok(LOCAL_RATE);
    }
    let mut bytes = zeroed(in_buffer(MIB))?;
    let started = Instant::now();
    let read = source.read_at(&mut bytes, 0, cancel)? as u64;
    Ok(rate(read, started))
}

/// Bytes per second.
fn rate(bytes: u64, since: Instant) -> u64 {
    let micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1_000_000) / micros
}
