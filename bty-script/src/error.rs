//! Errors on both sides of a script.
//!
//! A failure of the host is a [`HostError`], a value that a script can catch
//! (`catch (e) { e.kind … }`). What a script throws itself stays what it threw. [`ScriptError`] is
//! either of them once nobody caught it, with the place in the source.

use std::cell::Cell;
use std::fmt;

use rhai::{Dynamic, EvalAltResult, Position};
use serde_json::Value;

mod place;

pub use place::{Place, Sources};

/// What a host function returns to the engine.
pub(crate) type Outcome<T> = Result<T, Box<EvalAltResult>>;

/// A failure of the host, as a script sees it: type `Error`, with the fields `kind`, `message`,
/// `path`, `offset`, `hint`, `report` and `has_written`.
#[derive(Clone, Debug)]
pub struct HostError {
    /// A word to match on: the kinds of [`bty::ErrorKind`], and `capability` for what this host
    /// does not let scripts do.
    pub kind: String,
    /// One sentence without a full stop.
    pub message: String,
    /// The file, device or address concerned.
    pub path: Option<String>,
    /// The offset concerned, in bytes.
    pub offset: Option<u64>,
    /// The next step.
    pub hint: Option<String>,
    /// The report of the flash that failed, as data.
    pub report: Option<Value>,
    /// True when writing had begun before: the disk may hold a part of an image, and does not boot.
    pub has_written: bool,
}

impl HostError {
    /// An error of `kind`.
    #[must_use]
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
            path: None,
            offset: None,
            hint: None,
            report: None,
            has_written: false,
        }
    }

    /// Adds the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The caller's argument cannot be understood.
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

impl From<bty::Error> for HostError {
    fn from(error: bty::Error) -> Self {
        Self {
            kind: error.kind().to_string(),
            message: error.to_string(),
            path: error.path().map(str::to_owned),
            offset: error.offset(),
            hint: error.next_step().map(str::to_owned),
            report: None,
            has_written: error.has_written(),
        }
    }
}

thread_local! {
    /// Where the host function was called that runs at the moment. The engine fills in the place of
    /// an error only for functions without a module.
    static CALL: Cell<Position> = const { Cell::new(Position::NONE) };
}

/// A host function begins, called at `position`.
pub(crate) fn note_call(position: Position) {
    CALL.set(position);
}

/// Raises a failure of the host in a script, at the call of the host function. Every binding uses
/// it, so that no failure looks like a script's own `throw`.
pub(crate) fn raise(error: impl Into<HostError>) -> Box<EvalAltResult> {
    EvalAltResult::ErrorRuntime(Dynamic::from(error.into()), CALL.get()).into()
}

/// The same from functions that do not know where they were called: operators and conversions. The
/// engine fills in the place.
pub(crate) fn raise_unplaced(error: impl Into<HostError>) -> Box<EvalAltResult> {
    EvalAltResult::ErrorRuntime(Dynamic::from(error.into()), Position::NONE).into()
}

/// The error itself, without the calls around it.
pub(crate) fn innermost(mut error: &EvalAltResult) -> &EvalAltResult {
    while let EvalAltResult::ErrorInFunctionCall(_, _, inner, _)
    | EvalAltResult::ErrorInModule(_, inner, _) = error
    {
        error = inner;
    }
    error
}

/// Why a script ended before its end, other than by an error of its own. Cannot be caught.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// Somebody cancelled.
    Cancelled,
    /// The wall-clock limit, in milliseconds.
    Time(u64),
    /// The memory limit, in bytes.
    Memory(u64),
    /// The script asked for this, and is over.
    Power(Power),
    /// The script ended itself with this exit code.
    Exit(u8),
}

/// What becomes of the machine after a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Power {
    /// Restart.
    Reboot,
    /// Start the kernel that was loaded, without a restart.
    Kexec,
    /// Switch off.
    PowerOff,
}

/// Whose fault it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The script cannot be compiled.
    Syntax,
    /// A host function failed; see [`ScriptError::host`].
    Host,
    /// The script threw something itself.
    Throw,
    /// The script is wrong: an unknown function, a wrong type, an index out of bounds.
    Script,
    /// A limit of the engine.
    Limit,
    /// Cancelled from outside.
    Cancelled,
}

/// A script's failure that nobody caught. Displays as people read it: message, place, source line,
/// next step, and the way there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ScriptError {
    /// Whose fault it was.
    pub cause: Cause,
    /// One sentence without a full stop.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
    /// Where it happened; absent when there is no such place.
    pub place: Option<Place>,
    /// The calls that led there, innermost first.
    pub calls: Vec<Place>,
    /// The failure of the host, when that was the cause.
    pub host: Option<HostError>,
}

impl ScriptError {
    /// A failure without a place, for whoever decides in the place of a script.
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

    /// The clock ended the script, after so many milliseconds.
    pub(crate) fn timed_out(millis: u64) -> Self {
        let seconds = std::time::Duration::from_millis(millis).as_secs_f64();
        let mut error = Self::new(Cause::Limit, format!("the script took longer than {seconds} s"));
        error.hint = Some("look for a loop or a wait that takes too long".to_owned());
        error
    }

    /// A word to match on: the host's kind, or `syntax`, `throw`, `script`, `limit`, `cancelled`.
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

    /// The same as data, for `--json` and for servers.
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

/// A failure outside of any script: one that cannot be read, or is not even begun.
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
