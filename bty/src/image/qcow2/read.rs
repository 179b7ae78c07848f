//! The data path: windows of the map are read in the order of the file, decompressed on several
//! threads, and delivered in a fixed order.
//!
//! ```text
//! producer: walk the map -> sort by file offset -> batch = runs that fill one buffer -> read
//! read -> (compressed: workers) -> reader, which delivers the batches by number
//! ```
//!
//! The producer takes buffers from the pool in the order of the batches. So the batch that is due
//! always has a buffer, and no pool is small enough for a deadlock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::cursor::{Cursor, TAIL_BYTES};
use super::header::{ClusterCompression, DAMAGED, refuse};
use super::map::{Check, Run, Walker, Window};
use super::unpack::Unpacker;
use super::{Qcow2, Source};
use crate::digest::Checksums;
use crate::extent::{
    BUFFER_ALIGN, BUFFER_BYTES, Buffer, Extent, ExtentReader, Pool, ReadDigests, split_zeros,
};
use crate::image::ordered::{Numbered, OrderedResults, ReaderDropped};
use crate::read_context::{ReadContext, ReadCounts};
use crate::{CancelToken, Error, ErrorKind, Result, threads};

/// Memory of one worker in bytes: the compressed bytes of its batch and of one in the queue, and a
/// zstd window.
const WORKER_BYTES: u64 = 16 << 20;

/// What the producer and the workers send to the reader, each with its number in the order of
/// delivery.
enum Step {
    /// Ranges of zeros: offset on the disk, and length.
    Zeros(Vec<(u64, u64)>),
    Extents(Vec<Extent>),
    /// All was read. The digests of the file, if they were needed.
    End(Option<Checksums>),
}

/// Reads the extents of an image.
pub(super) struct Reader {
    steps: OrderedResults<Step>,
    zeros: std::vec::IntoIter<(u64, u64)>,
    extents: VecDeque<Extent>,
    /// Set by [`Step::End`].
    end: Option<Option<Checksums>>,
    counts: Arc<ReadCounts>,
}

impl Reader {
    pub(super) fn start(image: &Qcow2, source: &Source, context: &ReadContext) -> Result<Self> {
        let workers =
            (context.memory_bytes / WORKER_BYTES).clamp(1, context.threads.max(1) as u64) as usize;
        let (steps, step_sender) = OrderedResults::new(workers + 2, &context.cancel);
        let (job_sender, jobs) = bounded(1);
        let mut reader = Self {
            steps,
            zeros: Vec::new().into_iter(),
            extents: VecDeque::new(),
            end: None,
            counts: Arc::clone(&context.counts),
        };
        let producer = Producer {
            image: image.clone(),
            source: source.clone(),
            pool: Arc::clone(&context.pool),
            counts: Arc::clone(&context.counts),
            stop: reader.steps.stop().clone(),
            needs_digest: context.needs_digest || !source.expected.is_empty(),
            steps: step_sender.clone(),
            jobs: job_sender,
            in_disk_order: context.in_disk_order,
            number: 0,
        };
        reader.steps.spawn("qcow2 read", move || producer.run())?;
        threads::start_some(workers, || {
            let (jobs, steps) = (jobs.clone(), step_sender.clone());
            let (compression, cluster) =
                (image.header.compression, image.header.cluster_bytes() as usize);
            reader
                .steps
                .spawn("qcow2 unpack", move || decompress_jobs(&jobs, &steps, compression, cluster))
        })?;
        Ok(reader)
    }
}

