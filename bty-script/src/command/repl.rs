//! `bty repl`: runs script lines as they are typed.

use std::io::{BufRead, IsTerminal};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use bty::{CancelToken, Error, ErrorKind};
use bty_script::engine::{InteractiveSession, InterruptTarget};
use bty_script::error::PowerAction;
use bty_script::terminal::Terminal;
use bty_script::{HostError, Limits, ScriptError, ScriptOutcome, render};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};

use crate::cli::Network;
use crate::output::Output;
use crate::session::{ScriptFacts, Session};
use crate::{exit, power};

mod commands;
mod complete;
mod confirm;
mod helper;
mod highlight;
mod input;

use helper::Helper;

const PROMPT: &str = "bty> ";
/// The prompt while something is open: a bracket, a text or a comment.
const CONTINUATION_PROMPT: &str = "...> ";
const HISTORY_LINES: usize = 5000;

/// Reads and runs lines until the end of the input, or until `:quit` or `exit()`.
pub(crate) fn run(network: &Network, output: &Output) -> bty::Result<ExitCode> {
    let session = Session::new(network, output)?;
    // the editor draws on stdout
    let is_edited = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut world = session.world.clone();
    if is_edited {
        world.flasher = confirm::asking(&session, output);
    }
    let facts = ScriptFacts::default();
    let engine = session.engine_for(world, facts, InterruptTarget::Script, Limits::operator());
    let mut repl = Repl { interactive: InteractiveSession::new(engine), session: &session, output };
    if is_edited { repl.at_terminal() } else { repl.through_pipe() }
}

pub(super) struct Repl<'a> {
    interactive: InteractiveSession,
    session: &'a Session,
    output: &'a Output,
}

