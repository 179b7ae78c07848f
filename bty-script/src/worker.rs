//! Scripts in a process of their own.
//!
//! The limits of the engine bound what a script can do, but not exactly how much memory it takes on
//! the way: containers can grow by parts that are each within the limits. A server therefore runs
//! scripts in worker processes with a bound of the system on their memory (`RLIMIT_AS`): whatever a
//! script does, it is the worker that ends. Workers only compute; they are kept, and remember what
//! they compiled.
//!
//! The program that is started as a worker calls [`serve`] and does nothing else. Requests and
//! answers are JSON, one a line, over its stdin and stdout.

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
use crate::decide::{Decider, Decision, MachineFacts, Question, digest_of};
use crate::engine::{Engine, Limits};
use crate::error::{Cause, Place, ScriptError};

/// What a worker may map beyond what it begins with: twice what a script may take, since a value
/// that grows is moved.
const SPARE_FACTOR: u64 = 2;

/// How much longer than the script's own limit a worker is waited for: starting, compiling.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a limit on time is that is none: an hour, after which nobody waits for a decision any more.
const UNLIMITED: Duration = Duration::from_secs(3600);

#[derive(Serialize, Deserialize)]
struct Request {
    /// Digest of name and text.
    script: Digest,
    /// Name and text, when the worker does not have the script yet.
    source: Option<(String, String)>,
    /// Digest of the catalog.
    catalog: Digest,
    /// The catalog, when the worker does not have it yet.
    catalog_toml: Option<String>,
    function: String,
    machine: Option<MachineFacts>,
    args: Vec<Value>,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Decided(Decision),
    Failed(Box<Failure>),
    /// The worker has made room meanwhile.
    Forgotten,
}

/// A [`ScriptError`] on its way between processes.
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

/// Answers requests from stdin until it ends. The process must do nothing else.
///
/// # Errors
/// When its memory cannot be bounded, or stdin and stdout fail.
pub fn serve(limits: &Limits) -> std::io::Result<()> {
    let decider = Decider::new(Engine::new(ScriptContext::compute_only(), limits.clone()));
    bound_memory(limits.memory_bytes * SPARE_FACTOR)?;
    for line in std::io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?)?;
        let answer = match answer(&decider, request) {
            Ok(Some(decision)) => Answer::Decided(decision),
            Ok(None) => Answer::Forgotten,
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
        decider.learn_script(script, &name, &text)?;
    }
    if let Some(toml) = catalog_toml {
        decider.learn_catalog(catalog, &toml)?;
    }
    decider.answer(script, catalog, &function, machine, &args).transpose()
}

/// Lets the process map `spare_bytes` more than it has now.
fn bound_memory(spare_bytes: u64) -> std::io::Result<()> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut limit: Rlimit = getrlimit(Resource::As);
    limit.current = Some(pages * rustix::param::page_size() as u64 + spare_bytes);
    setrlimit(Resource::As, limit)?;
    Ok(())
}

/// A pool of worker processes.
pub struct Workers {
    command: Box<dyn Fn() -> Command + Send + Sync>,
    limits: Limits,
    pool: Mutex<Pool>,
    returned: Condvar,
}

struct Pool {
    idle: Vec<Worker>,
    /// How many more may be started.
    free: usize,
}

impl Workers {
    /// Up to `count` workers, started by `command` when they are needed. The program must call
    /// [`serve`] with the same `limits`.
    #[must_use]
    pub fn new(
        command: impl Fn() -> Command + Send + Sync + 'static,
        limits: Limits,
        count: usize,
    ) -> Self {
        let pool = Mutex::new(Pool { idle: Vec::new(), free: count.max(1) });
        Self { command: Box::new(command), limits, pool, returned: Condvar::new() }
    }

    /// Answers `question`. Blocks until a worker is free and has answered.
    ///
    /// # Errors
    /// Whatever the script fails with; [`Cause::Limit`] also when its worker had to be ended.
    pub fn decide(&self, question: &Question<'_>) -> Result<Decision, ScriptError> {
        let mut worker = self.take()?;
        let time = self.limits.time.unwrap_or(UNLIMITED) + PATIENCE;
        let result = worker.decide(question, time, &self.limits);
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if worker.is_usable {
            pool.idle.push(worker);
        } else {
            pool.free += 1;
        }
        self.returned.notify_one();
        result
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
        Worker::start((self.command)()).map_err(|e| {
            self.pool.lock().unwrap_or_else(PoisonError::into_inner).free += 1;
            ScriptError::new(Cause::Host, format!("starting a worker for scripts: {e}"))
        })
    }
}

struct Worker {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Scripts and catalogs that it has.
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
        question: &Question<'_>,
        time: Duration,
        limits: &Limits,
    ) -> Result<Decision, ScriptError> {
        let script = digest_of(question.name, question.text);
        let catalog = Digest::of(question.catalog.as_bytes());
        loop {
            let request = Request {
                script,
                source: self
                    .known
                    .insert(script)
                    .then(|| (question.name.to_owned(), question.text.to_owned())),
                catalog,
                catalog_toml: self.known.insert(catalog).then(|| question.catalog.to_owned()),
                function: question.function.to_owned(),
                machine: question.machine.cloned(),
                args: question.args.clone(),
            };
            match self.exchange(&request, time) {
                Ok(Answer::Decided(decision)) => return Ok(decision),
                Ok(Answer::Forgotten) => self.known.clear(),
                Ok(Answer::Failed(failure)) => {
                    // what does not compile is not kept, nor what came with it
                    self.known.remove(&script);
                    self.known.remove(&catalog);
                    return Err((*failure).into());
                }
                Err(fault) => {
                    self.is_usable = false;
                    return Err(self.explain(&fault, question.name, limits));
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
        // an answer is written in one go, so once it begins its end is near
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

    /// Why a worker did not answer.
    fn explain(&self, fault: &std::io::Error, name: &str, limits: &Limits) -> ScriptError {
        let mut error = match fault.kind() {
            std::io::ErrorKind::TimedOut => {
                ScriptError::new(Cause::Limit, format!("{name} did not end in time"))
            }
            // the allocator aborts, the system kills
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::BrokenPipe => {
                let bytes = bty::size::human(limits.memory_bytes);
                ScriptError::new(
                    Cause::Limit,
                    format!("{name} took more than {bytes} of memory, and its process was ended"),
                )
            }
            _ => ScriptError::new(Cause::Host, format!("asking the worker about {name}: {fault}")),
        };
        error.hint =
            Some("look for something that grows in a loop, or a loop without an end".into());
        error
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
        // both fail only when it is gone already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
