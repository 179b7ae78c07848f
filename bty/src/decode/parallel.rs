//! Decodes the parts of a stream on several threads, and delivers their bytes in order.
//!
//! The calling thread finds the parts, which is cheap, and [submits](Parallel::submit) them as
//! jobs. Buffers go back and forth between both sides: fresh memory costs a page fault every 4 KiB,
//! which can take longer than decoding.

use std::collections::VecDeque;
use std::io::{self, Read};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::DecodeOptions;
use crate::{Error, ErrorKind, threads};

/// Maximum capacity of an output that is kept for another job. In larger ones, the time for the
/// page faults is small beside that for decoding.
const SPARE_BYTES_MAX: usize = 8 << 20;

/// Finds the parts of a stream, on the calling thread.
pub(super) trait Splitter: Send {
    type Job: Job;

    /// Maximum memory in bytes that the job of one [`advance`](Self::advance) may need, its own
    /// buffers and output together.
    fn cost_max(&self) -> u64;

    /// Reads on, and may submit a job.
    fn advance(&mut self, parallel: &mut Parallel<Self::Job>) -> io::Result<FoundPart>;

    /// Decodes a part that [`advance`](Self::advance) has found unfit for a job. Returns zero at
    /// its end.
    fn stream(&mut self, buf: &mut [u8]) -> io::Result<usize>;
}

/// What [`Splitter::advance`] has found.
pub(super) enum FoundPart {
    /// A job, or nothing yet.
    Job,
    /// A part to decode with [`Splitter::stream`].
    Stream,
    End,
}

/// The decoded bytes of the parts that `splitter` finds.
///
/// What comes before an error is delivered before it, as if one thread had decoded everything.
pub(super) struct ParallelReader<S: Splitter> {
    splitter: S,
    parallel: Parallel<S::Job>,
    /// What follows the jobs that were submitted.
    next: io::Result<FoundPart>,
}

impl<S: Splitter> ParallelReader<S> {
    pub(super) fn new(splitter: S, options: DecodeOptions) -> Self {
        Self { splitter, parallel: Parallel::new(options), next: Ok(FoundPart::Job) }
    }
}

impl<S: Splitter> Read for ParallelReader<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.parallel.deliver(buf)?;
            if n > 0 {
                return Ok(n);
            }
            if matches!(self.next, Ok(FoundPart::Job))
                && self.parallel.has_room(self.splitter.cost_max())
            {
                self.next = self.splitter.advance(&mut self.parallel);
            } else if !self.parallel.wait() {
                match &self.next {
                    Ok(FoundPart::Job) => {}
                    Ok(FoundPart::End) => return Ok(0),
                    Ok(FoundPart::Stream) => match self.splitter.stream(buf)? {
                        0 => self.next = Ok(FoundPart::Job),
                        n => return Ok(n),
                    },
                    Err(_) => {
                        return std::mem::replace(&mut self.next, Ok(FoundPart::End)).map(|_| 0);
                    }
                }
            }
        }
    }
}

/// A part of the stream that is decoded by itself.
pub(super) trait Job: Default + Send + 'static {
    /// What a thread keeps from one job to the next.
    type Decoder: Default;

    /// Capacity of the job's own buffers in bytes.
    fn capacity(&self) -> u64;

    /// Empties the job for its next use, but keeps its buffers.
    fn clear(&mut self);

    /// Replaces `out`, which holds old bytes, by the decoded ones. After an error, those before it
    /// are still delivered.
    fn decode(&mut self, decoder: &mut Self::Decoder, out: &mut Vec<u8>) -> Result<(), Error>;
}

/// Bytes of the decoded stream.
pub(super) enum Decoded {
    Bytes(Vec<u8>),
    /// That many zeros, which take no memory.
    Zeros(u64),
}

/// Decodes jobs. Threads start when they are first needed, and end after the decoder was dropped.
/// When the system refuses the first one, the calling thread decodes.
pub(super) struct Parallel<J: Job> {
    options: DecodeOptions,
    /// The channel is unbounded; callers send only while [`Parallel::has_room`] says so.
    jobs: Sender<Order<J>>,
    /// The receiving end, for threads that are started later.
    inbox: Receiver<Order<J>>,
    results: Receiver<Done<J>>,
    /// The sending end, for threads that are started later.
    outbox: Sender<Done<J>>,
    threads: usize,
    /// What is not delivered yet, in order.
    pending: VecDeque<Pending>,
    /// Number of the first of `pending`.
    first: u64,
    /// Number of jobs that are not decoded yet.
    in_flight: usize,
    /// The sum of the costs of `pending`.
    pending_bytes: u64,
    /// What is being delivered, and the number of bytes delivered.
    current: Decoded,
    position: u64,
    failure: Option<Error>,
    spare_jobs: Vec<J>,
    spare_outputs: Vec<Vec<u8>>,
}