impl ExtentReader for Reader {
    fn next(&mut self) -> Result<Option<Extent>> {
        loop {
            let zero = || self.zeros.next().map(|(offset, len)| Extent::Zero { offset, len });
            if let Some(extent) = self.extents.pop_front().or_else(zero) {
                let len = match &extent {
                    Extent::Data { block, .. } => block.len() as u64,
                    Extent::Zero { len, .. } => *len,
                };
                self.counts.decoded_bytes.fetch_add(len, Ordering::Relaxed);
                return Ok(Some(extent));
            }
            if self.end.is_some() {
                return Ok(None);
            }
            match self.steps.next()? {
                Step::Zeros(zeros) => self.zeros = zeros.into_iter(),
                Step::Extents(extents) => self.extents = extents.into(),
                Step::End(digest) => self.end = Some(digest),
            }
        }
    }

    fn digests(&self) -> ReadDigests {
        ReadDigests { wire: self.end.flatten().unwrap_or_default(), image: None }
    }
}

/// The thread that walks the map and reads the file.
struct Producer {
    image: Qcow2,
    source: Source,
    /// Read every byte of the file, for its digest.
    needs_digest: bool,
    pool: Arc<Pool>,
    counts: Arc<ReadCounts>,
    stop: CancelToken,
    steps: Sender<Numbered<Step>>,
    jobs: Sender<UnpackJob>,
    /// Read in the order of the disk instead of the file's.
    in_disk_order: bool,
    /// Number of the next step.
    number: u64,
}

// In results of results, the outer error is that of the image, which the reader gets. The inner one
// says that the reader was dropped, so that nobody would get anything.
impl Producer {
    fn run(mut self) {
        let step = match self.produce() {
            Ok(Ok(digest)) => Ok(Step::End(digest)),
            Ok(Err(ReaderDropped)) => return,
            Err(error) => Err(error.with_path(&self.source.location)),
        };
        let _ = self.send(step);
    }

    fn sort(&self, window: &mut Window) {
        if self.in_disk_order {
            window.runs.sort_unstable_by_key(|run| run.guest);
        } else {
            window.runs.sort_unstable_by_key(|run| (run.host, run.guest));
        }
    }

    fn send(&mut self, step: Result<Step>) -> Result<(), ReaderDropped> {
        self.number += 1;
        self.steps.send((self.number - 1, step)).map_err(|_| ReaderDropped)
    }

    fn produce(&mut self) -> Result<Result<Option<Checksums>, ReaderDropped>> {
        let (image, source, stop) = (self.image.clone(), self.source.clone(), self.stop.clone());
        let mut walker = Walker::new(&image, &source, 0..u64::MAX, &stop);
        if self.needs_digest {
            walker.collect_checks(&image.checks);
        }
        let mut window = Window::default();
        walker.fill(&mut window)?;
        self.sort(&mut window);
        let checks = walker.take_checks().filter(|_| walker.is_done() && is_forward(&window.runs));
        let (mut cursor, digest) = self.cursor(checks)?;
        loop {
            let zeros = std::mem::take(&mut window.zeros);
            if !zeros.is_empty() && self.send(Ok(Step::Zeros(zeros))).is_err() {
                return Ok(Err(ReaderDropped));
            }
            let mut runs = Batches::new(&window.runs, image.cluster_bytes());
            while let Some(batch) = runs.next_batch() {
                if let Err(ReaderDropped) = self.read(&mut cursor, batch)? {
                    return Ok(Err(ReaderDropped));
                }
            }
            if walker.is_done() {
                let found = cursor.finish(image.file_bytes)?;
                return Ok(Ok(digest.or(found)));
            }
            window.runs.clear();
            walker.fill(&mut window)?;
            self.sort(&mut window);
        }
    }

    /// The cursor. Also returns the digest, if it needed a separate pass because the file cannot be
    /// read strictly front to back.
    fn cursor(&self, checks: Option<Vec<Check>>) -> Result<(Cursor, Option<Checksums>)> {
        let counts = Some(Arc::clone(&self.counts));
        if !self.needs_digest {
            return Ok((Cursor::new(&self.source, &self.stop, counts), None));
        }
        if let Some(checks) = checks {
            return Ok((Cursor::whole(&self.source, &self.stop, counts, checks), None));
        }
        if self.source.bytes.as_file().is_none() {
            return Err(Error::new(
                ErrorKind::Source,
                "the image is too fragmented to check its digest while it is read over the network",
            )
            .hint("download it first, then use the file"));
        }
        let pass = Cursor::whole(&self.source, &self.stop, counts, Vec::new());
        let digest = pass.finish(self.image.file_bytes)?;
        Ok((Cursor::new(&self.source, &self.stop, None), digest))
    }

