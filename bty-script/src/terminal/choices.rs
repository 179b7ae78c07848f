//! Lists from which a person picks a row.
//!
//! Where the terminal can move its cursor, the person moves it with arrow keys and types a part of
//! a name to filter the list ([`picker`]). On serial lines and dumb terminals the rows have numbers
//! ([`numbered`]). What is typed means the same in both: a number is a row, a key is that key, and
//! other text filters.
//!
//! No crate for screens is used: one list, redrawn below the text that is there, needs four escape
//! sequences. Those that were considered take the whole screen, or wait for a key in a way that
//! neither Ctrl-C nor the end of an operation can interrupt.

use std::fmt;

use super::table::Table;

pub(super) mod numbered;
pub(super) mod picker;

/// A list from which a person picks a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChoiceList {
    /// What to pick, for the prompt: `Pick an image`.
    pub title: String,
    /// Titles of the columns.
    pub headers: Vec<String>,
    /// The rows, numbered from 1.
    pub rows: Vec<ChoiceRow>,
    /// Keys that do something else, with their labels: `r`, `rescan`. The key `b` is also Esc.
    pub keys: Vec<(String, String)>,
    /// Index of the row that is selected at first; `None` for no row.
    pub selected: Option<usize>,
    /// Maximum number of rows shown at a time; `None` for as many as fit.
    pub height: Option<usize>,
}

/// A row of a [`ChoiceList`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChoiceRow {
    /// A text per column.
    pub cells: Vec<String>,
    /// Why the row cannot be picked; `None` if it can.
    pub refusal: Option<String>,
    /// More about the row, shown while it is selected with the cursor.
    pub details: Option<String>,
}

/// What a person chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Index of a row.
    Row(usize),
    /// One of the keys; empty for Enter while no row was selected.
    Key(String),
}

/// Why what was typed is no choice.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Complaint {
    /// The row with this number cannot be picked.
    Refused {
        number: usize,
        reason: String,
    },
    OutOfRange {
        number: usize,
        count: usize,
    },
    /// The text is no key, no number and in no row.
    NoMatch(String),
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { number, reason } => write!(f, "{number} cannot be picked: {reason}"),
            Self::OutOfRange { count: 0, .. } => f.write_str("there is nothing to pick"),
            Self::OutOfRange { number, count } => {
                write!(f, "there is no number {number}: pick 1 to {count}")
            }
            Self::NoMatch(text) => {
                write!(f, "\"{}\" matches no row, number or key", bty::text::escape(text))
            }
        }
    }
}

impl ChoiceList {
    fn prompt(&self) -> String {
        format!("> {}: ", self.title)
    }

    /// The key that `text` names.
    fn key(&self, text: &str) -> Option<&str> {
        let is_named = |key: &&str| key.eq_ignore_ascii_case(text.trim());
        self.keys.iter().map(|(key, _)| key.as_str()).find(is_named)
    }

    /// Index of the row whose number `text` is.
    fn numbered_row(&self, text: &str) -> Option<usize> {
        let number: usize = text.trim().parse().ok()?;
        number.checked_sub(1).filter(|&index| index < self.rows.len())
    }

    /// Indexes of the rows that have every word of `text`, ignoring case, or whose number it is.
    fn matches(&self, text: &str) -> Vec<usize> {
        let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
        let numbered = self.numbered_row(text);
        let is_match = |&index: &usize| {
            let row = self.rows[index].cells.join(" ").to_lowercase();
            numbered == Some(index) || words.iter().all(|word| row.contains(word.as_str()))
        };
        (0..self.rows.len()).filter(is_match).collect()
    }

    fn pick(&self, index: usize) -> Result<Choice, Complaint> {
        match &self.rows[index].refusal {
            None => Ok(Choice::Row(index)),
            Some(reason) => Err(Complaint::Refused { number: index + 1, reason: reason.clone() }),
        }
    }

    /// The header and all rows with their numbers, each a line of at most `width` characters.
    fn lines(&self, width: usize) -> Vec<String> {
        let mut table = Table { headers: vec!["#".to_owned()], rows: Vec::new() };
        table.headers.extend(self.headers.iter().cloned());
        table.rows = (self.rows.iter().enumerate())
            .map(|(index, row)| {
                let number = std::iter::once((index + 1).to_string());
                number.chain(row.cells.iter().cloned()).collect()
            })
            .collect();
        table.lines(width)
    }
}

#[cfg(test)]
mod tests;
