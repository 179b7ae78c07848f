//! Ctrl-C and the signals that end a program.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bty::{CancelToken, Error, ErrorKind, Result};
use bty_script::ScriptContext;
use bty_script::terminal::Console;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Arriving;

/// So many Ctrl-C in so much time end the program at once, whatever it does. The first MiB of a
/// disk is written last, so even then nothing half-written boots.
const IMPATIENCE: (usize, Duration) = (3, Duration::from_secs(3));

/// What signals act on. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Signals(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    cancel: CancelToken,
    /// Where Ctrl-C goes, when scripts run; else it cancels all.
    host: Option<ScriptContext>,
    console: Option<Arc<Console>>,
    recent: Vec<Instant>,
    /// True while a line is edited: then nothing is to be cancelled, and an end is an end.
    is_idle: bool,
    /// A question that Ctrl-C answers with no.
    question: Option<CancelToken>,
}

/// A token that the first Ctrl-C, SIGTERM or SIGHUP cancels.
pub(crate) fn cancel_on_signal() -> Result<CancelToken> {
    Ok(Signals::listen()?.cancel())
}

impl Signals {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Self> {
        let signals = Self::default();
        let mut arriving = Arriving::new([SIGINT, SIGTERM, SIGHUP])
            .map_err(|e| Error::new(ErrorKind::Host, "listening for signals").because(e))?;
        let listener = signals.clone();
        let listening = move || arriving.forever().for_each(|signal| listener.arrived(signal));
        thread::Builder::new().spawn(listening).map_err(|e| {
            Error::new(ErrorKind::Host, "starting a thread to listen for signals").because(e).hint(
                "allow more processes (ulimit -u, the limit of the container), then try again",
            )
        })?;
        Ok(signals)
    }

    /// Cancelled when the program is to end.
    pub(crate) fn cancel(&self) -> CancelToken {
        self.state().cancel.clone()
    }

    /// Ctrl-C goes to the scripts of `host` from now on; `console` is restored when the program has
    /// to end at once.
    pub(crate) fn guard(&self, host: &ScriptContext, console: &Arc<Console>) {
        let mut state = self.state();
        state.host = Some(host.clone());
        state.console = Some(Arc::clone(console));
    }

    /// A line is being edited, or not any more.
    pub(crate) fn idle(&self, is_idle: bool) {
        let mut state = self.state();
        state.is_idle = is_idle;
        // several lines cancelled one after another are no impatience
        state.recent.clear();
    }

    /// Asks a question that the next Ctrl-C answers with no, by way of the token.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&CancelToken) -> T) -> T {
        let token = CancelToken::new();
        self.state().question = Some(token.clone());
        let answer = question(&token);
        self.state().question = None;
        answer
    }

    /// No script runs any more: Ctrl-C cancels all again.
    pub(crate) fn release(&self) {
        self.state().host = None;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrived(&self, signal: i32) {
        let mut state = self.state();
        if let Some(question) = state.question.take() {
            question.cancel();
            if signal == SIGINT {
                return;
            }
        }
        if signal == SIGINT {
            let (most, time) = IMPATIENCE;
            state.recent.retain(|at| at.elapsed() < time);
            state.recent.push(Instant::now());
            let impatient = state.host.is_none() && state.cancel.is_cancelled();
            if impatient || state.recent.len() >= most {
                end(&state);
            }
        } else if state.is_idle {
            end(&state);
        }
        match (&state.host, signal) {
            (Some(host), SIGINT) => host.interrupt(),
            (Some(host), _) => {
                state.cancel.cancel();
                host.interrupt();
            }
            (None, _) => state.cancel.cancel(),
        }
    }
}

/// What the line editor switches on: pasted text comes in brackets.
const NO_BRACKETED_PASTE: &str = "\x1b[?2004l";

/// Ends the program, and leaves a usable terminal.
fn end(state: &State) -> ! {
    if state.is_idle {
        let mut screen = std::io::stdout();
        let _ = screen.write_all(NO_BRACKETED_PASTE.as_bytes()).and_then(|()| screen.flush());
    }
    if let Some(console) = &state.console {
        console.restore();
    }
    std::process::exit(i32::from(crate::exit::CANCELLED));
}
