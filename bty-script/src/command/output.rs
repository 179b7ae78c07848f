//! Prints results to stdout, and everything for people to stderr.

use std::io::{IsTerminal, Write};

use bty::{Error, Event, Observer, text};
use bty_script::ScriptError;
use bty_script::terminal::{Style, stdout};
use serde::Serialize;
use serde_json::{Value, json};

use crate::remedies;

/// Prints results on stdout and text for people on stderr; with `--json`, results and errors are
/// JSON lines on stdout.
#[derive(Clone)]
pub(crate) struct Output {
    is_json: bool,
    has_color: bool,
}

impl Output {
    pub(crate) fn new(is_json: bool) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self { is_json, has_color: std::io::stderr().is_terminal() && !no_color }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Prints a result: `value` with `--json`, the text of `describe` otherwise.
    pub(crate) fn result<T: Serialize>(&self, value: &T, describe: impl FnOnce() -> String) {
        if self.is_json {
            self.line(&serde_json::to_value(value).unwrap_or_default());
        } else {
            self.print(&describe());
        }
    }

    /// With `--json`, prints `value` with an additional field `event`; otherwise nothing.
    pub(crate) fn event<T: Serialize>(&self, event: &str, value: &T) {
        if !self.is_json {
            return;
        }
        #[derive(Serialize)]
        struct Tagged<'a, T> {
            event: &'a str,
            #[serde(flatten)]
            value: &'a T,
        }
        self.line(&serde_json::to_value(Tagged { event, value }).unwrap_or_default());
    }

    /// Prints text on stdout; see [`stdout`] for what happens if that fails.
    pub(crate) fn print(&self, text: &str) {
        stdout::write_line(&text::escape_lines(text));
    }

    /// Prints a line on stdout that begins with a word in a style.
    pub(crate) fn print_styled(&self, style: Style, word: &str, after: &str) {
        stdout::write_line(&format!("{}{}", self.paint(style, word), text::escape_lines(after)));
    }

    /// Prints text for people, on stderr.
    pub(crate) fn say(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{}", text::escape_lines(text));
    }

    /// Prints text for people with one word in a style.
    pub(crate) fn say_styled(&self, before: &str, style: Style, word: &str, after: &str) {
        let (before, after) = (text::escape_lines(before), text::escape_lines(after));
        let _ = writeln!(std::io::stderr().lock(), "{before}{}{after}", self.paint(style, word));
    }

    /// Prints a warning for people.
    pub(crate) fn warn(&self, warning: &str) {
        self.say_styled("", Style::Warning, "note", &format!(": {warning}"));
    }

    /// Prints an error; people get the hint on a line of its own.
    pub(crate) fn error(&self, error: &Error) {
        let hint = remedies::hint(error);
        if self.is_json {
            self.line(&json!({
                "event": "error",
                "kind": error.kind(),
                "message": format!("{error:#}"),
                "hint": hint,
                "path": error.path(),
                "offset": error.offset(),
            }));
        }
        self.failure(&format!("{error:#}"), hint.as_deref());
    }

    /// Prints the failure of a script, with its place.
    pub(crate) fn script_error(&self, error: &ScriptError) {
        if self.is_json {
            self.event("error", &error.to_json());
        }
        self.failure(&error.to_string(), error.hint.as_deref());
    }

    /// Prints an error for people only, since stdout has failed.
    pub(crate) fn stdout_error(&self, error: &Error) {
        self.failure(&format!("{error:#}"), remedies::hint(error).as_deref());
    }

    fn failure(&self, message: &str, hint: Option<&str>) {
        self.say_styled("", Style::Bad, "error", &format!(": {message}"));
        if let Some(hint) = hint {
            self.say_styled(" ", Style::Strong, "next", &format!(": {hint}"));
        }
    }

    pub(crate) fn has_color(&self) -> bool {
        self.has_color
    }

    /// `word` in a style, or plain without colors. It is not escaped, so it must be a constant.
    fn paint(&self, style: Style, word: &str) -> String {
        if self.has_color { format!("\x1b[{}m{word}\x1b[0m", style.sgr()) } else { word.to_owned() }
    }

    fn line(&self, value: &Value) {
        stdout::write_line(&text::escape_json(&value.to_string()));
    }
}

/// Prints notices of the network client; with `--json`, all events.
pub(crate) struct NoticePrinter {
    pub(crate) is_json: bool,
}

impl Observer for NoticePrinter {
    fn event(&self, event: &Event) {
        let output = Output::new(self.is_json);
        match event {
            _ if self.is_json => output.result(event, String::new),
            Event::Notice { message } => output.warn(message),
            _ => {}
        }
    }
}
