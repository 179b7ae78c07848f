//! Failures of host functions and of scripts.
//!
//! A host function fails with a [`HostError`], which a script can catch (`catch (e) { e.kind … }`).
//! A value that a script throws itself stays as it is. Whatever the script does not catch becomes a
//! [`ScriptError`], with its place in the source.

use std::cell::Cell;
use std::fmt;

use rhai::{Dynamic, EvalAltResult, Position};
use serde_json::Value;

mod place;

pub use place::{Place, Sources};

/// What a host function returns to rhai.
pub(crate) type CallResult<T> = Result<T, Box<EvalAltResult>>;

/// The failure of a host function. Its text is the whole message: it has no
/// [`source`](std::error::Error::source). Scripts see it as type `Error`, with the same fields.
#[derive(Clone, Debug)]
pub struct HostError {
    /// A word to match on: a kind of [`bty::ErrorKind`]; `capability` if the context does not
    /// allow the function; `binding` if a machine lacks an image or a disk.
    pub kind: String,
    /// One sentence without a full stop.
    pub message: String,
    /// The file, device or URL concerned.
    pub path: Option<String>,
    /// The offset concerned, in bytes.
    pub offset: Option<u64>,
    /// What the person can do next.
    pub hint: Option<String>,
    /// The hint as a word of [`bty::Remedy`], if there is one for it.
    pub remedy: Option<bty::Remedy>,
    /// The report of the failed flash, as JSON.
    pub report: Option<Value>,
    /// True if writing had begun: the disk may hold part of an image, and does not boot.
    pub has_written: bool,
}

impl HostError {
    /// An error of `kind` with `message`, one sentence without a full stop.
    #[must_use]
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
            path: None,
            offset: None,
            hint: None,
            remedy: None,
            report: None,
            has_written: false,
        }
    }

    /// Adds what the person can do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self.remedy = None;
        self
    }

    /// An error of kind `usage`: an argument is invalid.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new("usage", message)
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for HostError {}

impl From<bty::Error> for HostError {
    fn from(error: bty::Error) -> Self {
        Self {
            kind: error.kind().to_string(),
            message: format!("{error:#}"),
            path: error.path().map(str::to_owned),
            offset: error.offset(),
            hint: error.next_step().map(str::to_owned),
            remedy: error.remedy(),
            report: None,
            has_written: error.has_written(),
        }
    }
}

thread_local! {
    /// Position of the current call of a host function. Rhai adds a position to errors only for
    /// functions without a module.
    static CALL: Cell<Position> = const { Cell::new(Position::NONE) };
}

/// Records the position of the current call, for [`raise`].
pub(crate) fn note_call(position: Position) {
    CALL.set(position);
}

/// Raises a [`HostError`] at the current call. All bindings use it, so that no failure looks like a
/// `throw` of the script.
pub(crate) fn raise(error: impl Into<HostError>) -> Box<EvalAltResult> {
    EvalAltResult::ErrorRuntime(Dynamic::from(error.into()), CALL.get()).into()
}

/// Raises a [`HostError`] from operators and conversions, which do not know where they were called;
/// rhai adds the position.
pub(crate) fn raise_unplaced(error: impl Into<HostError>) -> Box<EvalAltResult> {
    EvalAltResult::ErrorRuntime(Dynamic::from(error.into()), Position::NONE).into()
}

/// The original error inside the errors of the calls around it.
pub(crate) fn innermost(mut error: &EvalAltResult) -> &EvalAltResult {
    while let EvalAltResult::ErrorInFunctionCall(_, _, inner, _)
    | EvalAltResult::ErrorInModule(_, inner, _) = error
    {
        error = inner;
    }
    error
}

/// Why the engine terminated a script. Scripts cannot catch it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// The run was cancelled.
    Cancelled,
    /// The script exceeded the wall-clock limit, in milliseconds.
    Time(u64),
    /// The script exceeded the memory limit, in bytes.
    Memory(u64),
    /// The script called `reboot`, `kexec` or `power_off`.
    Power(PowerAction),
    /// The script called `exit` with this code.
    Exit(u8),
}

/// What to do with the machine after a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PowerAction {
    /// Restart through the firmware.
    Reboot,
    /// Start the loaded kernel without going through the firmware.
    Kexec,
    /// Power the machine off.
    PowerOff,
}

/// Why a script failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The script does not compile.
    Syntax,
    /// A host function failed; [`ScriptError::host`] has the details.
    Host,
    /// The script threw a value.
    Throw,
    /// The script has a bug: an unknown function, a wrong type, an index out of bounds.
    Script,
    /// The script exceeded one of its [`Limits`](crate::Limits).
    Limit,
    /// The run was cancelled from outside.
    Cancelled,
}

/// The failure of a script. `Display` shows the message, the place with its source line, and the
/// calls that led there, on several lines.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ScriptError {
    /// Why the script failed.
    pub cause: Cause,
    /// One sentence without a full stop.
    pub message: String,
    /// What the person can do next.
    pub hint: Option<String>,
    /// Where the script failed, if the failure has a place.
    pub place: Option<Place>,
    /// The calls that led to `place`, innermost first.
    pub calls: Vec<Place>,
    /// The failed host function's error, for [`Cause::Host`].
    pub host: Option<HostError>,
}

impl ScriptError {
    /// A failure without a place, hint or calls.
    #[must_use]
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self {
            cause,
            message: message.into(),
            hint: None,
            place: None,
            calls: Vec::new(),
            host: None,
        }
    }

    /// The script exceeded a time limit of `millis` milliseconds.
    pub(crate) fn timed_out(millis: u64) -> Self {
        let seconds = std::time::Duration::from_millis(millis).as_secs_f64();
        let mut error = Self::new(Cause::Limit, format!("the script took longer than {seconds} s"));
        error.hint = Some("look for a loop or a wait that takes too long".to_owned());
        error
    }

    /// A word to match on: the kind of the [`HostError`], or `syntax`, `throw`, `script`, `limit`,
    /// `cancelled`.
    #[must_use]
    pub fn kind(&self) -> &str {
        match (self.cause, &self.host) {
            (Cause::Host, Some(host)) => &host.kind,
            (Cause::Syntax, _) => "syntax",
            (Cause::Throw, _) => "throw",
            (Cause::Limit, _) => "limit",
            (Cause::Cancelled, _) => "cancelled",
            _ => "script",
        }
    }

    /// The error as JSON, in the form that `bty run --json` prints.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let host = self.host.as_ref();
        serde_json::json!({
            "kind": self.kind(),
            "message": self.message,
            "hint": self.hint,
            "path": host.and_then(|h| h.path.as_deref()),
            "offset": host.and_then(|h| h.offset),
            "place": self.place,
            "calls": self.calls,
        })
    }
}

/// For failures outside the run of a script, such as a file that cannot be read.
impl From<HostError> for ScriptError {
    fn from(host: HostError) -> Self {
        let cause = if host.kind == "cancelled" { Cause::Cancelled } else { Cause::Host };
        Self { hint: host.hint.clone(), host: Some(host.clone()), ..Self::new(cause, host.message) }
    }
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(place) = &self.place {
            write!(f, "\n{place}")?;
        }
        for call in &self.calls {
            write!(f, "\n  called from {}:{}:{}", call.file, call.line, call.column)?;
        }
        Ok(())
    }
}

impl std::error::Error for ScriptError {}
