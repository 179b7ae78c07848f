//! Exit codes of the `bty` command. They are stable; `bty --help` and
//! `docs/reference/exit-codes.md` list them.

use bty::ErrorKind;

use crate::engine::ScriptOutcome;
use crate::error::ScriptError;

/// The flash was refused before anything was written.
pub const REFUSED: u8 = 3;
/// A digest or the data read back differs.
pub const INTEGRITY: u8 = 5;
/// A script failed or does not compile, `bty check` found a mistake, or a test failed.
pub const SCRIPT: u8 = 7;
/// Cancelled by Ctrl-C, or by an answer other than `yes`.
pub const CANCELLED: u8 = 130;

/// The exit code for an error of `kind`.
#[must_use]
pub fn of_kind(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => 2,
        ErrorKind::Refused => REFUSED,
        ErrorKind::Source | ErrorKind::Format | ErrorKind::Catalog => 4,
        ErrorKind::Integrity => INTEGRITY,
        ErrorKind::Target => 6,
        ErrorKind::Cancelled => CANCELLED,
        _ => 1,
    }
}

/// The exit code of a script: of `exit(code)`, 0 for success, that of the failed host function, or
/// [`SCRIPT`].
#[must_use]
pub fn of_script(result: Result<&ScriptOutcome, &ScriptError>) -> u8 {
    match result {
        Ok(outcome) if outcome.by_exit => {
            outcome.value.as_int().ok().and_then(|code| u8::try_from(code).ok()).unwrap_or(0)
        }
        Ok(_) => 0,
        Err(error) => of_failure(error),
    }
}

fn of_failure(error: &ScriptError) -> u8 {
    of_kind(match error.kind() {
        "usage" => ErrorKind::Usage,
        "refused" => ErrorKind::Refused,
        "source" => ErrorKind::Source,
        "format" => ErrorKind::Format,
        "catalog" => ErrorKind::Catalog,
        "integrity" => ErrorKind::Integrity,
        "target" => ErrorKind::Target,
        "cancelled" => ErrorKind::Cancelled,
        "host" => ErrorKind::Host,
        _ => return SCRIPT,
    })
}
