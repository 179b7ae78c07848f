//! Fetches some frames of a packed image: near ones in one request, several requests at a time.
//!
//! A request is begun only when its frames have room in memory, so a slow consumer slows the
//! requests down. A server that sends the whole file instead of a range is not asked for ranges any
//! more: the remaining frames are taken from what it sends.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use super::index::PackIndex;
use crate::progress::CancelGuard;
use crate::read_context::ReadContext;
use crate::{CancelToken, Error, ErrorKind, Image, Result, Source, threads};

mod plan;
mod worker;

use plan::plan_requests;
use worker::{FrameReader, FrameWorker};

#[cfg(test)]
mod tests;

/// Maximum number of requests at a time.
const CONNECTIONS: usize = 4;

/// Maximum number of decoded bytes that are fetched before the consumer takes them.
const AHEAD_BYTES: u64 = 64 << 20;

/// Fetches frames, and delivers them decoded in ascending order. Every frame was compared with the
/// index before it is delivered.
///
/// Dropping it ends the requests.
pub(crate) struct FrameFetcher {
    index: Arc<PackIndex>,
    frames: Arc<[u32]>,
    /// Requests that were not begun.
    waiting: VecDeque<Range<usize>>,
    begun: VecDeque<BegunRequest>,
    jobs: Sender<FetchJob>,
    cancel: CancelToken,
    /// Ends all requests when it is dropped.
    stop: CancelToken,
    _stop_on_drop: CancelGuard,
    has_failed: bool,
}

/// A request whose frames were not all delivered.
struct BegunRequest {
    /// Positions in the list of frames.
    frames: Range<usize>,
    /// Decoded length of `frames`.
    disk_bytes: u64,
    fetched: Receiver<Result<Fetched>>,
    stop: CancelToken,
}

/// A request, as its worker sees it.
struct FetchJob {
    /// Positions in the list of frames.
    frames: Range<usize>,
    input: JobInput,
    fetched: Sender<Result<Fetched>>,
    stop: CancelToken,
}

enum JobInput {
    /// The range of the file from the first to the last frame.
    Range,
    /// All of a source that can be read only from its start.
    Start,
    /// What the server sends instead of a range.
    Stream(FrameReader),
}

enum Fetched {
    /// Number and decoded content of a frame.
    Frame(u32, Vec<u8>),
    /// The server sends the whole file.
    Stream(FrameReader),
}

impl FrameFetcher {
    /// Begins to fetch `frames`: numbers of data frames of `index`, ascending.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when the system refuses a thread.
    pub(crate) fn start(
        source: &Source,
        index: &Arc<PackIndex>,
        frames: Vec<u32>,
        context: &ReadContext,
    ) -> Result<Self> {
        debug_assert!(frames.is_sorted_by(|a, b| a < b), "ascending");
        let frames: Arc<[u32]> = frames.into();
        let (jobs, inbox) = unbounded();
        let stop = context.cancel.child();
        let mut this = Self {
            index: Arc::clone(index),
            frames: Arc::clone(&frames),
            waiting: VecDeque::new(),
            begun: VecDeque::new(),
            jobs,
            cancel: context.cancel.clone(),
            _stop_on_drop: stop.cancel_on_drop(),
            stop,
            has_failed: false,
        };
        if frames.is_empty() {
            return Ok(this);
        }
        threads::start_some(CONNECTIONS, || {
            let (inbox, worker) =
                (inbox.clone(), FrameWorker::new(source, index, &frames, &context.counts));
            threads::start("bty-fetch", move || worker.run(&inbox)).map(drop)
        })?;
        if source.is_seekable() {
            this.waiting = plan_requests(index, &frames).into();
            this.begin_requests();
        } else {
            this.begin_stream(0..frames.len(), JobInput::Start);
        }
        Ok(this)
    }

