//! Translates errors of rhai into [`ScriptError`]s.

use rhai::{Dynamic, EvalAltResult};

use crate::error::{Cause, HostError, ScriptError, Sources, Stop};

impl ScriptError {
    /// Translates an error of rhai. `file` is the name of the script that was run.
    pub(crate) fn from_engine(error: &EvalAltResult, file: &str, sources: &Sources) -> Self {
        let mut calls = Vec::new();
        let mut file = file.to_owned();
        let mut error = error;
        // Outer errors have the position of the call, the innermost one that of the fault.
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
        // rhai reports the call of a function that takes a callback twice
        calls.dedup();
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
            EvalAltResult::ErrorTooManyOperations(_) => {
                limit("the script took too many steps", "look for a loop without an end")
            }
            EvalAltResult::ErrorStackOverflow(_) => {
                limit("function calls are nested too deeply", "look for a recursion without an end")
            }
            EvalAltResult::ErrorDataTooLarge(what, _) => limit(
                &format!("{} exceeds the limit", lower_first(what)),
                "keep less data at a time",
            ),
            EvalAltResult::ErrorTooManyVariables(_) => {
                limit("the script has too many variables", "use fewer, or an array")
            }
            EvalAltResult::ErrorTooManyModules(_) => {
                limit("the script imports too many modules", "import fewer")
            }
            EvalAltResult::ErrorFunctionNotFound(signature, _) => {
                let signature = signature.replace("&str | ImmutableString | String", "String");
                let message = match signature.strip_prefix("anon$").and_then(|s| s.split_once(' '))
                {
                    Some((_, arguments)) => format!("a closure cannot be called with {arguments}"),
                    None => format!("there is no function {signature}"),
                };
                Self::new(Cause::Script, message)
            }
            EvalAltResult::ErrorDotExpr(text, _) if text.starts_with("Unknown property '") => {
                let mut quoted = text.split('\'').skip(1).step_by(2);
                let (field, kind) =
                    (quoted.next().unwrap_or_default(), quoted.next().unwrap_or("that value"));
                Self::new(Cause::Script, format!("{kind} has no field {field}"))
            }
            EvalAltResult::ErrorMismatchDataType(expected, found, _) if !expected.is_empty() => {
                let bare = |name: &str| name.rsplit("::").next().unwrap_or(name).to_owned();
                let message =
                    format!("expected a value of type {}, found {}", bare(expected), bare(found));
                Self::new(Cause::Script, message)
            }
            other => {
                let mut bare = other.to_string();
                // the position is shown on a line of its own
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
        let text = crate::render::one_line(value);
        let text = match text.as_str() {
            "" => "the script threw an empty string".to_owned(),
            "()" => "the script threw ()".to_owned(),
            _ => text,
        };
        Self::new(Cause::Throw, text)
    }

    fn stopped(token: &Dynamic) -> Self {
        let stop = token.read_lock::<Stop>().map(|stop| stop.clone());
        match stop {
            Some(Stop::Time(ms)) => Self::timed_out(ms),
            Some(Stop::Memory(bytes)) => Self {
                hint: Some("look for a value that grows in a loop".to_owned()),
                ..Self::new(
                    Cause::Limit,
                    format!("the script used more than {} of memory", bty::size::human(bytes)),
                )
            },
            _ => Self::new(Cause::Cancelled, "cancelled"),
        }
    }
}

/// Messages of rhai begin with a capital letter, ours do not.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        // keep abbreviations and quoted names
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}
