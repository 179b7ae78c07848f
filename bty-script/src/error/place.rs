//! Places in the source of scripts.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rhai::Position;
use serde::Serialize;

/// Source texts of all scripts that an engine has compiled, by file name. Clones share them.
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

    /// The place at `line` and `column` of `file`; `None` if the file has no such line.
    pub(crate) fn line_of(&self, file: &str, line: usize, column: usize) -> Option<Place> {
        Some(Place { file: file.to_owned(), line, column, text: self.line(file, line)? })
    }

    /// The place of `position` in `file`; `None` if rhai gave no position.
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

/// A place in a script. `Display` shows file, line, column, and the source line with a mark under
/// the column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Place {
    /// The name that the script was compiled under.
    pub file: String,
    /// Line number, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Text of the line.
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
        // keep tabs, so that the mark is under its character
        let blank = |c: char| if c == '\t' { '\t' } else { ' ' };
        let before: String =
            self.text.chars().take(self.column.saturating_sub(1)).map(blank).collect();
        write!(f, "\n {gutter} |\n {number} | {}\n {gutter} | {before}^", self.text.trim_end())
    }
}