    /// Waits for the next frame. Returns its number and decoded content, or `None` after the last.
    ///
    /// # Errors
    /// - [`ErrorKind::Source`]: the source cannot be read, or changed.
    /// - [`ErrorKind::Integrity`]: the frame differs from the index.
    /// - [`ErrorKind::Cancelled`]: the reading was cancelled.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Vec<u8>)>> {
        if self.has_failed {
            return Err(Error::new(ErrorKind::Source, "cannot fetch on after a failure"));
        }
        let next = self.next_frame();
        if next.is_err() {
            self.has_failed = true;
            self.stop.cancel();
        }
        next
    }

    fn next_frame(&mut self) -> Result<Option<(u32, Vec<u8>)>> {
        loop {
            self.begin_requests();
            let Some(request) = self.begun.front_mut() else { return Ok(None) };
            if request.frames.is_empty() {
                self.begun.pop_front();
                continue;
            }
            match wait(&request.fetched, &self.cancel)? {
                Fetched::Frame(number, content) => {
                    request.frames.start += 1;
                    request.disk_bytes -= content.len() as u64;
                    return Ok(Some((number, content)));
                }
                Fetched::Stream(reader) => {
                    let rest = request.frames.start..self.frames.len();
                    self.end_requests();
                    self.begin_stream(rest, JobInput::Stream(reader));
                }
            }
        }
    }

    /// Begins requests as long as their frames have room.
    fn begin_requests(&mut self) {
        while let Some(frames) = self.waiting.front() {
            let ahead: u64 = self.begun.iter().map(|request| request.disk_bytes).sum();
            if !self.begun.is_empty() && ahead + self.disk_bytes(frames) > AHEAD_BYTES {
                return;
            }
            let frames = frames.clone();
            self.waiting.pop_front();
            // bounded by the number of frames
            self.begin(frames, JobInput::Range, unbounded());
        }
    }

    /// Takes `frames` from one stream.
    fn begin_stream(&mut self, frames: Range<usize>, input: JobInput) {
        let frames_ahead = AHEAD_BYTES / u64::from(self.index.frame_bytes());
        let frames_ahead = usize::try_from(frames_ahead).expect("a few thousand");
        self.begin(frames, input, bounded(frames_ahead));
    }

    fn begin(
        &mut self,
        frames: Range<usize>,
        input: JobInput,
        (sender, fetched): (Sender<Result<Fetched>>, Receiver<Result<Fetched>>),
    ) {
        let (stop, disk_bytes) = (self.stop.child(), self.disk_bytes(&frames));
        let job = FetchJob { frames: frames.clone(), input, fetched: sender, stop: stop.clone() };
        self.begun.push_back(BegunRequest { frames, disk_bytes, fetched, stop });
        // fails only when all workers have ended, which `wait` reports
        let _ = self.jobs.send(job);
    }

    /// Gives up all requests but the first, whose worker has returned its reader.
    fn end_requests(&mut self) {
        self.waiting.clear();
        for request in self.begun.drain(..).skip(1) {
            request.stop.cancel();
        }
    }

    fn disk_bytes(&self, frames: &Range<usize>) -> u64 {
        let frames = self.frames[frames.clone()].iter();
        frames.map(|&number| u64::from(self.index.frames()[number as usize].disk_bytes)).sum()
    }
}

fn wait(fetched: &Receiver<Result<Fetched>>, cancel: &CancelToken) -> Result<Fetched> {
    loop {
        cancel.check()?;
        match fetched.recv_timeout(Duration::from_millis(100)) {
            Ok(fetched) => return fetched,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                let message = "a thread that fetches frames ended unexpectedly";
                return Err(Error::new(ErrorKind::Host, message));
            }
        }
    }
}

/// Reads some data frames of a packed image: their numbers, which ascend, and decoded contents.
/// Each is compared with the index before it is returned.
///
/// Near frames are read at once, over HTTP by up to four requests at a time. Up to 64 MiB are read
/// ahead. Dropping the iterator ends the requests. After an error, it must not be used any more.
///
/// # Errors
/// - [`ErrorKind::Usage`]: `image` is not packed, or `frames` are not ascending numbers of its data
///   frames.
/// - [`ErrorKind::Host`]: the system refuses a thread.
/// - Of a frame: [`ErrorKind::Source`] when the source cannot be read, [`ErrorKind::Integrity`]
///   when the frame differs from the index, [`ErrorKind::Cancelled`].
pub fn read_frames(
    image: &Image,
    frames: Vec<u32>,
    cancel: &CancelToken,
) -> Result<impl Iterator<Item = Result<(u32, Vec<u8>)>> + use<>> {
    let Some(index) = image.shared_pack_index() else {
        let message = format!("{} is not a packed image", image.info().source);
        return Err(Error::new(ErrorKind::Usage, message).hint("pack it first"));
    };
    let is_data = |number: &u32| {
        index.frames().get(*number as usize).is_some_and(|frame| frame.blake3.is_some())
    };
    if !frames.iter().all(is_data) || !frames.is_sorted_by(|a, b| a < b) {
        let message =
            format!("{} has no such data frames, or not in this order", image.info().source);
        return Err(Error::new(ErrorKind::Usage, message).hint("choose them from the index"));
    }
    let context = ReadContext::new(0, cancel);
    let mut fetcher = FrameFetcher::start(image.source(), index, frames, &context)?;
    Ok(std::iter::from_fn(move || fetcher.next().transpose()))
}
