//! Runs long operations in a thread of their own, while the calling thread handles callbacks,
//! signals and cancellation.
//!
//! ```text
//! calling thread: waits without the GIL ─► events, calls ─► callbacks, signals, cancel?
//! worker thread:  runs no Python code ──────────▲                └─► cancel token of the work
//! ```
//!
//! All Python code runs in the calling thread. An exception from a callback cancels the work, and
//! is raised to the caller after the work has ended.

use std::thread;
use std::time::{Duration, Instant};

use bty::{CancelToken, Event, Observer};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::cancel::Cancel;

/// Interval for checking signals and cancellation.
const POLL: Duration = Duration::from_millis(50);

/// How long a thread watches for a message before it sleeps. A function that a script calls is
/// answered within microseconds, but waking a sleeping thread takes ten to a hundred times as long.
const WATCH: Duration = Duration::from_micros(50);

/// Waits up to [`WATCH`] for a message without sleeping. Lets other threads run meanwhile.
pub(crate) fn watch<T>(messages: &Receiver<T>) -> Option<T> {
    let begin = Instant::now();
    loop {
        if let Ok(message) = messages.try_recv() {
            return Some(message);
        }
        if begin.elapsed() > WATCH {
            return None;
        }
        thread::yield_now();
    }
}

/// A message of the worker thread to the calling thread.
pub(crate) enum Message {
    Event(Event),
    Call(Call),
}

/// Code that the calling thread runs.
pub(crate) type Call = Box<dyn FnOnce(Python<'_>) -> PyResult<()> + Send>;

/// Sends messages to the calling thread. The channel is unbounded, so that sending never blocks.
#[derive(Clone)]
pub(crate) struct Caller(Sender<Message>);

impl Caller {
    /// Has the calling thread run `call`, without waiting for it. Returns false if that thread no
    /// longer listens, because it is raising an exception.
    pub(crate) fn call(&self, call: Call) -> bool {
        self.0.send(Message::Call(call)).is_ok()
    }
}

impl Observer for Caller {
    fn event(&self, event: &Event) {
        // fails only if the calling thread is raising an exception already
        let _ = self.0.send(Message::Event(event.clone()));
    }
}

/// Runs `work` in a thread of its own and waits for its end. Calls `progress` with each event.
///
/// # Errors
/// The exception that a callback or a signal raised. The result of `work` itself is inside.
pub(crate) fn run<T: Send, E: Send>(
    py: Python<'_>,
    cancel: &Cancel<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&Caller, &CancelToken) -> Result<T, E> + Send,
) -> PyResult<Result<T, E>> {
    let token = CancelToken::new();
    let (sender, messages) = unbounded();
    let caller = Caller(sender);
    let (result, raised) = thread::scope(|scope| {
        let token = &token;
        let worker = scope.spawn(move || work(&caller, token));
        let raised = listen(py, &messages, cancel, progress, token).err();
        // so that a worker that waits for the answer to a call does not wait forever
        drop(messages);
        (py.detach(|| worker.join()), raised)
    });
    match (raised, result) {
        (Some(error), _) => Err(error),
        (None, Ok(result)) => Ok(result),
        (None, Err(_)) => Err(PyRuntimeError::new_err(
            "internal error: the worker thread panicked; please report this",
        )),
    }
}

/// Handles messages until the work has ended. If a callback or a signal raises, cancels the work
/// and returns the exception.
fn listen(
    py: Python<'_>,
    messages: &Receiver<Message>,
    cancel: &Cancel<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    token: &CancelToken,
) -> PyResult<()> {
    let mut has_called = false;
    loop {
        let message = py.detach(|| {
            // events are rare, but a call is often followed by another one
            let soon = has_called.then(|| watch(messages)).flatten();
            soon.map_or_else(|| messages.recv_timeout(POLL), Ok)
        });
        has_called = matches!(message, Ok(Message::Call(_)));
        let result = match message {
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(Message::Call(call)) => call(py),
            Ok(Message::Event(event)) => call_progress(py, progress, event),
        };
        let result = result.and_then(|()| py.check_signals()).and_then(|()| cancel.is_requested());
        match result {
            Ok(false) => {}
            Ok(true) => token.cancel(),
            Err(error) => {
                token.cancel();
                return Err(error);
            }
        }
    }
}

fn call_progress(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    event: Event,
) -> PyResult<()> {
    match progress {
        Some(progress) => progress.call1((crate::events::to_python(py, event)?,)).map(drop),
        None => Ok(()),
    }
}