impl Repl<'_> {
    /// Reads lines from a line editor.
    fn at_terminal(&mut self) -> bty::Result<ExitCode> {
        let failed =
            |e: ReadlineError| Error::new(ErrorKind::Host, "reading the terminal").because(e);
        let config =
            Config::builder().completion_type(CompletionType::List).auto_add_history(false);
        let config = config.max_history_size(HISTORY_LINES).map_err(failed)?.build();
        let mut editor: Editor<Helper, FileHistory> =
            Editor::with_config(config).map_err(failed)?;
        editor.set_helper(Some(Helper::new(&self.interactive, self.output.has_color())));
        let history = history_file();
        if let Some(path) = &history {
            let _ = editor.load_history(path);
        }
        self.output.say(&format!(
            "bty {} - type help for help, Ctrl-D to quit",
            env!("CARGO_PKG_VERSION")
        ));
        let mut pending = String::new();
        let code = loop {
            let prompt = if pending.is_empty() { PROMPT } else { CONTINUATION_PROMPT };
            self.session.signals.set_editing(true);
            let line = editor.readline(prompt);
            self.session.signals.set_editing(false);
            match line {
                Ok(line) => pending.push_str(&line),
                Err(ReadlineError::Interrupted) => {
                    pending.clear();
                    continue;
                }
                Err(ReadlineError::Eof) => break ExitCode::SUCCESS,
                Err(error) => return Err(failed(error)),
            }
            if input::is_incomplete(&pending) {
                pending.push('\n');
                continue;
            }
            let whole = std::mem::take(&mut pending);
            if whole.trim().is_empty() {
                continue;
            }
            let is_new = editor.add_history_entry(whole.as_str()).unwrap_or(false);
            if let Some(path) = history.as_ref().filter(|_| is_new) {
                // after each line, so that a crash loses nothing; failures are ignored
                let _ = editor.append_history(path);
            }
            if let ControlFlow::Break(code) = self.run_line(&whole) {
                break code;
            }
            if let Some(helper) = editor.helper_mut() {
                helper.refresh(&self.interactive);
            }
        };
        Ok(code)
    }

    /// Reads lines from a pipe; the first error ends the session.
    fn through_pipe(&mut self) -> bty::Result<ExitCode> {
        let failed = |e: std::io::Error| Error::new(ErrorKind::Host, "reading stdin").because(e);
        let mut pending = String::new();
        for line in std::io::stdin().lock().lines() {
            pending.push_str(&line.map_err(failed)?);
            pending.push('\n');
            if input::is_incomplete(&pending) {
                continue;
            }
            let whole = std::mem::take(&mut pending);
            if let Some(code) = self.run_piped_line(&whole) {
                return Ok(code);
            }
        }
        Ok(self.run_piped_line(&pending).unwrap_or(ExitCode::SUCCESS))
    }

    fn run_piped_line(&mut self, line: &str) -> Option<ExitCode> {
        if line.trim().is_empty() {
            return None;
        }
        match self.perform(line) {
            Ok(ControlFlow::Continue(())) => None,
            Ok(ControlFlow::Break(code)) => Some(code),
            Err(error) => {
                self.output.script_error(&error);
                Some(exit::script(&error))
            }
        }
    }

    /// Runs a line and shows its error, if any; the session goes on.
    fn run_line(&mut self, line: &str) -> ControlFlow<ExitCode> {
        self.perform(line).unwrap_or_else(|error| {
            self.output.script_error(&error);
            let is_over = self.session.signals.cancel().is_cancelled();
            if is_over {
                ControlFlow::Break(ExitCode::from(exit::CANCELLED))
            } else {
                ControlFlow::Continue(())
            }
        })
    }

    fn perform(&mut self, line: &str) -> Result<ControlFlow<ExitCode>, ScriptError> {
        if let Some(command) = line.trim().strip_prefix(':') {
            return self.command(command);
        }
        if let Some(next) = self.bare_word(line.trim())? {
            return Ok(next);
        }
        let outcome = self.interactive.eval(line, &CancelToken::new());
        self.session.progress.clear();
        self.show_outcome(&outcome?)
    }

    /// Shows the value of a line, or carries out its `exit` or `reboot`.
    fn show_outcome(&self, outcome: &ScriptOutcome) -> Result<ControlFlow<ExitCode>, ScriptError> {
        if outcome.by_exit {
            return Ok(ControlFlow::Break(exit::outcome(outcome)));
        }
        if let Some(action) = outcome.power {
            return self.power(action).map_err(|error| HostError::from(error).into());
        }
        if !outcome.value.is_unit() {
            let columns = self.session.console.size().columns;
            self.output.print(&render::display(&outcome.value, columns));
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Asks before the machine is taken down: a typo at the prompt must not do that.
    fn power(&self, action: PowerAction) -> bty::Result<ControlFlow<ExitCode>> {
        let prompt = "Type yes to reboot or power off this machine: ";
        let answer =
            self.session.signals.ask(|cancel| self.session.console.read_line(prompt, cancel))?;
        if answer.as_deref().map(str::trim) == Some("yes") {
            power::perform(action, false, self.output)?;
            return Ok(ControlFlow::Break(ExitCode::SUCCESS));
        }
        self.output.say("cancelled");
        Ok(ControlFlow::Continue(()))
    }

    /// Runs `:time EXPRESSION`, and prints the seconds that it took.
    fn timed(&mut self, line: &str) -> Result<ControlFlow<ExitCode>, ScriptError> {
        let begun = Instant::now();
        let next = self.perform(line);
        self.output.say(&format!("{:.3} s", begun.elapsed().as_secs_f64()));
        next
    }
}

/// Path of the history file; creates its directory, readable only by the user.
fn history_file() -> Option<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let set =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // the XDG specification says to ignore relative paths
    let state = set("XDG_STATE_HOME")
        .filter(|dir| dir.is_absolute())
        .or_else(|| Some(set("HOME")?.join(".local/state")))?;
    let dir = state.join("bty");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
    Some(dir.join("history"))
}