struct Order<J> {
    number: u64,
    job: J,
    out: Vec<u8>,
}

struct Done<J> {
    number: u64,
    /// `None` when the thread panicked.
    job: Option<J>,
    decoded: Decoded,
    failure: Option<Error>,
}

struct Pending {
    cost_bytes: u64,
    done: Option<(Decoded, Option<Error>)>,
}

impl<J: Job> Parallel<J> {
    pub(super) fn new(options: DecodeOptions) -> Self {
        let (jobs, inbox) = unbounded();
        let (outbox, results) = unbounded();
        Self {
            options,
            jobs,
            inbox,
            results,
            outbox,
            threads: 0,
            pending: VecDeque::new(),
            first: 0,
            in_flight: 0,
            pending_bytes: 0,
            current: Decoded::Zeros(0),
            position: 0,
            failure: None,
            spare_jobs: Vec::new(),
            spare_outputs: Vec::new(),
        }
    }

    /// An empty job, whose buffers may come from an earlier one.
    pub(super) fn take_job(&mut self) -> J {
        self.spare_jobs.pop().unwrap_or_default()
    }

    /// Keeps the buffers of a job that was taken, but not submitted.
    #[cfg(any(test, feature = "bzip2", feature = "xz"))]
    pub(super) fn give_back(&mut self, mut job: J) {
        job.clear();
        self.spare_jobs.push(job);
    }

    /// True while the memory limit allows another job that costs up to `cost_max` bytes, its own
    /// buffers and output together. Without jobs in flight, one is always accepted.
    pub(super) fn has_room(&mut self, cost_max: u64) -> bool {
        if self.in_flight > self.options.threads || self.failure.is_some() {
            return false;
        }
        let held = self.pending_bytes + self.current.capacity() + cost_max;
        let limit = self.options.memory_bytes;
        if held + self.spare_bytes() > limit {
            self.spare_jobs.clear();
            self.spare_outputs.clear();
        }
        self.pending.is_empty() || held <= limit
    }

    fn spare_bytes(&self) -> u64 {
        let outputs = self.spare_outputs.iter().map(|out| out.capacity() as u64);
        outputs.chain(self.spare_jobs.iter().map(J::capacity)).sum()
    }

    /// Sends a job to a thread. It decodes to at most `decoded_max` bytes.
    pub(super) fn submit(&mut self, job: J, decoded_max: u64) {
        let out = self.spare_outputs.pop().unwrap_or_default();
        let cost_bytes = job.capacity() + decoded_max.max(out.capacity() as u64);
        let number = self.push(cost_bytes, None);
        self.in_flight += 1;
        let order = Order { number, job, out };
        if self.start_threads() {
            // cannot fail: this value holds the receiver
            let _ = self.jobs.send(order);
        } else {
            let done = order.run(&mut J::Decoder::default());
            self.arrive(done);
        }
    }

    /// Delivers zeros after all jobs submitted so far.
    #[cfg(any(test, feature = "bzip2", feature = "xz"))]
    pub(super) fn push_zeros(&mut self, len: u64) {
        self.push(0, Some((Decoded::Zeros(len), None)));
    }

    fn push(&mut self, cost_bytes: u64, done: Option<(Decoded, Option<Error>)>) -> u64 {
        self.pending_bytes += cost_bytes;
        self.pending.push_back(Pending { cost_bytes, done });
        self.first + self.pending.len() as u64 - 1
    }

