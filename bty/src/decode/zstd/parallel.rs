//! Decodes whole frames on several threads, and delivers them in order.

use std::collections::VecDeque;
use std::io;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use zstd::zstd_safe::{DCtx, get_error_name};

use super::super::{Compression, DecodeOptions, damaged};
use crate::{Error, ErrorKind, threads};

/// Decodes frames. Threads start when they are first needed, and end after the decoder was dropped.
pub(super) struct Parallel {
    options: DecodeOptions,
    /// Bounded by [`Parallel::has_room`].
    jobs: Option<Sender<DecodeJob>>,
    /// The receiving end, for threads that are started later.
    work: Option<Receiver<DecodeJob>>,
    threads: usize,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: u64,
    /// The frame that is being delivered, and the number of bytes delivered.
    current: Vec<u8>,
    position: usize,
}

struct DecodeJob {
    frame: Vec<u8>,
    decoded_max: usize,
    reply: Sender<Result<Vec<u8>, &'static str>>,
}

struct InFlight {
    reply: Receiver<Result<Vec<u8>, &'static str>>,
    cost_bytes: u64,
    wire_offset: u64,
}

impl Parallel {
    pub(super) fn new(options: DecodeOptions) -> Self {
        Self {
            options,
            jobs: None,
            work: None,
            threads: 0,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            current: Vec::new(),
            position: 0,
        }
    }

    /// True while the memory limit allows another frame that costs up to `cost_max` bytes. An empty
    /// queue always accepts one.
    pub(super) fn has_room(&self, cost_max: u64) -> bool {
        let held = self.in_flight_bytes + self.current.capacity() as u64;
        self.in_flight.is_empty()
            || self.in_flight.len() <= self.options.threads
                && held + cost_max <= self.options.memory_bytes
    }

    /// Sends one whole frame to a thread. It decodes to at most `decoded_max` bytes.
    pub(super) fn submit(
        &mut self,
        frame: Vec<u8>,
        decoded_max: u64,
        wire_offset: u64,
    ) -> Result<(), Error> {
        if self.threads <= self.in_flight.len() && self.threads < self.options.threads {
            match self.start_thread() {
                Ok(()) => {}
                // the running threads are enough
                Err(_) if self.threads > 0 => self.options.threads = self.threads,
                Err(error) => return Err(error),
            }
        }
        let (reply, receiver) = bounded(1);
        let cost_bytes = frame.capacity() as u64 + decoded_max;
        let decoded_max = usize::try_from(decoded_max).unwrap_or(usize::MAX);
        let sent = self
            .jobs
            .as_ref()
            .is_some_and(|jobs| jobs.send(DecodeJob { frame, decoded_max, reply }).is_ok());
        if !sent {
            return Err(gone());
        }
        self.in_flight_bytes += cost_bytes;
        self.in_flight.push_back(InFlight { reply: receiver, cost_bytes, wire_offset });
        Ok(())
    }

    /// Copies decoded bytes in order into `buf`, without waiting. Returns zero when none are ready.
    pub(super) fn deliver(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.position < self.current.len() {
                let n = buf.len().min(self.current.len() - self.position);
                buf[..n].copy_from_slice(&self.current[self.position..self.position + n]);
                self.position += n;
                return Ok(n);
            }
            self.current = Vec::new();
            let Some(first) = self.in_flight.front() else { return Ok(0) };
            match first.reply.try_recv() {
                Ok(result) => self.accept(result)?,
                Err(TryRecvError::Empty) => return Ok(0),
                Err(TryRecvError::Disconnected) => return Err(gone().into()),
            }
        }
    }

    /// Waits for the next frame in order; false when none is in flight.
    pub(super) fn wait(&mut self) -> io::Result<bool> {
        let Some(first) = self.in_flight.front() else { return Ok(false) };
        let result = first.reply.recv().map_err(|_| gone())?;
        self.accept(result)?;
        Ok(true)
    }

    fn accept(&mut self, result: Result<Vec<u8>, &'static str>) -> Result<(), Error> {
        let Some(done) = self.in_flight.pop_front() else { return Ok(()) };
        self.in_flight_bytes -= done.cost_bytes;
        self.current = result.map_err(|why| damaged(Compression::Zstd, done.wire_offset, why))?;
        self.position = 0;
        Ok(())
    }

    fn start_thread(&mut self) -> Result<(), Error> {
        let work = match &self.work {
            Some(work) => work.clone(),
            None => {
                let (jobs, work) = unbounded();
                self.jobs = Some(jobs);
                self.work.insert(work).clone()
            }
        };
        threads::start("zstd frames", move || decode_all(&work))?;
        self.threads += 1;
        Ok(())
    }
}

fn decode_all(work: &Receiver<DecodeJob>) {
    let mut context = DCtx::try_create();
    while let Ok(DecodeJob { frame, decoded_max, reply }) = work.recv() {
        let result = context.as_mut().ok_or("out of memory").and_then(|context| {
            let mut decoded = Vec::with_capacity(decoded_max);
            context.decompress(&mut decoded, &frame).map_err(get_error_name)?;
            Ok(decoded)
        });
        // fails only when the decoder was dropped
        let _ = reply.send(result);
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Host, "a zstd decoder thread ended unexpectedly")
}
