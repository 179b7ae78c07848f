//! Reads a packed image from start to end: one thread reads the file, others decode its frames into
//! the buffers that are written, and check each against the index before it is delivered.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender, bounded};
use zstd::bulk::Decompressor;

use super::format::zero_frame;
use super::index::{PackFrame, PackIndex};
use crate::extent::{BUFFER_BYTES, Buffer, Extent, ExtentReader, Pool, ReadDigests};
use crate::image::ordered::{Numbered, OrderedResults, ReaderDropped};
use crate::read_context::{ReadContext, ReadCounts};
use crate::source::read_ahead::{PendingDigests, ReadAhead};
use crate::{CancelToken, Error, ErrorKind, Result, Source, threads};

/// The extents of a packed image.
pub(crate) struct PackedExtents {
    steps: OrderedResults<Option<Extent>>,
    digest: PendingDigests,
    counts: Arc<ReadCounts>,
    has_ended: bool,
}

impl PackedExtents {
    /// Starts reading `source`, whose index is `index`.
    pub(crate) fn start(
        source: &Source,
        index: &Arc<PackIndex>,
        context: &ReadContext,
    ) -> Result<Self> {
        let workers = context.threads.max(1);
        let (mut steps, sender) = OrderedResults::new(workers + 2, &context.cancel);
        let (jobs, inbox) = bounded(1);
        let (file, digest) = ReadAhead::start(source, context)?;
        let producer = FrameProducer {
            file,
            index: Arc::clone(index),
            location: source.location().to_string(),
            pool: Arc::clone(&context.pool),
            stop: steps.stop().clone(),
            steps: sender.clone(),
            jobs,
            number: 0,
        };
        steps.spawn("bty-frames", move || producer.run())?;
        threads::start_some(workers, || {
            let (inbox, sender) = (inbox.clone(), sender.clone());
            let worker =
                FrameDecoder { index: Arc::clone(index), location: source.location().to_string() };
            steps.spawn("bty-unpack", move || worker.run(&inbox, &sender))
        })?;
        Ok(Self { steps, digest, counts: Arc::clone(&context.counts), has_ended: false })
    }
}

impl ExtentReader for PackedExtents {
    fn next(&mut self) -> Result<Option<Extent>> {
        if self.has_ended {
            return Ok(None);
        }
        let extent = self.steps.next()?;
        let len = match &extent {
            Some(Extent::Data { block, .. }) => block.len() as u64,
            Some(Extent::Zero { len, .. }) => *len,
            None => {
                self.has_ended = true;
                0
            }
        };
        self.counts.decoded_bytes.fetch_add(len, Ordering::Relaxed);
        Ok(extent)
    }

    fn digests(&self) -> ReadDigests {
        let wire = *self.digest.lock().expect("no holder panics");
        ReadDigests { wire: wire.unwrap_or_default(), image: None }
    }
}

/// Frames that are decoded into one buffer, and their bytes in the file.
struct FrameJob {
    number: u64,
    frames: Range<usize>,
    encoded: Vec<u8>,
    buffer: Buffer,
}

/// The thread that reads the file.
struct FrameProducer {
    file: ReadAhead,
    index: Arc<PackIndex>,
    location: String,
    pool: Arc<Pool>,
    stop: CancelToken,
    steps: Sender<Numbered<Option<Extent>>>,
    jobs: Sender<FrameJob>,
    number: u64,
}

impl FrameProducer {
    fn run(mut self) {
        let last = match self.produce() {
            Ok(Ok(())) => Ok(None),
            Ok(Err(ReaderDropped)) => return,
            Err(error) => Err(error),
        };
        let _ = self.send(last);
    }

    fn produce(&mut self) -> Result<Result<(), ReaderDropped>> {
        let index = Arc::clone(&self.index);
        let mut next = 0;
        while let Some(frame) = index.frames().get(next) {
            let sent = if frame.blake3.is_none() {
                self.read_zeros(frame)?;
                next += 1;
                let (offset, len) = (frame.disk_offset, u64::from(frame.disk_bytes));
                self.send(Ok(Some(Extent::Zero { offset, len })))
            } else {
                let frames = batch(index.frames(), next);
                next = frames.end;
                self.read(frames)?
            };
            if sent.is_err() {
                return Ok(sent);
            }
        }
        // the index and the seek table, which are part of the file's digest
        io::copy(&mut self.file, &mut io::sink()).map_err(|e| self.failed(e))?;
        Ok(Ok(()))
    }

