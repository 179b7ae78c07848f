//! From an error of the engine to a place in the source.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rhai::{Dynamic, EvalAltResult, Position};
use serde::Serialize;

use super::{Cause, HostError, ScriptError, Stop};

/// The texts of all scripts that were compiled, by file name.
#[derive(Clone, Debug, Default)]
pub struct Sources(Arc<Mutex<HashMap<String, Arc<str>>>>);

impl Sources {
    pub(crate) fn add(&self, file: &str, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(file.to_owned(), text.into());
    }

    fn line(&self, file: &str, line: usize) -> Option<String> {
        let texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        texts.get(file)?.lines().nth(line.checked_sub(1)?).map(str::to_owned)
    }

    /// A place in `file` with the text of its line.
    pub(crate) fn line_of(&self, file: &str, line: usize, column: usize) -> Option<Place> {
        Some(Place { file: file.to_owned(), line, column, text: self.line(file, line)? })
    }

    /// The place of `position` in `file`, if it is one.
    pub(crate) fn place(&self, file: &str, position: Position) -> Option<Place> {
        let line = position.line()?;
        let column = position.position().unwrap_or(1);
        Some(Place {
            file: file.to_owned(),
            line,
            column,
            text: self.line(file, line).unwrap_or_default(),
        })
    }
}

/// A place in a script. Displays as file, line, column, and the source line with a mark under the
/// column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Place {
    /// As it was named.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The source line.
    pub text: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  --> {}:{}:{}", self.file, self.line, self.column)?;
        if self.text.trim().is_empty() {
            return Ok(());
        }
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        // tabs stay tabs, so that the mark stays under its character
        let blank = |c: char| if c == '\t' { '\t' } else { ' ' };
        let before: String =
            self.text.chars().take(self.column.saturating_sub(1)).map(blank).collect();
        write!(f, "\n {gutter} |\n {number} | {}\n {gutter} | {before}^", self.text.trim_end())
    }
}

impl ScriptError {
    /// Makes sense of an error of the engine. `file` is the script that was run.
    pub(crate) fn of(error: &EvalAltResult, file: &str, sources: &Sources) -> Self {
        let mut calls = Vec::new();
        let mut file = file.to_owned();
        let mut error = error;
        // the place of an error inside a function is that of the call; the inner one has its own
        loop {
            match error {
                EvalAltResult::ErrorInFunctionCall(_, source, inner, position) => {
                    calls.extend(sources.place(&file, *position));
                    if !source.is_empty() {
                        file.clone_from(source);
                    }
                    error = inner;
                }
                EvalAltResult::ErrorInModule(path, inner, position) => {
                    calls.extend(sources.place(&file, *position));
                    if !path.is_empty() {
                        file.clone_from(path);
                    }
                    error = inner;
                }
                _ => break,
            }
        }
        calls.reverse();
        let place = sources.place(&file, error.position());
        Self { place, calls, ..Self::explain(error) }
    }

    fn explain(error: &EvalAltResult) -> Self {
        let limit = |message: &str, hint: &str| Self {
            hint: Some(hint.to_owned()),
            ..Self::new(Cause::Limit, message.to_owned())
        };
        match error {
            EvalAltResult::ErrorRuntime(value, _) => Self::thrown(value),
            EvalAltResult::ErrorParsing(kind, _) => {
                Self::new(Cause::Syntax, lower_first(&kind.to_string()))
            }
            EvalAltResult::ErrorTerminated(token, _) => Self::stopped(token),
            EvalAltResult::ErrorTooManyOperations(_) => limit(
                "the script does not come to an end: too many operations",
                "look for a loop without an end",
            ),
            EvalAltResult::ErrorStackOverflow(_) => {
                limit("functions call each other too deeply", "look for a recursion without an end")
            }
            EvalAltResult::ErrorDataTooLarge(what, _) => {
                limit(&format!("{} grows too large", lower_first(what)), "keep less at a time")
            }
            EvalAltResult::ErrorTooManyVariables(_) => {
                limit("there are too many variables", "keep fewer, or an array")
            }
            EvalAltResult::ErrorTooManyModules(_) => {
                limit("too many modules are imported", "import fewer")
            }
            EvalAltResult::ErrorFunctionNotFound(signature, _) => {
                let signature = signature.replace("&str | ImmutableString | String", "String");
                Self::new(Cause::Script, format!("there is no function {signature}"))
            }
            EvalAltResult::ErrorDotExpr(text, _) if text.starts_with("Unknown property '") => {
                let mut quoted = text.split('\'').skip(1).step_by(2);
                let (field, kind) =
                    (quoted.next().unwrap_or_default(), quoted.next().unwrap_or("that value"));
                Self::new(Cause::Script, format!("{kind} has no field {field}"))
            }
            other => {
                let mut bare = other.to_string();
                // the place is told apart
                if let Some(at) = bare.rfind(" (line ") {
                    bare.truncate(at);
                }
                Self::new(Cause::Script, lower_first(&bare))
            }
        }
    }

    fn thrown(value: &Dynamic) -> Self {
        if let Some(host) = value.read_lock::<HostError>() {
            return host.clone().into();
        }
        let text = crate::render::plain(value);
        Self::new(
            Cause::Throw,
            if text.is_empty() { "the script gave up".to_owned() } else { text },
        )
    }

    fn stopped(token: &Dynamic) -> Self {
        let stop = token.read_lock::<Stop>().map(|stop| stop.clone());
        match stop {
            Some(Stop::Time(ms)) => Self::timed_out(ms),
            Some(Stop::Memory(bytes)) => Self {
                hint: Some("look for something that grows in a loop".to_owned()),
                ..Self::new(
                    Cause::Limit,
                    format!("the script took more than {} of memory", bty::size::human(bytes)),
                )
            },
            _ => Self::new(Cause::Cancelled, "cancelled"),
        }
    }
}

/// The engine's texts begin with a capital, ours do not.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        // not an abbreviation or a name in quotes
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}