    /// Reads a batch into one buffer. Sends it to the workers if it has compressed clusters, else to
    /// the reader.
    fn read(&mut self, cursor: &mut Cursor, batch: Vec<Run>) -> Result<Result<(), ReaderDropped>> {
        let mut buffer = self.pool.take(&self.stop)?;
        let (places, segments) = lay_out(&batch, self.image.cluster_bytes());
        let mut packed = Vec::new();
        let mut parts = Vec::new();
        for (run, at) in batch.into_iter().zip(places) {
            if run.packed == 0 {
                let part = &mut buffer[at..at + run.len as usize];
                read_padded(cursor, part, run.host, self.image.file_bytes)?;
            } else {
                let start = packed.len();
                packed.resize(start + run.packed as usize, 0);
                cursor.read(&mut packed[start..], run.host)?;
                parts.push((run, start, at));
            }
        }
        if parts.is_empty() {
            return Ok(self.send(Ok(Step::Extents(cut(buffer, &segments)))));
        }
        let path = self.source.location.to_string();
        let job = UnpackJob { number: self.number, buffer, segments, packed, parts, path };
        self.number += 1;
        Ok(self.jobs.send(job).map_err(|_| ReaderDropped))
    }
}

/// A batch with compressed clusters.
struct UnpackJob {
    number: u64,
    buffer: Buffer,
    segments: Vec<Segment>,
    packed: Vec<u8>,
    /// Runs, each with the start of its compressed bytes, and the place of its cluster in the
    /// buffer.
    parts: Vec<(Run, usize, usize)>,
    path: String,
}

impl UnpackJob {
    fn run(mut self, unpacker: &mut Unpacker, cluster: usize) -> Result<Step> {
        for (run, start, at) in &self.parts {
            let packed = &self.packed[*start..start + run.packed as usize];
            if !unpacker.unpack(packed, &mut self.buffer[*at..at + cluster]) {
                return Err(damaged(run).with_path(&self.path));
            }
        }
        Ok(Step::Extents(cut(self.buffer, &self.segments)))
    }
}

/// The body of a thread that decompresses.
fn decompress_jobs(
    jobs: &Receiver<UnpackJob>,
    steps: &Sender<Numbered<Step>>,
    compression: ClusterCompression,
    cluster: usize,
) {
    let mut unpacker = Unpacker::new(compression);
    for job in jobs {
        let number = job.number;
        let step = match &mut unpacker {
            Ok(unpacker) => job.run(unpacker, cluster),
            Err(_) => Err(Error::new(ErrorKind::Host, "setting up a decoder")),
        };
        if steps.send((number, step)).is_err() {
            return;
        }
    }
}

/// A part of a buffer that is contiguous on the disk.
#[derive(Debug, PartialEq, Eq)]
struct Segment {
    /// Offset on the disk.
    guest: u64,
    /// Offset in the buffer.
    at: usize,
    len: usize,
}

/// The extents of a filled buffer; blocks of zeros become extents of zeros.
fn cut(buffer: Buffer, segments: &[Segment]) -> Vec<Extent> {
    let used = segments.last().map_or(0, |segment| segment.at + segment.len);
    let block = buffer.freeze(used);
    segments.iter().flat_map(|s| split_zeros(s.guest, &block.slice(s.at..s.at + s.len))).collect()
}