    fn read(&mut self, frames: Range<usize>) -> Result<Result<(), ReaderDropped>> {
        let buffer = self.pool.take(&self.stop)?;
        let len: usize =
            self.index.frames()[frames.clone()].iter().map(|f| f.file_bytes as usize).sum();
        let mut encoded = vec![0; len];
        self.file.read_exact(&mut encoded).map_err(|e| self.failed(e))?;
        self.number += 1;
        let job = FrameJob { number: self.number - 1, frames, encoded, buffer };
        Ok(self.jobs.send(job).map_err(|_| ReaderDropped))
    }

    /// Reads a frame of zeros. Other programs decode it, so it must really be one.
    fn read_zeros(&mut self, frame: &PackFrame) -> Result<()> {
        let mut encoded = vec![0; frame.file_bytes as usize];
        self.file.read_exact(&mut encoded).map_err(|e| self.failed(e))?;
        if encoded != zero_frame(frame.disk_bytes) {
            return Err(frame_error(&self.location, frame, "it is not a frame of zeros"));
        }
        Ok(())
    }

    fn send(&mut self, step: Result<Option<Extent>>) -> Result<(), ReaderDropped> {
        self.number += 1;
        self.steps.send((self.number - 1, step)).map_err(|_| ReaderDropped)
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::from_io(ErrorKind::Source, format!("reading {}", self.location), error)
    }
}

/// The data frames from `first` on that fit into one buffer.
fn batch(frames: &[PackFrame], first: usize) -> Range<usize> {
    let mut bytes = 0;
    let fits = |frame: &&PackFrame| {
        bytes += frame.disk_bytes as usize;
        frame.blake3.is_some() && bytes <= BUFFER_BYTES
    };
    first..first + frames[first..].iter().take_while(fits).count()
}

/// A thread that decodes frames.
struct FrameDecoder {
    index: Arc<PackIndex>,
    location: String,
}

impl FrameDecoder {
    fn run(&self, inbox: &Receiver<FrameJob>, steps: &Sender<Numbered<Option<Extent>>>) {
        let mut decoder = Decompressor::new();
        for job in inbox {
            let number = job.number;
            let step = match &mut decoder {
                Ok(decoder) => self.decode(job, decoder).map(Some),
                Err(e) => Err(Error::new(ErrorKind::Host, "preparing a decoder")
                    .because(io::Error::from(e.kind()))),
            };
            // fails only when the reader was dropped
            let _ = steps.send((number, step));
        }
    }

    fn decode(&self, job: FrameJob, decoder: &mut Decompressor<'_>) -> Result<Extent> {
        let FrameJob { frames, encoded, mut buffer, .. } = job;
        let frames = &self.index.frames()[frames];
        let (mut read, mut written) = (0, 0);
        for frame in frames {
            let encoded = &encoded[read..read + frame.file_bytes as usize];
            let decoded = &mut buffer[written..written + frame.disk_bytes as usize];
            decode_frame(frame, encoded, decoded, decoder)
                .map_err(|why| self.differs(frame, why))?;
            read += encoded.len();
            written += decoded.len();
        }
        Ok(Extent::Data { offset: frames[0].disk_offset, block: buffer.freeze(written) })
    }

    fn differs(&self, frame: &PackFrame, why: &str) -> Error {
        frame_error(&self.location, frame, why)
    }
}

/// Decodes a data frame into `decoded`, which has its length, and compares it with the index.
pub(super) fn decode_frame(
    frame: &PackFrame,
    encoded: &[u8],
    decoded: &mut [u8],
    decoder: &mut Decompressor<'_>,
) -> Result<(), &'static str> {
    match decoder.decompress_to_buffer(encoded, decoded) {
        Ok(len) if len == decoded.len() => {}
        Ok(_) => return Err("it has another length"),
        Err(_) => return Err("it cannot be decompressed"),
    }
    if frame.blake3 != Some(*blake3::hash(decoded).as_bytes()) {
        return Err("it has another hash");
    }
    Ok(())
}

/// The error for a frame that is not what the index says.
pub(super) fn frame_error(location: &str, frame: &PackFrame, why: &str) -> Error {
    let message = format!(
        "the frame at offset {} of {location} differs from the index: {why}",
        frame.file_offset
    );
    Error::new(ErrorKind::Integrity, message)
        .with_path(location)
        .at_offset(frame.file_offset)
        .hint("fetch or pack the image again")
}
