//! Runs plan calls in worker processes with bounded memory.
//!
//! The limits of the engine do not bound memory exactly: containers can grow in steps that are each
//! within the limits. A server therefore runs scripts in worker processes with a memory limit of
//! the operating system (`RLIMIT_AS`): a script that exceeds it takes down only its worker. Workers
//! have no capabilities. They are reused, and cache compiled scripts.
//!
//! A worker process calls [`serve`] and does nothing else. Requests and answers are JSON lines on
//! its stdin and stdout.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bty::Digest;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::ScriptContext;
use crate::decide::{Decider, Decision, MachineFacts, PlanCall, script_digest};
use crate::engine::{Engine, Limits};
use crate::error::{Cause, Place, ScriptError};

/// Address space that a worker may add, as a multiple of the script's memory limit: a growing value
/// exists twice while it is moved.
const SPARE_FACTOR: u64 = 2;

/// Time that a worker gets on top of the script's own limit, to start and to compile.
const ANSWER_GRACE: Duration = Duration::from_secs(2);

/// Time limit of a call if the script has none: after an hour nobody waits for a decision.
const UNLIMITED: Duration = Duration::from_secs(3600);

#[derive(Serialize, Deserialize)]
struct Request {
    /// Digest of the script's name and text.
    script: Digest,
    /// Name and text, if the worker has not cached the script.
    source: Option<(String, String)>,
    /// Digest of the catalog.
    catalog: Digest,
    /// The catalog, if the worker has not cached it.
    catalog_toml: Option<String>,
    function: String,
    machine: Option<MachineFacts>,
    args: Vec<Value>,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Decided(Decision),
    Failed(Box<Failure>),
    /// The worker has evicted the script or the catalog from its cache.
    NotCached,
}

/// The parts of a [`ScriptError`] that a worker sends.
#[derive(Serialize, Deserialize)]
struct Failure {
    cause: String,
    message: String,
    hint: Option<String>,
    place: Option<(String, usize, usize, String)>,
}

impl From<ScriptError> for Failure {
    fn from(error: ScriptError) -> Self {
        let place =
            error.place.as_ref().map(|p| (p.file.clone(), p.line, p.column, p.text.clone()));
        Self { cause: error.kind().to_owned(), place, message: error.message, hint: error.hint }
    }
}

impl From<Failure> for ScriptError {
    fn from(failure: Failure) -> Self {
        let cause = match failure.cause.as_str() {
            "syntax" => Cause::Syntax,
            "throw" => Cause::Throw,
            "limit" => Cause::Limit,
            "script" => Cause::Script,
            _ => Cause::Host,
        };
        let mut error = Self::new(cause, failure.message);
        error.hint = failure.hint;
        error.place =
            failure.place.map(|(file, line, column, text)| Place { file, line, column, text });
        if cause == Cause::Host {
            error.host = Some(crate::HostError::new(&failure.cause, error.message.clone()));
        }
        error
    }
}

/// Answers requests from stdin until its end. Must be called first thing in a process of its own:
/// it limits the memory of the whole process.
///
/// # Errors
/// The memory cannot be limited, stdin or stdout fails, or a request is invalid.
pub fn serve(limits: &Limits) -> std::io::Result<()> {
    let decider = Decider::new(Engine::new(ScriptContext::compute_only(), limits.clone()));
    bound_memory(limits.memory_bytes * SPARE_FACTOR)?;
    for line in std::io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?)?;
        let answer = match answer(&decider, request) {
            Ok(Some(decision)) => Answer::Decided(decision),
            Ok(None) => Answer::NotCached,
            Err(error) => Answer::Failed(Box::new(error.into())),
        };
        let mut out = std::io::stdout().lock();
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        out.write_all(&line)?;
        out.flush()?;
    }
    Ok(())
}

fn answer(decider: &Decider, request: Request) -> Result<Option<Decision>, ScriptError> {
    let Request { script, source, catalog, catalog_toml, function, machine, args } = request;
    if let Some((name, text)) = source {
        decider.cache_script(script, &name, &text)?;
    }
    if let Some(toml) = catalog_toml {
        decider.cache_catalog(catalog, &toml)?;
    }
    decider.answer(script, catalog, &function, machine, &args).transpose()
}

/// Limits the address space of the process to its current size plus `spare_bytes`.
fn bound_memory(spare_bytes: u64) -> std::io::Result<()> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut limit: Rlimit = getrlimit(Resource::As);
    limit.current = Some(pages * rustix::param::page_size() as u64 + spare_bytes);
    setrlimit(Resource::As, limit)?;
    Ok(())
}

/// A pool of worker processes. Calls may come from any number of threads.
pub struct Workers {
    command: Box<dyn Fn() -> Command + Send + Sync>,
    limits: Limits,
    pool: Mutex<Pool>,
    returned: Condvar,
}

struct Pool {
    idle: Vec<Worker>,
    /// Number of workers that may still be started.
    free: usize,
}

impl Workers {
    /// Creates a pool of up to `count` workers (at least one), which `command` starts when needed.
    /// The program that it starts must call [`serve`] with the same `limits`.
    #[must_use]
    pub fn new(
        command: impl Fn() -> Command + Send + Sync + 'static,
        limits: Limits,
        count: usize,
    ) -> Self {
        let pool = Mutex::new(Pool { idle: Vec::new(), free: count.max(1) });
        Self { command: Box::new(command), limits, pool, returned: Condvar::new() }
    }

