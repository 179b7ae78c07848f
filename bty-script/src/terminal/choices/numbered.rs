//! A list whose rows are picked by their numbers, for terminals that cannot move the cursor.

use bty::{CancelToken, Result};

use super::{Choice, ChoiceList, Complaint};
use crate::terminal::{Style, Terminal};

/// Lines of the screen that the list leaves for the rest of the dialog.
const OTHER_LINES: usize = 14;
const ROWS_MIN: usize = 5;

/// Shows the list by pages, and reads lines until one is a choice. `None` after Ctrl-C and at the
/// end of the input.
pub(in crate::terminal) fn choose<T: Terminal + ?Sized>(
    terminal: &T,
    list: &ChoiceList,
    cancel: &CancelToken,
) -> Result<Option<Choice>> {
    let fitting = terminal.size().rows.saturating_sub(OTHER_LINES).max(ROWS_MIN);
    let height = list.height.unwrap_or(fitting).max(1);
    let mut pages = Pages { list, height, first: 0, filter: String::new() };
    loop {
        pages.show(terminal);
        let Some(answer) = terminal.read_line(&list.prompt(), cancel)? else { return Ok(None) };
        match pages.answer(answer.trim()) {
            Ok(Some(choice)) => return Ok(Some(choice)),
            Ok(None) => {}
            Err(complaint) => {
                terminal.say(&terminal.paint(Style::Bad, &complaint.to_string()));
                let _ = terminal.read_line("(press Enter to continue) ", cancel)?;
            }
        }
    }
}

struct Pages<'a> {
    list: &'a ChoiceList,
    /// Number of rows on a page.
    height: usize,
    /// The first row on this page, as an index of those that match.
    first: usize,
    filter: String,
}

impl Pages<'_> {
    fn show<T: Terminal + ?Sized>(&self, terminal: &T) {
        let matches = self.list.matches(&self.filter);
        let lines = self.list.lines(terminal.size().columns);
        let end = matches.len().min(self.first + self.height);
        if !matches.is_empty() {
            terminal.say(&terminal.paint(Style::Strong, &lines[0]));
        }
        for &index in &matches[self.first.min(end)..end] {
            let line = &lines[index + 1];
            match self.list.rows[index].refusal {
                Some(_) => terminal.say(&terminal.paint(Style::Quiet, line)),
                None => terminal.say(line),
            }
        }
        let range = format!("{}..{end} of {}", self.first + 1, matches.len());
        if !self.filter.is_empty() {
            let filter = bty::text::escape(&self.filter);
            let text = format!("{range} with \"{filter}\"; Enter shows all");
            terminal.say(&terminal.paint(Style::Quiet, &text));
        } else if matches.len() > self.height {
            terminal.say(&terminal.paint(Style::Quiet, &range));
        }
        terminal.say(&terminal.paint(Style::Quiet, &self.guide(matches.len())));
    }

    fn guide(&self, count: usize) -> String {
        let mut keys = Vec::new();
        if count > self.height {
            keys.extend(["[n] next page".to_owned(), "[p] previous page".to_owned()]);
        }
        if !self.list.rows.is_empty() {
            keys.push("[1..] pick".to_owned());
        }
        keys.extend(self.list.keys.iter().map(|(key, label)| format!("[{key}] {label}")));
        keys.join("   ")
    }

    /// The choice that `answer` is; `None` if it changes what is shown.
    fn answer(&mut self, answer: &str) -> Result<Option<Choice>, Complaint> {
        if let Some(key) = self.list.key(answer) {
            return Ok(Some(Choice::Key(key.to_owned())));
        }
        let count = self.list.matches(&self.filter).len();
        match answer.to_lowercase().as_str() {
            "" if self.filter.is_empty() => {
                let selected = self.list.selected.map(|index| self.list.pick(index));
                return selected.unwrap_or_else(|| Ok(Choice::Key(String::new()))).map(Some);
            }
            "n" if count > self.height => {
                if self.first + self.height < count {
                    self.first += self.height;
                }
            }
            "p" if count > self.height => self.first = self.first.saturating_sub(self.height),
            _ => return self.pick_or_filter(answer),
        }
        Ok(None)
    }

    fn pick_or_filter(&mut self, answer: &str) -> Result<Option<Choice>, Complaint> {
        if let Some(index) = self.list.numbered_row(answer) {
            return self.list.pick(index).map(Some);
        }
        if self.list.matches(answer).is_empty() {
            let count = self.list.rows.len();
            return Err(match answer.parse() {
                Ok(number) => Complaint::OutOfRange { number, count },
                Err(_) => Complaint::NoMatch(answer.to_owned()),
            });
        }
        (self.first, self.filter) = (0, answer.to_owned());
        Ok(None)
    }
}
