//! The values of all keys as text, and the problems found in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::keys::{KEYS, Origin, SECRETS};
use crate::domain::error::{Error, ErrorKind, Problem};
use crate::domain::webhook::Webhook;

/// The value of each key as text, and where it was set.
pub(super) type ValueMap = BTreeMap<&'static str, (String, Origin)>;

/// Values during loading. Problems are collected, so that all of them are reported together.
pub(super) struct Values {
    pub(super) values: ValueMap,
    pub(super) warnings: Vec<String>,
    pub(super) webhooks: Vec<Webhook>,
    problems: Vec<Problem>,
}

impl Values {
    /// Returns the default of every key.
    pub(super) fn defaults() -> Self {
        let values =
            KEYS.into_iter().map(|(key, default, _)| (key, (default.to_owned(), Origin::Default)));
        Self {
            values: values.collect(),
            warnings: Vec::new(),
            webhooks: Vec::new(),
            problems: Vec::new(),
        }
    }

    pub(super) fn text(&self, key: &str) -> String {
        self.values[key].0.clone()
    }

    /// Returns the value of `key`; `None` if it is empty.
    pub(super) fn set(&self, key: &str) -> Option<String> {
        Some(self.text(key)).filter(|value| !value.is_empty())
    }

    pub(super) fn is_yes(&self, key: &str) -> bool {
        let text = self.text(key).to_ascii_lowercase();
        matches!(text.as_str(), "1" | "true" | "yes" | "on")
    }

    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        self.set(key).map(PathBuf::from)
    }

    /// Parses the value of `key`. On failure, adds a problem that says what was `expected`.
    pub(super) fn parse<T: std::str::FromStr>(
        &mut self,
        key: &'static str,
        expected: &str,
    ) -> Option<T> {
        let parsed = self.values[key].0.trim().parse().ok();
        if parsed.is_none() {
            self.invalid(key, expected);
        }
        parsed
    }

    /// Parses the value of `key` as a size in bytes.
    pub(super) fn parse_size(&mut self, key: &'static str, expected: &str) -> Option<u64> {
        let parsed = bty::size::parse(self.values[key].0.trim()).ok();
        if parsed.is_none() {
            self.invalid(key, expected);
        }
        parsed
    }

    /// Adds a problem that says that the value of `key` is not as `expected`.
    pub(super) fn invalid(&mut self, key: &'static str, expected: &str) {
        let (value, origin) = &self.values[key];
        let shown: String = value.chars().take(64).flat_map(char::escape_debug).collect();
        let message = match SECRETS.contains(&key) {
            true => format!("expected {expected} ({origin})"),
            false => format!("expected {expected}, found {shown} ({origin})"),
        };
        self.problems.push(Problem::new(key, message));
    }

    pub(super) fn add_problem(&mut self, at: impl Into<String>, message: impl Into<String>) {
        let (at, message): (String, String) = (at.into(), message.into());
        self.problems.push(Problem::new(at, message));
    }

    /// Sets a key from the file at `path`. An unknown key is only a warning: an older program must
    /// be able to start with the file of a newer one.
    pub(super) fn set_from_file(&mut self, path: &Path, name: &str, value: &toml::Value) {
        let file = path.display();
        let Some((key, ..)) = KEYS.iter().find(|(key, ..)| *key == name) else {
            self.warnings.push(format!("{file}: unknown key {name}; ignored"));
            return;
        };
        match toml_text(value) {
            Some(text) => {
                self.values.insert(key, (text, Origin::Toml(path.to_owned())));
            }
            None => {
                let why = format!("{name} must be text or a number, not {}", value.type_str());
                self.add_problem(file.to_string(), why);
            }
        }
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Returns all problems as one error.
    pub(super) fn into_error(self) -> Error {
        invalid_configuration(self.problems)
    }
}

/// Returns the error of a configuration with `problems`.
pub(super) fn invalid_configuration(problems: Vec<Problem>) -> Error {
    Error::new(ErrorKind::Invalid, "invalid configuration").with_problems(problems)
}

/// Converts a value of a TOML file to text; booleans become 0 and 1. Returns `None` for arrays,
/// tables and other types.
pub(super) fn toml_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(is) => Some(i32::from(*is).to_string()),
        _ => None,
    }
}
