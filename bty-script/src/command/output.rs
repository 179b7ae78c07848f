//! Where results and errors go, and how they look.

use std::io::{IsTerminal, Write};

use bty::{Error, Event, Observer};
use bty_script::ScriptError;
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

    /// A result: as JSON, or as `text`.
    pub(crate) fn result<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) {
        if self.is_json {
            self.line(&serde_json::to_value(value).unwrap_or_default());
        } else {
            self.print(&text());
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

    /// Text on stdout. A reader that went away is no reason to fail: what was done is done.
    pub(crate) fn print(&self, text: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// Text for people, on stderr.
    pub(crate) fn say(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// A warning for people.
    pub(crate) fn warn(&self, text: &str) {
        self.say(&format!("{}: {text}", self.paint("33", "note")));
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
        self.say(&format!("{}: {error}", self.paint("1;31", "error")));
        if let Some(hint) = error.next_step() {
            self.say(&format!(" {}: {hint}", self.paint("1", "next")));
        }
    }

    /// A script's failure, with its place.
    pub(crate) fn script_error(&self, error: &ScriptError) {
        if self.is_json {
            self.event("error", &error.to_json());
        }
        self.say(&format!("{}: {error}", self.paint("1;31", "error")));
        if let Some(hint) = &error.hint {
            self.say(&format!(" {}: {hint}", self.paint("1", "next")));
        }
    }

    pub(crate) fn has_colour(&self) -> bool {
        self.has_colour
    }

    /// `text` in an SGR style, on terminals that want it.
    pub(crate) fn paint(&self, style: &str, text: &str) -> String {
        if self.has_colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(&self, value: &Value) {
        self.print(&value.to_string());
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