    /// Copies decoded bytes in order into `buf`, without waiting. Returns zero when none are ready.
    pub(super) fn deliver(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.current.copy_to(self.position, buf);
            if n > 0 {
                self.position += n as u64;
                return Ok(n);
            }
            self.position = 0;
            match std::mem::take(&mut self.current) {
                Decoded::Bytes(bytes) if bytes.capacity() <= SPARE_BYTES_MAX => {
                    self.spare_outputs.push(bytes);
                }
                _ => {}
            }
            if let Some(error) = self.failure.take() {
                return Err(error.into());
            }
            while let Ok(done) = self.results.try_recv() {
                self.arrive(done);
            }
            if self.pending.front().is_none_or(|first| first.done.is_none()) {
                return Ok(0);
            }
            let Some(Pending { cost_bytes, done: Some((decoded, failure)) }) =
                self.pending.pop_front()
            else {
                return Ok(0);
            };
            self.first += 1;
            self.pending_bytes -= cost_bytes;
            (self.current, self.failure) = (decoded, failure);
        }
    }

    /// Waits until a job is decoded; false when none is in flight.
    pub(super) fn wait(&mut self) -> bool {
        if self.in_flight == 0 {
            return false;
        }
        // cannot fail: this value holds a sender
        if let Ok(done) = self.results.recv() {
            self.arrive(done);
        }
        true
    }

    fn arrive(&mut self, done: Done<J>) {
        self.in_flight -= 1;
        self.spare_jobs.extend(done.job);
        let index = usize::try_from(done.number - self.first).unwrap_or(usize::MAX);
        let Some(pending) = self.pending.get_mut(index) else { return };
        let cost_bytes = done.decoded.capacity();
        self.pending_bytes = self.pending_bytes - pending.cost_bytes + cost_bytes;
        *pending = Pending { cost_bytes, done: Some((done.decoded, done.failure)) };
    }

    /// Starts another thread if all are busy. False if there is none.
    fn start_threads(&mut self) -> bool {
        if self.threads < self.in_flight && self.threads < self.options.threads {
            let (inbox, outbox) = (self.inbox.clone(), self.outbox.clone());
            match threads::start("bty-decode", move || decode_all(&inbox, &outbox)) {
                Ok(_) => self.threads += 1,
                // the running threads, or the calling one, are enough
                Err(_) => self.options.threads = self.threads,
            }
        }
        self.threads > 0
    }
}

impl Decoded {
    fn capacity(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.capacity() as u64,
            Self::Zeros(_) => 0,
        }
    }

    /// Copies what follows `position` into `buf`. Returns the number of bytes, zero at the end.
    fn copy_to(&self, position: u64, buf: &mut [u8]) -> usize {
        let at = usize::try_from(position).unwrap_or(usize::MAX);
        match self {
            Self::Bytes(bytes) => {
                let rest = bytes.get(at..).unwrap_or(&[]);
                let n = rest.len().min(buf.len());
                buf[..n].copy_from_slice(&rest[..n]);
                n
            }
            Self::Zeros(len) => {
                let n = usize::try_from(len - position).map_or(buf.len(), |n| n.min(buf.len()));
                buf[..n].fill(0);
                n
            }
        }
    }
}

impl Default for Decoded {
    fn default() -> Self {
        Self::Zeros(0)
    }
}

impl<J: Job> Order<J> {
    fn run(self, decoder: &mut J::Decoder) -> Done<J> {
        let Self { number, mut job, mut out } = self;
        let failure = job.decode(decoder, &mut out).err();
        job.clear();
        Done { number, job: Some(job), decoded: Decoded::Bytes(out), failure }
    }
}

fn decode_all<J: Job>(inbox: &Receiver<Order<J>>, outbox: &Sender<Done<J>>) {
    let mut decoder = J::Decoder::default();
    for order in inbox {
        let panicking = PanicReport { number: order.number, outbox };
        let done = order.run(&mut decoder);
        std::mem::forget(panicking);
        // fails only when the decoder was dropped
        let _ = outbox.send(done);
    }
}

/// Reports the job as failed when dropped by a panic. Otherwise its reader would wait forever.
struct PanicReport<'a, J> {
    number: u64,
    outbox: &'a Sender<Done<J>>,
}

impl<J> Drop for PanicReport<'_, J> {
    fn drop(&mut self) {
        let failure = Error::new(ErrorKind::Host, "a decoder thread ended unexpectedly");
        let _ = self.outbox.send(Done {
            number: self.number,
            job: None,
            decoded: Decoded::default(),
            failure: Some(failure),
        });
    }
}

