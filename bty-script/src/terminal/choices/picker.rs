//! A list with a cursor: arrow keys move it, and what is typed filters the rows.
//!
//! It knows neither a terminal nor bytes, only keys and lines.

use std::ops::ControlFlow;

use super::{Choice, ChoiceList, Complaint};
use crate::terminal::keys::Key;
use crate::terminal::table::{cut, wrap};
use crate::terminal::{Style, TerminalSize};

/// Lines besides the rows: header, range, two of a message, keys, prompt, and one to spare.
const OTHER_LINES: usize = 7;
const ROWS_MIN: usize = 3;
/// Width of the mark in front of each row.
const MARK: usize = 2;

/// Puts text in a style.
pub(in crate::terminal) type Painter<'a> = &'a dyn Fn(Style, &str) -> String;

pub(in crate::terminal) struct Picker<'a> {
    list: &'a ChoiceList,
    size: TerminalSize,
    /// What was typed.
    text: String,
    /// Indexes of the rows that match `text`.
    matches: Vec<usize>,
    /// The selected row, as an index of `matches`.
    cursor: Option<usize>,
    /// True if the cursor was moved with a key since the last character was typed.
    has_moved: bool,
    /// The first row on the screen, as an index of `matches`.
    first: usize,
    complaint: Option<Complaint>,
}

impl<'a> Picker<'a> {
    pub(in crate::terminal) fn new(list: &'a ChoiceList, size: TerminalSize) -> Self {
        let mut picker = Self {
            list,
            size,
            text: String::new(),
            matches: Vec::new(),
            cursor: None,
            has_moved: false,
            first: 0,
            complaint: None,
        };
        picker.filter();
        picker
    }

    /// From now on the terminal has this size.
    pub(in crate::terminal) fn resize(&mut self, size: TerminalSize) {
        self.size = size;
        self.scroll();
    }

    /// Number of rows on the screen.
    fn height(&self) -> usize {
        let fitting = self.size.rows.saturating_sub(OTHER_LINES).max(ROWS_MIN);
        self.list.height.unwrap_or(fitting).clamp(1, fitting)
    }

    /// Breaks with the choice, or with `None` at the end of the input.
    pub(in crate::terminal) fn press(&mut self, key: Key) -> ControlFlow<Option<Choice>> {
        self.complaint = None;
        match key {
            Key::Enter => return self.enter(),
            Key::EndOfInput if self.text.is_empty() => return ControlFlow::Break(None),
            Key::Escape if self.text.is_empty() => {
                if let Some(back) = self.list.key("b") {
                    return ControlFlow::Break(Some(Choice::Key(back.to_owned())));
                }
            }
            Key::Char(c) => {
                self.text.push(c);
                self.filter();
            }
            Key::Backspace => {
                self.text.pop();
                self.filter();
            }
            Key::Clear | Key::Escape => {
                self.text.clear();
                self.filter();
            }
            Key::EndOfInput => {}
            _ => self.move_cursor(key),
        }
        ControlFlow::Continue(())
    }

    fn filter(&mut self) {
        self.matches = self.list.matches(&self.text);
        self.has_moved = false;
        self.first = 0;
        let position = |index: usize| self.matches.iter().position(|&found| found == index);
        self.cursor = if self.text.trim().is_empty() {
            self.list.selected.and_then(position)
        } else if self.list.key(&self.text).is_some() {
            None
        } else if let Some(index) = self.list.numbered_row(&self.text) {
            position(index)
        } else {
            let can_pick = |&index: &usize| self.list.rows[index].refusal.is_none();
            let first = self.matches.iter().position(can_pick);
            first.or_else(|| (!self.matches.is_empty()).then_some(0))
        };
        self.scroll();
    }

    fn move_cursor(&mut self, key: Key) {
        let Some(last) = self.matches.len().checked_sub(1) else { return };
        let height = self.height();
        self.has_moved = true;
        self.cursor = Some(match (key, self.cursor) {
            (Key::Home, _) | (Key::Down | Key::PageUp, None) => 0,
            (Key::End, _) | (Key::Up, None) => last,
            (Key::PageDown, None) => height.min(last),
            (Key::Up, Some(at)) => at.saturating_sub(1),
            (Key::PageUp, Some(at)) => at.saturating_sub(height),
            (Key::PageDown, Some(at)) => (at + height).min(last),
            (_, Some(at)) => (at + 1).min(last),
            (_, None) => return,
        });
        self.scroll();
    }

