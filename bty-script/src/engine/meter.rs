//! Watches a running script: its time, its memory, and whether somebody cancelled.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bty::CancelToken;

use super::Limits;
use crate::context::Capabilities;
use crate::error::Stop;

/// How often the slow checks are made. In this time a script can grow by some ten MiB.
const CHECK_EVERY: Duration = Duration::from_millis(1);

/// What decoders and buffers of a flash may take besides.
const FLASH_BYTES: u64 = 320 << 20;

/// Watches the script that runs at the moment.
pub struct Meter {
    born: Instant,
    /// When to look again, in microseconds after `born`.
    next_check: AtomicU64,
    run: Mutex<Run>,
    is_timed_out: Arc<AtomicBool>,
}

/// What Ctrl-C ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interrupts {
    /// The script.
    #[default]
    Script,
    /// What the script is waiting for: a flash, a download, an answer. The script sees a failure
    /// and goes on.
    Operation,
}

#[derive(Clone, Default)]
struct Run {
    cancel: CancelToken,
    interrupts: Interrupts,
    /// What the script is waiting for.
    operation: Option<CancelToken>,
    deadline: Option<(Instant, u64)>,
    memory_bytes: u64,
    /// Resident size that does not count.
    base_bytes: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            next_check: AtomicU64::new(0),
            run: Mutex::default(),
            is_timed_out: Arc::default(),
        }
    }
}

/// Ends the watch when dropped.
pub(crate) struct Running(Option<Arc<(Mutex<bool>, Condvar)>>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(over) = &self.0 {
            *over.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            over.1.notify_all();
        }
    }
}

/// Something that a script is waiting for.
pub(crate) struct Operation<'a> {
    meter: &'a Meter,
    token: CancelToken,
    /// What waits for this: a flash whose progress function calls the host.
    outer: Option<CancelToken>,
}

impl Deref for Operation<'_> {
    type Target = CancelToken;

    fn deref(&self) -> &CancelToken {
        &self.token
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        self.meter.run().operation = self.outer.take();
    }
}

impl Meter {
    /// A script begins. Host functions that wait are ended by its token, so with a deadline and
    /// such functions a clock cancels it.
    pub(crate) fn begin(
        &self,
        limits: &Limits,
        cancel: &CancelToken,
        capabilities: Capabilities,
        interrupts: Interrupts,
    ) -> Running {
        let deadline = limits.time.map(|time| (Instant::now() + time, millis(time)));
        self.is_timed_out.store(false, Ordering::SeqCst);
        let mut run = self.run();
        *run = Run {
            cancel: cancel.clone(),
            interrupts,
            operation: None,
            deadline,
            memory_bytes: limits.memory_bytes,
            base_bytes: resident_bytes(),
        };
        let Some(time) = limits.time.filter(|_| capabilities != Capabilities::NONE) else {
            return Running(None);
        };
        // a token of its own, so that the caller's stays usable
        let own = CancelToken::new();
        run.cancel = own.clone();
        let over = Arc::new((Mutex::new(false), Condvar::new()));
        let (watched, outer, timed_out) =
            (Arc::clone(&over), cancel.clone(), Arc::clone(&self.is_timed_out));
        let refused = own.clone();
        let watch = move || {
            let deadline = Instant::now() + time;
            let mut is_over = watched.0.lock().unwrap_or_else(PoisonError::into_inner);
            while !*is_over && !outer.is_cancelled() && Instant::now() < deadline {
                let wait = watched.1.wait_timeout(is_over, Duration::from_millis(50));
                is_over = wait.unwrap_or_else(PoisonError::into_inner).0;
            }
            timed_out.store(!*is_over && !outer.is_cancelled(), Ordering::SeqCst);
            own.cancel();
        };
        if thread::Builder::new().spawn(watch).is_err() {
            // nobody would end it in time
            self.is_timed_out.store(true, Ordering::SeqCst);
            refused.cancel();
        }
        Running(Some(over))
    }

    /// A host function that takes time begins; it is to obey the token.
    pub(crate) fn operation(&self) -> Operation<'_> {
        let mut run = self.run();
        let token = match run.interrupts {
            Interrupts::Script => run.cancel.clone(),
            Interrupts::Operation => CancelToken::new(),
        };
        let outer = run.operation.replace(token.clone());
        Operation { meter: self, token, outer }
    }

    /// Somebody pressed Ctrl-C.
    pub(crate) fn interrupt(&self) {
        let run = self.run();
        match (run.interrupts, &run.operation) {
            (Interrupts::Operation, Some(operation)) => operation.cancel(),
            _ => run.cancel.cancel(),
        }
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limit in milliseconds, when the clock ended the last script.
    pub(crate) fn timed_out(&self) -> Option<u64> {
        self.run().deadline.filter(|_| self.is_timed_out.load(Ordering::SeqCst)).map(|(_, ms)| ms)
    }

    /// Runs host work that needs much memory of its own, which does not count against the script.
    pub(crate) fn with_buffers<T>(&self, work: impl FnOnce() -> T) -> T {
        let change = |by: &dyn Fn(&mut Run)| by(&mut self.run());
        let before = resident_bytes();
        change(&|run| run.memory_bytes = run.memory_bytes.saturating_add(FLASH_BYTES));
        let result = work();
        let kept = resident_bytes().saturating_sub(before);
        change(&|run| {
            run.memory_bytes -= FLASH_BYTES;
            run.base_bytes += kept;
        });
        result
    }

    /// Called for every step of the engine.
    pub(crate) fn check(&self, operations: u64) -> Option<Stop> {
        if operations & 15 != 0 {
            return None;
        }
        let now = u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX);
        if now < self.next_check.load(Ordering::Relaxed) {
            return None;
        }
        self.next_check.store(now + millis(CHECK_EVERY) * 1000, Ordering::Relaxed);
        let run = self.run().clone();
        match run.deadline {
            Some((deadline, ms))
                if Instant::now() >= deadline || self.is_timed_out.load(Ordering::SeqCst) =>
            {
                return Some(Stop::Time(ms));
            }
            _ => {}
        }
        if run.cancel.is_cancelled() {
            return Some(Stop::Cancelled);
        }
        let grown = resident_bytes().saturating_sub(run.base_bytes);
        (run.memory_bytes > 0 && grown > run.memory_bytes).then_some(Stop::Memory(run.memory_bytes))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What the process has in memory, in bytes; 0 where the system does not tell.
pub(crate) fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
