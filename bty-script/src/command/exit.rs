//! Exit codes as the process returns them.

use std::process::ExitCode;

use bty::ErrorKind;
pub(crate) use bty_script::exit_code::{CANCELLED, REFUSED, SCRIPT};
use bty_script::{ScriptError, ScriptOutcome, exit_code};

/// The exit code for an error of `kind`.
pub(crate) fn code(kind: ErrorKind) -> ExitCode {
    exit_code::of_kind(kind).into()
}

/// The exit code for a failed script: that of the failed host function, or [`SCRIPT`].
pub(crate) fn script(error: &ScriptError) -> ExitCode {
    exit_code::of_script(Err(error)).into()
}

/// The exit code for a script that ended without a failure.
pub(crate) fn outcome(outcome: &ScriptOutcome) -> ExitCode {
    exit_code::of_script(Ok(outcome)).into()
}

/// The exit code after clap's message: 0 for help and version, 2 for wrong arguments.
pub(crate) fn usage(is_error: bool) -> ExitCode {
    ExitCode::from(if is_error { 2 } else { 0 })
}