/// Makes `out` at least `len` bytes long. What it holds stays, whatever it is: zeroing it would
/// cost as much as a copy.
///
/// # Errors
/// [`ErrorKind::Host`] when the system refuses the memory.
pub(super) fn fill_up(out: &mut Vec<u8>, len: u64) -> Result<(), Error> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    out.try_reserve_exact(len.saturating_sub(out.len())).map_err(|e| {
        Error::new(ErrorKind::Host, "decoding on several threads")
            .because(e)
            .hint("allow more memory (ulimit -v, the limit of the container), then try again")
    })?;
    out.resize(out.len().max(len), 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: DecodeOptions = DecodeOptions { threads: 3, memory_bytes: 1000 };

    /// Parts of 100 bytes each, one of which may fail or panic.
    struct Numbers {
        next: u8,
        fails: Option<u8>,
        panics: Option<u8>,
        /// The most memory that was in use, as far as the limit counts it.
        held_max: u64,
    }

    #[derive(Default)]
    struct NumberJob {
        number: u8,
        fails: bool,
        panics: bool,
    }

    impl Splitter for Numbers {
        type Job = NumberJob;

        fn cost_max(&self) -> u64 {
            100
        }

        fn advance(&mut self, parallel: &mut Parallel<NumberJob>) -> io::Result<FoundPart> {
            let number = self.next;
            match number {
                200 => return Ok(FoundPart::End),
                100 => parallel.push_zeros(250),
                50 => {
                    self.next += 1;
                    return Ok(FoundPart::Stream);
                }
                _ => {
                    let job = NumberJob {
                        number,
                        fails: self.fails == Some(number),
                        panics: self.panics == Some(number),
                    };
                    parallel.submit(job, 100);
                }
            }
            self.next += 1;
            self.held_max = self.held_max.max(parallel.pending_bytes);
            Ok(FoundPart::Job)
        }

        fn stream(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = usize::from(self.next == 51);
            buf[..n].fill(50);
            self.next += 2 * n as u8;
            Ok(n)
        }
    }

    impl Job for NumberJob {
        type Decoder = ();

        fn capacity(&self) -> u64 {
            0
        }

        fn clear(&mut self) {}

        fn decode(&mut self, (): &mut (), out: &mut Vec<u8>) -> Result<(), Error> {
            assert!(!self.panics, "as the test demands");
            fill_up(out, 100)?;
            out.truncate(100);
            out.fill(self.number);
            if self.fails {
                out.truncate(7);
                return Err(Error::new(ErrorKind::Format, "as the test demands"));
            }
            Ok(())
        }
    }

    /// Everything that is delivered, the error, and the most memory in use.
    fn read(
        fails: Option<u8>,
        panics: Option<u8>,
        options: DecodeOptions,
    ) -> (Vec<u8>, Option<Error>, u64) {
        let numbers = Numbers { next: 0, fails, panics, held_max: 0 };
        let mut reader = ParallelReader::new(numbers, options);
        let mut bytes = Vec::new();
        let error = reader.read_to_end(&mut bytes).err().and_then(|e| Error::unwrap_io(e).ok());
        (bytes, error, reader.splitter.held_max)
    }

    fn expected() -> Vec<u8> {
        let part = |number: u8| match number {
            50 => vec![50; 1],
            51 | 52 => Vec::new(),
            100 => vec![0; 250],
            _ => vec![number; 100],
        };
        (0..200).flat_map(part).collect()
    }

    #[test]
    fn parts_are_delivered_in_order_within_the_memory() {
        for threads in [0, 1, 3] {
            let (bytes, error, held) = read(None, None, DecodeOptions { threads, ..OPTIONS });
            assert!(error.is_none() && bytes == expected(), "{threads} threads");
            assert!(held <= OPTIONS.memory_bytes, "{held}");
        }
        let (bytes, _, held) = read(None, None, DecodeOptions { memory_bytes: 0, ..OPTIONS });
        assert!(bytes == expected() && held <= 100, "{held}");
    }

    #[test]
    fn an_error_comes_after_the_bytes_before_it() {
        for threads in [0, 3] {
            let (bytes, error, _) = read(Some(10), None, DecodeOptions { threads, ..OPTIONS });
            assert_eq!(error.unwrap().kind(), ErrorKind::Format);
            assert!(bytes == expected()[..1007], "{} bytes", bytes.len());
        }
    }

    #[test]
    fn a_panicking_thread_is_an_error() {
        let (bytes, error, _) = read(None, Some(20), OPTIONS);
        assert_eq!(error.unwrap().kind(), ErrorKind::Host);
        assert!(bytes == expected()[..2000], "{} bytes", bytes.len());
    }
}
