//! Handles Ctrl-C, SIGTERM and SIGHUP.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bty::{CancelToken, Error, ErrorKind, Result};
use bty_script::ScriptContext;
use bty_script::terminal::Console;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator;

/// This many Ctrl-C within this time end the program at once. Even then no half-written disk boots:
/// its first MiB is written last.
const FORCE_EXIT: (usize, Duration) = (3, Duration::from_secs(3));

/// Routes signals to what is running. Clones share one state.
#[derive(Clone, Default)]
pub(crate) struct Signals(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    cancel: CancelToken,
    /// The script that Ctrl-C interrupts; without one it cancels the program.
    script: Option<ScriptContext>,
    console: Option<Arc<Console>>,
    recent: Vec<Instant>,
    /// True while the person edits a line. No operation is running then, so SIGTERM exits at once.
    is_editing: bool,
    /// The open question, which Ctrl-C answers with no.
    question: Option<CancelToken>,
}

/// Returns a token that the first Ctrl-C, SIGTERM or SIGHUP cancels.
pub(crate) fn cancel_on_signal() -> Result<CancelToken> {
    Ok(Signals::listen()?.cancel())
}

impl Signals {
    /// Starts a thread that handles signals from now on.
    pub(crate) fn listen() -> Result<Self> {
        let signals = Self::default();
        let mut incoming = iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
            .map_err(|e| Error::new(ErrorKind::Host, "installing signal handlers").because(e))?;
        let listener = signals.clone();
        let listening = move || incoming.forever().for_each(|signal| listener.handle(signal));
        thread::Builder::new().spawn(listening).map_err(|e| {
            Error::new(ErrorKind::Host, "starting the thread that handles signals").because(e).hint(
                "raise the limit on processes (ulimit -u, or that of the container), then try \
                 again",
            )
        })?;
        Ok(signals)
    }

    /// The token that is cancelled when the program should end.
    pub(crate) fn cancel(&self) -> CancelToken {
        self.state().cancel.clone()
    }

    /// From now on Ctrl-C interrupts the scripts of `context`. A forced exit restores `console`.
    pub(crate) fn route_to_script(&self, context: &ScriptContext, console: &Arc<Console>) {
        let mut state = self.state();
        state.script = Some(context.clone());
        state.console = Some(Arc::clone(console));
    }

    /// Sets whether the person is editing a line.
    pub(crate) fn set_editing(&self, is_editing: bool) {
        let mut state = self.state();
        state.is_editing = is_editing;
        // Ctrl-C on several lines in a row does not force an exit
        state.recent.clear();
    }

    /// Runs `question`; the next Ctrl-C cancels its token, which means no.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&CancelToken) -> T) -> T {
        let token = CancelToken::new();
        self.state().question = Some(token.clone());
        let answer = question(&token);
        self.state().question = None;
        answer
    }

    /// From now on Ctrl-C cancels the program again: no script is running.
    pub(crate) fn route_to_program(&self) {
        self.state().script = None;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, signal: i32) {
        let mut state = self.state();
        if let Some(question) = state.question.take() {
            question.cancel();
            if signal == SIGINT {
                return;
            }
        }
        if signal == SIGINT {
            let (most, time) = FORCE_EXIT;
            state.recent.retain(|at| at.elapsed() < time);
            state.recent.push(Instant::now());
            let is_impatient = state.script.is_none() && state.cancel.is_cancelled();
            if is_impatient || state.recent.len() >= most {
                exit_now(&state);
            }
        } else if state.is_editing {
            exit_now(&state);
        }
        match (&state.script, signal) {
            (Some(script), SIGINT) => script.interrupt(),
            (Some(script), _) => {
                state.cancel.cancel();
                script.interrupt();
            }
            (None, _) => state.cancel.cancel(),
        }
    }
}

/// Turns off bracketed paste, which the line editor has turned on.
const NO_BRACKETED_PASTE: &str = "\x1b[?2004l";

/// Restores the terminal and exits.
fn exit_now(state: &State) -> ! {
    if state.is_editing {
        let mut screen = std::io::stdout();
        let _ = screen.write_all(NO_BRACKETED_PASTE.as_bytes()).and_then(|()| screen.flush());
    }
    if let Some(console) = &state.console {
        console.restore();
    }
    std::process::exit(i32::from(crate::exit::CANCELLED));
}
