//! The threads that read frames, decode them, and compare them with the index.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Receiver;
use zstd::bulk::Decompressor;

use super::super::index::{PackFrame, PackIndex};
use super::super::read::{decode_frame, frame_error};
use super::{FetchJob, Fetched, JobInput};
use crate::read_context::ReadCounts;
use crate::source::{PlainRange, RangeRead, RangeReader};
use crate::{Error, ErrorKind, Result, Source};

/// Bytes between two frames that are read at once.
const SKIP_BYTES: usize = 64 << 10;

pub(super) struct FrameWorker {
    source: Source,
    index: Arc<PackIndex>,
    frames: Arc<[u32]>,
    counts: Arc<ReadCounts>,
}

impl FrameWorker {
    pub(super) fn new(
        source: &Source,
        index: &Arc<PackIndex>,
        frames: &Arc<[u32]>,
        counts: &Arc<ReadCounts>,
    ) -> Self {
        let (index, frames, counts) = (Arc::clone(index), Arc::clone(frames), Arc::clone(counts));
        Self { source: source.clone(), index, frames, counts }
    }

    pub(super) fn run(&self, jobs: &Receiver<FetchJob>) {
        let mut decoder = Decompressor::new();
        for job in jobs {
            let fetched = job.fetched.clone();
            let result = match &mut decoder {
                Ok(decoder) => self.fetch(job, decoder),
                Err(e) => Err(Error::new(ErrorKind::Host, "preparing a decoder")
                    .because(std::io::Error::from(e.kind()))),
            };
            if let Err(error) = result {
                // fails only when nobody waits for the frames any more
                let _ = fetched.send(Err(error));
            }
        }
    }

    fn fetch(&self, job: FetchJob, decoder: &mut Decompressor<'_>) -> Result<()> {
        job.stop.check()?;
        let is_range = matches!(job.input, JobInput::Range);
        let mut reader = match job.input {
            JobInput::Stream(reader) => reader,
            JobInput::Start => FrameReader {
                reader: Box::new(PlainRange(self.source.bytes.stream(0, &job.stop)?)),
                position: 0,
            },
            JobInput::Range => {
                let (start, end) = (job.frames.start, job.frames.end - 1);
                let (first, last) = (self.frame(self.frames[start]), self.frame(self.frames[end]));
                let range = first.file_offset..last.file_offset + u64::from(last.file_bytes);
                let position = range.start;
                FrameReader { reader: self.source.bytes.range(range, &job.stop)?, position }
            }
        };
        let mut encoded = Vec::new();
        for &number in &self.frames[job.frames] {
            while !reader.read_frame(self, self.frame(number), &mut encoded)? {
                if is_range {
                    let _ = job.fetched.send(Ok(Fetched::Stream(reader)));
                    return Ok(());
                }
            }
            let content = self.decode(number, &encoded, decoder)?;
            if job.fetched.send(Ok(Fetched::Frame(number, content))).is_err() {
                return Ok(());
            }
        }
        if is_range {
            // to its end, so that the connection serves the next request
            let _ = reader.reader.read(&mut [0]);
        }
        Ok(())
    }

    fn decode(
        &self,
        number: u32,
        encoded: &[u8],
        decoder: &mut Decompressor<'_>,
    ) -> Result<Vec<u8>> {
        let frame = self.frame(number);
        let mut content = vec![0; frame.disk_bytes as usize];
        decode_frame(frame, encoded, &mut content, decoder)
            .map_err(|why| self.differs(frame, why))?;
        Ok(content)
    }

    /// The error for a frame that is not what the index says. Mirrors may name the same bytes
    /// differently, so another version alone is no error.
    fn differs(&self, frame: &PackFrame, why: &str) -> Error {
        let location = self.source.location();
        if !self.source.bytes.has_varied() {
            return frame_error(&location.to_string(), frame, why);
        }
        let message = format!(
            "{location} changed while it was read: the frame at offset {} is of another version",
            frame.file_offset
        );
        Error::new(ErrorKind::Source, message)
            .with_path(location)
            .at_offset(frame.file_offset)
            .hint("wait until the file is complete on the server, then start again")
    }

    fn frame(&self, number: u32) -> &PackFrame {
        &self.index.frames()[number as usize]
    }
}

/// Reads frames from a part of the file, or from all of it.
pub(super) struct FrameReader {
    reader: Box<dyn RangeReader>,
    /// Offset in the file of what `reader` reads next.
    position: u64,
}

impl FrameReader {
    /// Reads `frame` into `encoded`. False if the server began to send the file from its start: the
    /// frame was not read, but can be read now.
    fn read_frame(
        &mut self,
        worker: &FrameWorker,
        frame: &PackFrame,
        encoded: &mut Vec<u8>,
    ) -> Result<bool> {
        while self.position < frame.file_offset {
            let gap = usize::try_from(frame.file_offset - self.position).unwrap_or(usize::MAX);
            encoded.resize(gap.min(SKIP_BYTES), 0);
            if !self.read(worker, encoded)? {
                return Ok(false);
            }
        }
        encoded.resize(frame.file_bytes as usize, 0);
        self.read(worker, encoded)
    }

    /// Fills `buf`. False if the server began to send the file from its start.
    fn read(&mut self, worker: &FrameWorker, buf: &mut [u8]) -> Result<bool> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.reader.read(&mut buf[filled..])? {
                RangeRead::Bytes(0) => {
                    let location = worker.source.location();
                    let message = format!("{location} ends within a frame");
                    return Err(Error::new(ErrorKind::Source, message)
                        .with_path(location)
                        .at_offset(self.position)
                        .hint("wait until the file is complete, then start again"));
                }
                RangeRead::Bytes(n) => {
                    filled += n;
                    self.position += n as u64;
                    worker.counts.source_bytes.fetch_add(n as u64, Ordering::Relaxed);
                }
                RangeRead::FromStart => {
                    self.position = 0;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
