//! Runs long operations in a thread of their own, while the calling thread handles callbacks,
//! signals and cancellation.
//!
//! ```text
//! calling thread: waits without the GIL ─► events, calls ─► callbacks, signals, cancel?
//! worker thread:  runs no Python code ──────────▲                └─► cancel token of the work
//! ```
//!
//! It uses the channels of the standard library because a thread that waits for one sleeps at once.
//! With crossbeam's channels it yields the processor first, which costs milliseconds on a busy
//! machine.
//!
//! All Python code runs in the calling thread. An exception from a callback cancels the work, and
//! is raised to the caller after the work has ended.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bty::{CancelToken, Event, Observer};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::cancel::Cancel;

/// Interval for checking signals and cancellation.
const POLL: Duration = Duration::from_millis(50);

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
    let (sender, messages) = channel();
    // a receiver is not `Sync`, as waiting without the interpreter requires
    let messages = Mutex::new(messages);
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
    messages: &Mutex<Receiver<Message>>,
    cancel: &Cancel<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    token: &CancelToken,
) -> PyResult<()> {
    loop {
        let message = py
            .detach(|| messages.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(POLL));
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