    /// Makes the cursor visible.
    fn scroll(&mut self) {
        let (height, at) = (self.height(), self.cursor.unwrap_or(self.first));
        if at < self.first {
            self.first = at;
        } else if at >= self.first + height {
            self.first = at + 1 - height;
        }
    }

    fn enter(&mut self) -> ControlFlow<Option<Choice>> {
        if let Some(key) = self.typed_key() {
            return ControlFlow::Break(Some(Choice::Key(key.to_owned())));
        }
        let choice = match self.cursor {
            Some(at) => self.list.pick(self.matches[at]),
            None if self.text.trim().is_empty() => Ok(Choice::Key(String::new())),
            None => Err(Complaint::NoMatch(self.text.trim().to_owned())),
        };
        match choice {
            Ok(choice) => ControlFlow::Break(Some(choice)),
            Err(complaint) => {
                self.complaint = Some(complaint);
                ControlFlow::Continue(())
            }
        }
    }

    /// The key that Enter means now.
    fn typed_key(&self) -> Option<&str> {
        self.list.key(&self.text).filter(|_| !self.has_moved)
    }

    /// What to show; the cursor of the terminal belongs at the end of the last line.
    pub(in crate::terminal) fn lines(&self, paint: Painter<'_>) -> Vec<String> {
        let width = self.size.columns.saturating_sub(1);
        let table = self.list.lines(width.saturating_sub(MARK));
        let mut lines = Vec::new();
        if !self.list.rows.is_empty() {
            lines.push(paint(Style::Strong, &format!("{:MARK$}{}", "", table[0])));
        }
        let end = self.matches.len().min(self.first + self.height());
        for at in self.first..end {
            let row = &table[self.matches[at] + 1];
            lines.push(match self.cursor == Some(at) {
                true => paint(Style::Strong, &format!("> {row}")),
                false if self.list.rows[self.matches[at]].refusal.is_some() => {
                    paint(Style::Quiet, &format!("{:MARK$}{row}", ""))
                }
                false => format!("{:MARK$}{row}", ""),
            });
        }
        lines.extend(self.range(end).map(|range| paint(Style::Quiet, &range)));
        if let Some((style, message)) = self.message() {
            let wrapped = wrap(&bty::text::escape(&message), width);
            lines.extend(wrapped.iter().take(2).map(|line| paint(style, line)));
        }
        lines.push(paint(Style::Quiet, &cut(&self.guide(), width)));
        lines.push(format!("{}{}", self.list.prompt(), bty::text::escape(&self.text)));
        lines
    }

    /// Which part of the list is shown, unless it is all of it.
    fn range(&self, end: usize) -> Option<String> {
        let (shown, all) = (self.matches.len(), self.list.rows.len());
        let is_part = end - self.first.min(end) < shown;
        let range = format!("{}..{end} of {shown}", self.first + 1);
        match (is_part, shown < all) {
            (false, false) => None,
            (true, false) => Some(range),
            (false, true) => Some(format!("{shown} of {all} match")),
            (true, true) => Some(format!("{range} that match, of {all}")),
        }
    }

    fn message(&self) -> Option<(Style, String)> {
        if let Some(complaint) = &self.complaint {
            return Some((Style::Bad, complaint.to_string()));
        }
        let row = &self.list.rows[self.matches[self.cursor?]];
        if let Some(refusal) = &row.refusal {
            return Some((Style::Warning, format!("cannot be picked: {refusal}")));
        }
        row.details.clone().map(|details| (Style::Quiet, details))
    }

    fn guide(&self) -> String {
        let label = |wanted: &str| self.list.keys.iter().find(|(key, _)| key == wanted);
        if let Some((key, label)) = self.typed_key().and_then(label) {
            return format!("[Enter] {label} (key {key})");
        }
        let mut keys = Vec::new();
        if !self.list.rows.is_empty() {
            keys.extend(["type to filter".to_owned(), "[Up/Down]".to_owned()]);
        }
        keys.extend(self.cursor.map(|_| "[Enter] pick".to_owned()));
        keys.extend(self.list.keys.iter().map(|(key, label)| format!("[{key}] {label}")));
        keys.join("  ")
    }

    /// The line that stays on the screen after `choice`.
    pub(in crate::terminal) fn closing_line(&self, choice: Option<&Choice>) -> String {
        let answer = match choice {
            Some(Choice::Row(index)) => {
                self.list.rows[*index].cells.first().cloned().unwrap_or_default()
            }
            Some(Choice::Key(key)) => key.clone(),
            None => String::new(),
        };
        format!("{}{}", self.list.prompt(), bty::text::escape(&answer))
    }
}
