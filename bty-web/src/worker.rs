//! The processes in which plans run. A server starts them, so that a script that needs too much
//! memory takes down its process and not the server.
//!
//! A program that embeds a server can be its own worker. Then `main` begins with
//!
//! ```no_run
//! # fn main() -> std::process::ExitCode {
//! if bty_web::worker::is_requested() {
//!     return bty_web::worker::serve();
//! }
//! # std::process::ExitCode::SUCCESS }
//! ```
//!
//! and the server gets the command [`this_program`]. Otherwise the command may start any program
//! that calls [`serve`], such as `bty-web script-worker` of the same version.

use std::process::{Command, ExitCode};

/// The argument with which [`this_program`] starts a worker.
const ARGUMENT: &str = "script-worker";

/// The variable that marks processes that a server has started as workers.
const MARK: &str = "BTY_SCRIPT_WORKER";

/// The command that starts this program as a worker, even if an upgrade has replaced its file in
/// the meantime. The program must call [`serve`] if [`is_requested`] says so.
#[must_use]
pub fn this_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(ARGUMENT);
    command
}

/// True if [`this_program`] has started this process.
#[must_use]
pub fn is_requested() -> bool {
    std::env::args_os().nth(1).is_some_and(|argument| argument == ARGUMENT)
}

/// Answers the questions of the server on stdin until it ends. Call it first thing in a process of
/// its own: it limits the memory of the whole process. Returns a failure if stdin or stdout fails.
#[must_use]
pub fn serve() -> ExitCode {
    match bty_script::worker::serve(&bty_script::Limits::server()) {
        Ok(()) => ExitCode::SUCCESS,
        // the server reports it
        Err(_) => ExitCode::FAILURE,
    }
}

/// Marks the process that `command` starts as a worker.
pub(crate) fn mark(command: &mut Command) {
    command.env(MARK, "1");
}

/// True if a server has started this process as a worker. It must not become a server itself, which
/// would start workers in turn, without an end.
pub(crate) fn is_marked() -> bool {
    std::env::var_os(MARK).is_some()
}
