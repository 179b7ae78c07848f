//! Where results and errors go, and how they look.

use std::io::{IsTerminal, Write};

use bty::{Error, Event, Observer, text};
use bty_script::ScriptError;
use bty_script::terminal::{Style, stdout};
use serde::Serialize;
use serde_json::{Value, json};

/// Results on stdout, people's text on stderr; with `--json` one object a line on stdout.
#[derive(Clone)]
pub(crate) struct Output {
    is_json: bool,
    has_colour: bool,
}

impl Output {
    pub(crate) fn new(is_json: bool) -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self { is_json, has_colour: std::io::stderr().is_terminal() && !no_colour }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// A result: as JSON, or as what is `shown`.
    pub(crate) fn result<T: Serialize>(&self, value: &T, shown: impl FnOnce() -> String) {
        if self.is_json {
            self.line(&serde_json::to_value(value).unwrap_or_default());
        } else {
            self.print(&shown());
        }
    }

    /// An object of its own kind, told by its `event`.
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

    /// Text on stdout; see [`stdout`] for what happens when that cannot be written.
    pub(crate) fn print(&self, shown: &str) {
        stdout::write_line(&text::escape_lines(shown));
    }

    /// The same after a word in a style.
    pub(crate) fn print_marked(&self, style: Style, word: &str, after: &str) {
        stdout::write_line(&format!("{}{}", self.paint(style, word), text::escape_lines(after)));
    }

    /// Text for people, on stderr.
    pub(crate) fn say(&self, shown: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{}", text::escape_lines(shown));
    }

    /// The same with a word in a style.
    pub(crate) fn say_marked(&self, before: &str, style: Style, word: &str, after: &str) {
        let (before, after) = (text::escape_lines(before), text::escape_lines(after));
        let _ = writeln!(std::io::stderr().lock(), "{before}{}{after}", self.paint(style, word));
    }

    /// A warning for people.
    pub(crate) fn warn(&self, warning: &str) {
        self.say_marked("", Style::Warning, "note", &format!(": {warning}"));
    }

    /// The error: for people with the next step on a line of its own.
    pub(crate) fn error(&self, error: &Error) {
        if self.is_json {
            self.line(&json!({
                "event": "error",
                "kind": error.kind().as_str(),
                "message": error.to_string(),
                "hint": error.next_step(),
                "path": error.path(),
                "offset": error.offset(),
            }));
        }
        self.failure(&error.to_string(), error.next_step());
    }

    /// A script's failure, with its place.
    pub(crate) fn script_error(&self, error: &ScriptError) {
        if self.is_json {
            self.event("error", &error.to_json());
        }
        self.failure(&error.to_string(), error.hint.as_deref());
    }

    /// An error for people only: stdout takes nothing.
    pub(crate) fn lost(&self, error: &Error) {
        self.failure(&error.to_string(), error.next_step());
    }

    fn failure(&self, message: &str, hint: Option<&str>) {
        self.say_marked("", Style::Bad, "error", &format!(": {message}"));
        if let Some(hint) = hint {
            self.say_marked(" ", Style::Strong, "next", &format!(": {hint}"));
        }
    }

    pub(crate) fn has_colour(&self) -> bool {
        self.has_colour
    }

    /// `word` in a style, or as it is where there is no colour. It is not escaped: never give text
    /// from elsewhere.
    fn paint(&self, style: Style, word: &str) -> String {
        if self.has_colour {
            format!("\x1b[{}m{word}\x1b[0m", style.sgr())
        } else {
            word.to_owned()
        }
    }

    fn line(&self, value: &Value) {
        stdout::write_line(&text::escape_json(&value.to_string()));
    }
}

/// Shows notices of the network, and with `--json` everything.
pub(crate) struct Notices(pub(crate) bool);

impl Observer for Notices {
    fn event(&self, event: &Event) {
        let output = Output::new(self.0);
        match event {
            _ if self.0 => output.result(event, String::new),
            Event::Notice { message } => output.warn(message),
            _ => {}
        }
    }
}
