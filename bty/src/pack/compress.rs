//! Compresses the frames of a packed image on all cores, in order.

use std::collections::VecDeque;
use std::io;

use crossbeam_channel::{Receiver, Sender, bounded};
use zstd::bulk::Compressor;

use super::format::BLOCK_BYTES;
use crate::extent::is_zero;
use crate::{CancelToken, Error, ErrorKind, Result, threads};

/// Data frames that one job compresses, so that a job takes long enough to be worth a message.
const FRAMES_PER_JOB: usize = 16;

/// A compressed part of the disk, in the order of the disk.
pub(super) enum Part {
    /// A run of this many zero bytes.
    Zeros(u64),
    Data(DataFrame),
}

pub(super) struct DataFrame {
    pub(super) encoded: Vec<u8>,
    pub(super) disk_bytes: u32,
    pub(super) blake3: [u8; 32],
    /// First 8 bytes of the hash of each block.
    pub(super) block_hashes: Vec<[u8; 8]>,
}

/// Cuts the data of a disk into frames, and compresses them on several threads.
pub(super) struct FrameCompressor {
    frame_bytes: usize,
    jobs: Sender<PackJob>,
    /// Parts that were not taken yet, in the order of the disk.
    queue: VecDeque<Queued>,
    queue_max: usize,
    /// Bytes of the next job. They begin at a multiple of `frame_bytes`.
    current: Vec<u8>,
    /// Offset on the disk of the end of `current`.
    position: u64,
    cancel: CancelToken,
}

enum Queued {
    Zeros(u64),
    Compressed(Receiver<io::Result<Vec<Part>>>),
}

struct PackJob {
    content: Vec<u8>,
    reply: Sender<io::Result<Vec<Part>>>,
}

impl FrameCompressor {
    pub(super) fn start(level: i32, frame_bytes: u32, cancel: &CancelToken) -> Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let frame_bytes = frame_bytes as usize;
        let (jobs, inbox) = bounded::<PackJob>(count);
        threads::start_some(count, || {
            let inbox = inbox.clone();
            threads::start("bty-pack", move || run_jobs(&inbox, level, frame_bytes)).map(drop)
        })?;
        Ok(Self {
            frame_bytes,
            jobs,
            queue: VecDeque::new(),
            queue_max: 2 * count,
            current: Vec::new(),
            position: 0,
            cancel: cancel.clone(),
        })
    }

    /// Adds the data at `offset` of the disk. Everything between the end of earlier data and
    /// `offset` is zero. Calls `sink` with parts that are complete.
    pub(super) fn add(
        &mut self,
        offset: u64,
        mut bytes: &[u8],
        sink: &mut dyn FnMut(Part) -> Result<()>,
    ) -> Result<()> {
        self.add_zeros(offset, sink)?;
        let job_bytes = self.frame_bytes * FRAMES_PER_JOB;
        while !bytes.is_empty() {
            let n = bytes.len().min(job_bytes - self.current.len());
            self.current.extend_from_slice(&bytes[..n]);
            self.position += n as u64;
            bytes = &bytes[n..];
            if self.current.len() == job_bytes {
                self.end_job(sink)?;
            }
        }
        Ok(())
    }

    /// Completes the last job. `disk_bytes` is the size of the disk image.
    pub(super) fn finish(
        mut self,
        disk_bytes: u64,
        sink: &mut dyn FnMut(Part) -> Result<()>,
    ) -> Result<()> {
        self.add_zeros(disk_bytes, sink)?;
        self.end_job(sink)?;
        while !self.queue.is_empty() {
            self.take_first(sink)?;
        }
        Ok(())
    }

    fn add_zeros(&mut self, end: u64, sink: &mut dyn FnMut(Part) -> Result<()>) -> Result<()> {
        if end < self.position {
            let message = format!("offset {end} of the image was read after {}", self.position);
            return Err(Error::new(ErrorKind::Host, message));
        }
        let frame = self.frame_bytes as u64;
        let to_boundary = |length: usize| length.next_multiple_of(self.frame_bytes) - length;
        // zeros complete the frame that data has begun; whole frames of zeros are not compressed
        let fill = (to_boundary(self.current.len()) as u64).min(end - self.position);
        self.fill(fill);
        let whole = (end - self.position) / frame * frame;
        if whole > 0 {
            self.end_job(sink)?;
            self.push(Queued::Zeros(whole), sink)?;
            self.position += whole;
        }
        self.fill(end - self.position);
        Ok(())
    }

    /// Appends `len` zeros, at most one frame.
    fn fill(&mut self, len: u64) {
        let len = usize::try_from(len).expect("at most one frame");
        self.current.resize(self.current.len() + len, 0);
        self.position += len as u64;
    }

    fn end_job(&mut self, sink: &mut dyn FnMut(Part) -> Result<()>) -> Result<()> {
        if self.current.is_empty() {
            return Ok(());
        }
        let (reply, receiver) = bounded(1);
        let content = std::mem::take(&mut self.current);
        self.jobs.send(PackJob { content, reply }).map_err(|_| thread_ended())?;
        self.push(Queued::Compressed(receiver), sink)
    }

    fn push(&mut self, queued: Queued, sink: &mut dyn FnMut(Part) -> Result<()>) -> Result<()> {
        self.queue.push_back(queued);
        while self.queue.len() > self.queue_max {
            self.take_first(sink)?;
        }
        Ok(())
    }

    fn take_first(&mut self, sink: &mut dyn FnMut(Part) -> Result<()>) -> Result<()> {
        self.cancel.check()?;
        let parts = match self.queue.pop_front() {
            None => return Ok(()),
            Some(Queued::Zeros(len)) => return sink(Part::Zeros(len)),
            Some(Queued::Compressed(receiver)) => receiver.recv().map_err(|_| thread_ended())?,
        };
        parts
            .map_err(|e| Error::from_io(ErrorKind::Host, "compressing", e))?
            .into_iter()
            .try_for_each(sink)
    }
}