    /// Runs `call` in a worker. Blocks until a worker is free and has answered.
    ///
    /// # Errors
    /// - [`Cause::Syntax`], [`Cause::Script`], [`Cause::Throw`]: the plan does not compile, is
    ///   wrong, or threw
    /// - [`Cause::Limit`]: the function exceeded a limit; or the worker exceeded its memory or did
    ///   not answer in time, and was killed
    /// - [`Cause::Host`]: the catalog cannot be parsed, the worker could not be started, or its
    ///   answer could not be read
    pub fn decide(&self, call: &PlanCall<'_>) -> Result<Decision, ScriptError> {
        let mut worker = self.take()?;
        let time = self.limits.time.unwrap_or(UNLIMITED) + ANSWER_GRACE;
        let result = worker.decide(call, time, &self.limits);
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if worker.is_usable {
            pool.idle.push(worker);
        } else {
            pool.free += 1;
        }
        self.returned.notify_one();
        result
    }

    /// Starts a worker and lets it run an empty script, so that a command that starts no worker is
    /// noticed before a machine waits for a decision.
    ///
    /// # Errors
    /// - [`Cause::Host`]: the worker cannot be started, or does not answer like a worker
    /// - [`Cause::Limit`]: it does not answer in time
    pub fn check(&self) -> Result<(), ScriptError> {
        let call = PlanCall {
            name: "check",
            text: "fn check() { 0 }",
            function: "check",
            machine: None,
            args: Vec::new(),
            catalog: "",
        };
        self.decide(&call).map(drop)
    }

    fn take(&self) -> Result<Worker, ScriptError> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(worker) = pool.idle.pop() {
                return Ok(worker);
            }
            if pool.free > 0 {
                pool.free -= 1;
                break;
            }
            pool = self.returned.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
        drop(pool);
        let command = (self.command)();
        let program = command.get_program().display().to_string();
        Worker::start(command).map_err(|e| {
            self.pool.lock().unwrap_or_else(PoisonError::into_inner).free += 1;
            ScriptError::new(Cause::Host, format!("starting the script worker {program}: {e}"))
        })
    }
}

struct Worker {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Digests of the scripts and catalogs that the worker has cached.
    known: HashSet<Digest>,
    is_usable: bool,
}

impl Worker {
    fn start(mut command: Command) -> std::io::Result<Self> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        };
        Ok(Self {
            child,
            requests,
            answers: BufReader::new(answers),
            known: HashSet::new(),
            is_usable: true,
        })
    }

    fn decide(
        &mut self,
        call: &PlanCall<'_>,
        time: Duration,
        limits: &Limits,
    ) -> Result<Decision, ScriptError> {
        let script = script_digest(call.name, call.text);
        let catalog = Digest::of(call.catalog.as_bytes());
        loop {
            let request = Request {
                script,
                source: self
                    .known
                    .insert(script)
                    .then(|| (call.name.to_owned(), call.text.to_owned())),
                catalog,
                catalog_toml: self.known.insert(catalog).then(|| call.catalog.to_owned()),
                function: call.function.to_owned(),
                machine: call.machine.cloned(),
                args: call.args.clone(),
            };
            match self.exchange(&request, time) {
                Ok(Answer::Decided(decision)) => return Ok(decision),
                Ok(Answer::NotCached) => self.known.clear(),
                Ok(Answer::Failed(failure)) => {
                    // the worker caches neither a script that does not compile nor the catalog with
                    // it
                    self.known.remove(&script);
                    self.known.remove(&catalog);
                    return Err((*failure).into());
                }
                Err(fault) => {
                    self.is_usable = false;
                    return Err(self.explain(&fault, call.name, limits));
                }
            }
        }
    }

    fn exchange(&mut self, request: &Request, time: Duration) -> std::io::Result<Answer> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.requests.write_all(&line)?;
        let deadline = Instant::now() + time;
        let mut answer = Vec::new();
        // workers write an answer in one go, so once it starts the rest follows
        while !answer.ends_with(b"\n") {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.answers.buffer().is_empty() && !wait_readable(self.answers.get_ref(), left)? {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            if self.answers.read_until(b'\n', &mut answer)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(serde_json::from_slice(&answer)?)
    }

    /// The error for a worker that did not answer.
    fn explain(&mut self, fault: &std::io::Error, name: &str, limits: &Limits) -> ScriptError {
        let exceeded = |message: String| {
            let mut error = ScriptError::new(Cause::Limit, message);
            error.hint =
                Some("look for a value that grows in a loop, or a loop without an end".into());
            error
        };
        let no_worker = |why: String| {
            let mut error =
                ScriptError::new(Cause::Host, format!("running {name} in a script worker: {why}"));
            error.hint = Some("the program must be one that serves scripts on its stdin".into());
            error
        };
        match fault.kind() {
            std::io::ErrorKind::TimedOut => exceeded(format!("{name} exceeded its time limit")),
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::BrokenPipe => {
                match self.exit_code() {
                    Some(code) => no_worker(format!("its process ended with exit code {code}")),
                    // out of memory: the allocator aborted, or the kernel killed the worker
                    None => exceeded(format!(
                        "{name} used more than {} of memory, and its process was killed",
                        bty::size::human(limits.memory_bytes)
                    )),
                }
            }
            _ => no_worker(format!("its answer cannot be read: {fault}")),
        }
    }

    /// The exit code of a worker that has closed its stdout; `None` if a signal ended it.
    fn exit_code(&mut self) -> Option<i32> {
        // changes nothing about a process that is exiting by itself
        let _ = self.child.kill();
        self.child.wait().ok()?.code()
    }
}

fn wait_readable(from: &ChildStdout, time: Duration) -> std::io::Result<bool> {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(time.subsec_nanos()) };
    let mut fds = [PollFd::new(from, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&time))? > 0)
}

impl Drop for Worker {
    fn drop(&mut self) {
        // both fail only if the process is gone already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
