//! Lays out text in columns and lines that fit a terminal.

use bty::text;

/// A table of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Titles of the columns.
    pub headers: Vec<String>,
    /// Rows, each with one text per column.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    #[must_use]
    pub fn new(headers: &[&str]) -> Self {
        Self { headers: headers.iter().map(|&h| h.to_owned()).collect(), rows: Vec::new() }
    }

    /// The lines of the table, headers first, truncated to `width` characters: the widest columns
    /// shrink first. Cells are escaped.
    #[must_use]
    pub fn lines(&self, width: usize) -> Vec<String> {
        let rows = || std::iter::once(&self.headers).chain(&self.rows);
        let columns = rows().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &[String], at: usize| {
            row.get(at).map(|text| text::escape(text).into_owned()).unwrap_or_default()
        };
        let mut widths: Vec<usize> = (0..columns)
            .map(|at| rows().map(|row| cell(row, at).chars().count()).max().unwrap_or(0))
            .collect();
        let gaps = 2 * columns.saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > width {
            let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > 4) else { break };
            *widest -= 1;
        }
        let line = |row: &Vec<String>| {
            let cells = widths.iter().enumerate().map(|(at, &width)| fit(&cell(row, at), width));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        rows().map(line).collect()
    }
}

/// Pads `text` to exactly `width` characters, or cuts it in the middle: names of images and models
/// of disks differ at their ends.
fn fit(text: &str, width: usize) -> String {
    let len = text.chars().count();
    if len <= width {
        return format!("{text}{}", " ".repeat(width - len));
    }
    let kept = width.saturating_sub(1);
    let begin = text.chars().take(kept.div_ceil(2));
    begin.chain(['~']).chain(text.chars().skip(len - kept / 2)).collect()
}

/// Cuts `text` to at most `width` characters, with a mark at the end.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}~")
}

/// Columns in which a label may end that continuation lines are aligned with.
const LABEL_COLUMNS: usize = 12;

const WIDTH_MIN: usize = 8;

/// Breaks a line at spaces into lines of at most `width` characters. Those after the first are
/// indented like the text after the label, as in `Image   debian.img`. Sequences of
/// [`Terminal::paint`](super::Terminal::paint) take no room; a word longer than a line is split.
pub(super) fn wrap(line: &str, width: usize) -> Vec<String> {
    let width = width.max(WIDTH_MIN);
    if visible_len(line) <= width {
        return vec![line.to_owned()];
    }
    let indent = indent_of(line).min(width / 2);
    let (mut lines, mut current, mut len) = (Vec::new(), String::new(), 0);
    for word in line.split_inclusive(' ') {
        let mut word = word;
        if len + visible_len(word.trim_end()) > width && len > indent {
            lines.push(current.trim_end().to_owned());
            (current, len) = (" ".repeat(indent), indent);
        }
        while let Some((at, _)) = word.char_indices().nth(width - len)
            && visible_len(word.trim_end()) > width - len
        {
            lines.push(format!("{current}{}", &word[..at]));
            (current, len) = (" ".repeat(indent), indent);
            word = &word[at..];
        }
        current.push_str(word);
        len += visible_len(word);
    }
    lines.push(current.trim_end().to_owned());
    lines
}

/// Column of the text after the label of `line`, or of its first character.
fn indent_of(line: &str) -> usize {
    let label: String = line.chars().take(LABEL_COLUMNS).collect();
    let text = label.rfind("  ").map_or(0, |at| at + 2);
    text.max(line.len() - line.trim_start_matches(' ').len())
}

/// Number of characters without escape sequences of styles.
fn visible_len(text: &str) -> usize {
    let mut parts = text.split("\x1b[");
    let first = parts.next().map_or(0, |part| part.chars().count());
    let styled = |part: &str| part.split_once('m').map_or(0, |(_, text)| text.chars().count());
    first + parts.map(styled).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_lines_break_between_words_and_are_aligned_with_the_text_after_the_label() {
        let line = "Image   http://images.lan/debian-13.img.zst with a long remark";
        assert_eq!(
            wrap(line, 50),
            ["Image   http://images.lan/debian-13.img.zst with a", "        long remark"]
        );
        assert_eq!(wrap("  next: do this, then that", 16), ["  next: do this,", "  then that"]);
        let bold = "\x1b[1mbold\x1b[0m text";
        assert_eq!(wrap(bold, 9), [bold], "styles take no room");
        assert_eq!(wrap("abcdefghijklmnop k", 8), ["abcdefgh", "ijklmnop", "k"]);
        assert_eq!(cut("debian-13.img", 8), "debian-~");
    }

    proptest! {
        #[test]
        fn wrapped_lines_fit_and_keep_every_word(line in "[a-z ]{0,200}", width in 20..100_usize) {
            let lines = wrap(&line, width);
            prop_assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:?}");
            let letters = |text: &str| text.replace(' ', "");
            prop_assert_eq!(letters(&lines.concat()), letters(&line));
        }
    }
}