/// Space of a run in a buffer, in bytes. A compressed cluster is decompressed as a whole, even if
/// the disk ends within it.
fn space(run: &Run, cluster: u64) -> usize {
    (if run.packed == 0 { run.len } else { cluster }) as usize
}

/// Splits sorted runs into batches that fit one buffer each.
struct Batches<'a> {
    runs: std::slice::Iter<'a, Run>,
    /// The rest of a run that was split.
    rest: Option<Run>,
    cluster: u64,
}

impl<'a> Batches<'a> {
    fn new(runs: &'a [Run], cluster: u64) -> Self {
        Self { runs: runs.iter(), rest: None, cluster }
    }

    fn next_batch(&mut self) -> Option<Vec<Run>> {
        let mut batch = Vec::new();
        let (mut used, mut packed) = (0, 0);
        while let Some(run) = self.rest.take().or_else(|| self.runs.next().copied()) {
            let whole = run.packed > 0 || run.len <= BUFFER_BYTES as u64;
            if !whole && batch.is_empty() {
                let len = BUFFER_BYTES as u64;
                self.rest = Some(Run {
                    host: run.host + len,
                    guest: run.guest + len,
                    len: run.len - len,
                    packed: 0,
                });
                return Some(vec![Run { len, ..run }]);
            }
            let space = if whole {
                space(&run, self.cluster).next_multiple_of(BUFFER_ALIGN)
            } else {
                usize::MAX
            };
            let fits = space <= BUFFER_BYTES - used
                && (batch.is_empty() || packed + run.packed as usize <= BUFFER_BYTES);
            if !fits {
                self.rest = Some(run);
                break;
            }
            used += space;
            packed += run.packed as usize;
            batch.push(run);
        }
        (!batch.is_empty()).then_some(batch)
    }
}

/// Places the runs of a batch in a buffer: adjacent if they are adjacent on the disk, else aligned.
/// Returns the offset of each run in the buffer, and the segments in the order of the buffer.
fn lay_out(batch: &[Run], cluster: u64) -> (Vec<usize>, Vec<Segment>) {
    let mut order: Vec<usize> = (0..batch.len()).collect();
    order.sort_unstable_by_key(|&index| batch[index].guest);
    let mut places = vec![0; batch.len()];
    let mut segments: Vec<Segment> = Vec::new();
    let mut used = 0_usize;
    for index in order {
        let run = &batch[index];
        match segments.last_mut() {
            Some(last) if last.guest + last.len as u64 == run.guest => {
                places[index] = last.at + last.len;
                last.len += run.len as usize;
            }
            _ => {
                places[index] = used.next_multiple_of(BUFFER_ALIGN);
                segments.push(Segment {
                    guest: run.guest,
                    at: places[index],
                    len: run.len as usize,
                });
            }
        }
        used = places[index] + space(run, cluster);
    }
    (places, segments)
}

/// True when runs, sorted, can be read without a step back of more than the shared sector of two
/// compressed clusters.
fn is_forward(runs: &[Run]) -> bool {
    let mut end = 0;
    runs.iter().all(|run| {
        let forward = run.host + TAIL_BYTES as u64 >= end;
        end = end.max(run.host_end());
        forward
    })
}

/// Fills `buf` from `host`. Beyond the end of the file it is zero, because the file may end within
/// the last cluster.
fn read_padded(cursor: &mut Cursor, buf: &mut [u8], host: u64, file_bytes: u64) -> Result<()> {
    let present = (buf.len() as u64).min(file_bytes.saturating_sub(host)) as usize;
    let (present, missing) = buf.split_at_mut(present);
    missing.fill(0);
    if present.is_empty() { Ok(()) } else { cursor.read(present, host) }
}

/// The error that a compressed cluster cannot be decompressed.
pub(super) fn damaged(run: &Run) -> Error {
    refuse(
        format!("the compressed cluster for offset {} of the disk is damaged", run.guest),
        DAMAGED,
    )
    .at_offset(run.host)
}
