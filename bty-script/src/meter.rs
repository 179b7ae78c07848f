//! Watches a running script: its time, its memory, and whether it was cancelled.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bty::CancelToken;

use crate::error::Stop;
use crate::limits::Limits;

/// Interval of the checks that need system calls. A script can allocate about 10 MiB between two
/// checks.
const CHECK_EVERY: Duration = Duration::from_millis(1);

/// Memory that a flash or a download may take on top of the script's limit, for decoders and
/// buffers.
const FLASH_BYTES: u64 = 320 << 20;

/// Watches the script that an engine is running; an engine runs one at a time.
pub struct Meter {
    created: Instant,
    /// When the next check is due, in microseconds after `created`.
    next_check: AtomicU64,
    run: Mutex<RunState>,
    is_timed_out: Arc<AtomicBool>,
}

/// What Ctrl-C ends while a script runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InterruptTarget {
    /// The whole script.
    #[default]
    Script,
    /// The operation that the script waits for: a flash, a download, a question. It fails with an
    /// error of kind `cancelled`, and the script goes on. Without such an operation, the script
    /// ends.
    Operation,
}

#[derive(Clone, Default)]
struct RunState {
    cancel: CancelToken,
    interrupt_target: InterruptTarget,
    /// The innermost operation that the script waits for.
    operation: Option<CancelToken>,
    /// With the time limit in milliseconds, for the message.
    deadline: Option<(Instant, u64)>,
    memory_bytes: u64,
    /// Resident size that does not count against the script.
    base_bytes: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            created: Instant::now(),
            next_check: AtomicU64::new(0),
            run: Mutex::default(),
            is_timed_out: Arc::default(),
        }
    }
}

/// A run in progress. Dropping it stops the timer thread.
pub(crate) struct RunGuard(Option<Arc<(Mutex<bool>, Condvar)>>);

impl Drop for RunGuard {
    fn drop(&mut self) {
        if let Some(over) = &self.0 {
            *over.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            over.1.notify_all();
        }
    }
}

/// An operation that a script waits for. Dereferences to the token that cancels it.
pub(crate) struct Operation<'a> {
    meter: &'a Meter,
    token: CancelToken,
    /// The operation around this one: a flash whose progress function calls a host function.
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
    /// Starts to watch a run. With a time limit and `can_wait` (the script may call functions that
    /// wait), a timer thread cancels whatever the script waits for at the deadline.
    pub(crate) fn begin(
        &self,
        limits: &Limits,
        cancel: &CancelToken,
        can_wait: bool,
        interrupt_target: InterruptTarget,
    ) -> RunGuard {
        let deadline = limits.time.map(|time| (Instant::now() + time, millis(time)));
        self.is_timed_out.store(false, Ordering::SeqCst);
        let mut run = self.run();
        *run = RunState {
            cancel: cancel.clone(),
            interrupt_target,
            operation: None,
            deadline,
            memory_bytes: limits.memory_bytes,
            base_bytes: resident_bytes(),
        };
        let Some(time) = limits.time.filter(|_| can_wait) else {
            return RunGuard(None);
        };
        // The timer cancels a token of this run, so that the caller can use its own again.
        let own = CancelToken::new();
        run.cancel = own.clone();
        let over = Arc::new((Mutex::new(false), Condvar::new()));
        let (watched, outer, timed_out) =
            (Arc::clone(&over), cancel.clone(), Arc::clone(&self.is_timed_out));
        let token = own.clone();
        let watch = move || {
            let deadline = Instant::now() + time;
            let mut is_over = watched.0.lock().unwrap_or_else(PoisonError::into_inner);
            while !*is_over && !outer.is_cancelled() && Instant::now() < deadline {
                let wait = watched.1.wait_timeout(is_over, Duration::from_millis(50));
                is_over = wait.unwrap_or_else(PoisonError::into_inner).0;
            }
            timed_out.store(!*is_over && !outer.is_cancelled(), Ordering::SeqCst);
            token.cancel();
        };
        if thread::Builder::new().spawn(watch).is_err() {
            // Without a timer nothing would enforce the limit, so the script does not run at all.
            self.is_timed_out.store(true, Ordering::SeqCst);
            own.cancel();
        }
        RunGuard(Some(over))
    }

    /// Starts an operation that takes time. It must end when the returned token is cancelled.
    pub(crate) fn operation(&self) -> Operation<'_> {
        let mut run = self.run();
        let token = match run.interrupt_target {
            InterruptTarget::Script => run.cancel.clone(),
            InterruptTarget::Operation => CancelToken::new(),
        };
        let outer = run.operation.replace(token.clone());
        Operation { meter: self, token, outer }
    }

    pub(crate) fn interrupt(&self) {
        let run = self.run();
        match (run.interrupt_target, &run.operation) {
            (InterruptTarget::Operation, Some(operation)) => operation.cancel(),
            _ => run.cancel.cancel(),
        }
    }

    fn run(&self) -> MutexGuard<'_, RunState> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time limit in milliseconds, if it ended the last script.
    pub(crate) fn timed_out(&self) -> Option<u64> {
        self.run().deadline.filter(|_| self.is_timed_out.load(Ordering::SeqCst)).map(|(_, ms)| ms)
    }

    /// Runs `work`, whose buffers do not count against the script's memory limit.
    pub(crate) fn with_buffers<T>(&self, work: impl FnOnce() -> T) -> T {
        let change = |by: &dyn Fn(&mut RunState)| by(&mut self.run());
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

    /// Called for every step of the engine, so it reads the clock only every 16 steps, and the
    /// resident size only every [`CHECK_EVERY`].
    pub(crate) fn check(&self, operations: u64) -> Option<Stop> {
        if operations & 15 != 0 {
            return None;
        }
        let now = u64::try_from(self.created.elapsed().as_micros()).unwrap_or(u64::MAX);
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

/// Resident size of this process in bytes; 0 where `/proc` does not tell.
pub(crate) fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