fn run_jobs(inbox: &Receiver<PackJob>, level: i32, frame_bytes: usize) {
    let mut compressor = compressor(level);
    for PackJob { content, reply } in inbox {
        let parts = match &mut compressor {
            Ok(compressor) => {
                content.chunks(frame_bytes).map(|frame| compress(compressor, frame)).collect()
            }
            Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
        };
        // fails only when the packing was abandoned
        let _ = reply.send(parts);
    }
}

fn compressor(level: i32) -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(level)?;
    compressor.include_checksum(true)?;
    compressor.include_contentsize(true)?;
    Ok(compressor)
}

fn compress(compressor: &mut Compressor<'_>, frame: &[u8]) -> io::Result<Part> {
    if is_zero(frame) {
        return Ok(Part::Zeros(frame.len() as u64));
    }
    Ok(Part::Data(DataFrame {
        encoded: compressor.compress(frame)?,
        disk_bytes: u32::try_from(frame.len()).expect("a frame has at most 1 MiB"),
        blake3: *blake3::hash(frame).as_bytes(),
        block_hashes: frame.chunks(BLOCK_BYTES as usize).map(short_hash).collect(),
    }))
}

/// The hash of `block` as the block table has it, as a little-endian number.
pub(crate) fn block_hash(block: &[u8]) -> u64 {
    u64::from_le_bytes(short_hash(block))
}

/// First 8 bytes of the BLAKE3 hash of `block`.
pub(super) fn short_hash(block: &[u8]) -> [u8; 8] {
    let hash = blake3::hash(block);
    hash.as_bytes()[..8].try_into().expect("8 of 32 bytes")
}

fn thread_ended() -> Error {
    Error::new(ErrorKind::Host, "a compression thread ended unexpectedly")
}
