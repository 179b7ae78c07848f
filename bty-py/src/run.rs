//! Long work beside Python.
//!
//! ```text
//! thread of the caller: waits without the interpreter ─► events, calls ─► callbacks; signals; is cancelling wanted?
//! thread of the work:   knows no Python ─────────────────▲                          └─► token of the work
//! ```
//!
//! Everything that is Python runs in the thread that called. What a callback raises cancels the
//! work, and goes on to the caller when the work has ended.

use std::thread;
use std::time::Duration;

use bty::{CancelToken, Event, Observer};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::cancel::Cancel;

/// How soon a signal or a wish to cancel is seen.
const POLL: Duration = Duration::from_millis(50);

/// Something for the thread that called.
pub(crate) enum Message {
    Event(Event),
    Call(Call),
}

/// What is done in the thread that called.
pub(crate) type Call = Box<dyn FnOnce(Python<'_>) -> PyResult<()> + Send>;

/// The work's way to the thread that called.
#[derive(Clone)]
pub(crate) struct Caller(Sender<Message>);

impl Caller {
    /// Has `call` done; does not wait for it. False when nobody listens any more.
    pub(crate) fn call(&self, call: Call) -> bool {
        self.0.send(Message::Call(call)).is_ok()
    }
}

impl Observer for Caller {
    fn event(&self, event: &Event) {
        // whoever called may have left already
        let _ = self.0.send(Message::Event(event.clone()));
    }
}

/// Does `work` in a thread of its own, until it ends. `progress` is called with each event.
///
/// # Errors
/// What a callback or a signal raised. What `work` gave is inside.
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
        let working = scope.spawn(move || work(&caller, token));
        let raised = listen(py, &messages, cancel, progress, token).err();
        // nobody reads any more: what still comes is for nobody
        drop(messages);
        (py.detach(|| working.join()), raised)
    });
    match (raised, result) {
        (Some(error), _) => Err(error),
        (None, Ok(result)) => Ok(result),
        (None, Err(_)) => Err(PyRuntimeError::new_err(
            "bty has failed in a way that it should not; please report it",
        )),
    }
}

/// Until the work has ended, or something was raised; then the work is cancelled.
fn listen(
    py: Python<'_>,
    messages: &Receiver<Message>,
    cancel: &Cancel<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    token: &CancelToken,
) -> PyResult<()> {
    loop {
        let message = py.detach(|| messages.recv_timeout(POLL));
        let result = match message {
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(Message::Call(call)) => call(py),
            Ok(Message::Event(event)) => tell(py, progress, event),
        };
        let result = result.and_then(|()| py.check_signals()).and_then(|()| cancel.is_wanted());
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

fn tell(py: Python<'_>, progress: Option<&Bound<'_, PyAny>>, event: Event) -> PyResult<()> {
    match progress {
        Some(progress) => {
            progress.call1((crate::events::Event::from(event).into_pyobject(py)?,)).map(drop)
        }
        None => Ok(()),
    }
}
