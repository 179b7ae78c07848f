//! Exit codes: stable, listed in `bty --help` and in the docs.

use std::process::ExitCode;

use bty::ErrorKind;
use bty_script::ScriptError;

/// Refused by validation.
pub(crate) const REFUSED: u8 = 3;
/// A digest or a read-back differs.
pub(crate) const INTEGRITY: u8 = 5;
/// A script that does not compile, gave up or hit a limit; a finding; a failed test.
pub(crate) const SCRIPT: u8 = 7;
/// Cancelled, by Ctrl-C or by an answer other than `yes`.
pub(crate) const CANCELLED: u8 = 130;

/// The exit code for an error of `kind`.
pub(crate) fn code(kind: ErrorKind) -> ExitCode {
    ExitCode::from(match kind {
        ErrorKind::Usage => 2,
        ErrorKind::Refused => REFUSED,
        ErrorKind::Source | ErrorKind::Format | ErrorKind::Catalog => 4,
        ErrorKind::Integrity => INTEGRITY,
        ErrorKind::Target => 6,
        ErrorKind::Cancelled => CANCELLED,
        _ => 1,
    })
}

/// The exit code for a script that failed: of the host's failure, or that of scripts.
pub(crate) fn script(error: &ScriptError) -> ExitCode {
    let kind = match error.kind() {
        "usage" => ErrorKind::Usage,
        "refused" => ErrorKind::Refused,
        "source" => ErrorKind::Source,
        "format" => ErrorKind::Format,
        "catalog" => ErrorKind::Catalog,
        "integrity" => ErrorKind::Integrity,
        "target" => ErrorKind::Target,
        "cancelled" => ErrorKind::Cancelled,
        "host" => ErrorKind::Host,
        _ => return ExitCode::from(SCRIPT),
    };
    code(kind)
}

/// The exit code after clap has spoken: help and version are no errors.
pub(crate) fn usage(is_error: bool) -> ExitCode {
    ExitCode::from(if is_error { 2 } else { 0 })
}
