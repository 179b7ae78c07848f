//! Exit codes. They are stable; `bty --help` and `docs/reference/command.md` list them.

use std::process::ExitCode;

use bty::ErrorKind;
use bty_script::ScriptError;

/// The flash was refused before anything was written.
pub(crate) const REFUSED: u8 = 3;
/// A digest or the data read back differs.
pub(crate) const INTEGRITY: u8 = 5;
/// A script failed or does not compile, `bty check` found a mistake, or a test failed.
pub(crate) const SCRIPT: u8 = 7;
/// Cancelled by Ctrl-C, or by an answer other than `yes`.
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

/// The exit code for a failed script: that of the failed host function, or [`SCRIPT`].
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

/// The exit code after clap's message: 0 for help and version, 2 for wrong arguments.
pub(crate) fn usage(is_error: bool) -> ExitCode {
    ExitCode::from(if is_error { 2 } else { 0 })
}
