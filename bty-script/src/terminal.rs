//! The person at the machine: what is shown, and what they type.

use std::fmt;

use bty::{CancelToken, Result};

mod console;
mod echo;
mod scripted;
pub mod stdout;

pub use console::Console;
pub use echo::Echo;
pub use scripted::Scripted;

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Width.
    pub columns: usize,
    /// Height.
    pub rows: usize,
}

/// What every terminal has at least, and what a serial line is taken for.
impl Default for Size {
    fn default() -> Self {
        Self { columns: 80, rows: 25 }
    }
}

/// How a text stands out. Also understood without colour, by the words themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Style {
    /// A heading.
    Strong,
    /// Something went well.
    Good,
    /// Something to know.
    Warning,
    /// Something failed, or will be lost.
    Bad,
    /// Less important.
    Quiet,
}

impl Style {
    /// The parameters of the SGR escape sequence: the 16 colours that every console has.
    #[must_use]
    pub fn sgr(self) -> &'static str {
        match self {
            Self::Strong => "1",
            Self::Good => "1;32",
            Self::Warning => "33",
            Self::Bad => "1;31",
            Self::Quiet => "36",
        }
    }

    /// By its name in scripts.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "strong" => Self::Strong,
            "good" => Self::Good,
            "warning" => Self::Warning,
            "bad" => Self::Bad,
            "quiet" => Self::Quiet,
            _ => return None,
        })
    }
}

/// `text` as a terminal may get it: control characters are escaped, but for line ends, tabs, and
/// styles as [`Terminal::paint`] makes them where the terminal has styles.
pub(crate) fn shown(text: &str, has_styles: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\x1b').filter(|_| has_styles) {
        let style = STYLES.iter().find(|style| rest[at..].starts_with(**style));
        let end = at + style.map_or(1, |style| style.len());
        shown.push_str(&bty::text::escape_lines(&rest[..at]));
        shown.push_str(
            &style.map_or_else(|| bty::text::escape_lines("\x1b"), |style| (*style).into()),
        );
        rest = &rest[end..];
    }
    shown.push_str(&bty::text::escape_lines(rest));
    shown
}

/// The escape sequences of all styles, and the one that ends them.
const STYLES: [&str; 6] =
    ["\x1b[0m", "\x1b[1m", "\x1b[1;32m", "\x1b[33m", "\x1b[1;31m", "\x1b[36m"];

/// Shows text to a person and reads lines from them.
pub trait Terminal: Send + Sync {
    /// Its size; 80 by 25 when it does not tell.
    fn size(&self) -> Size;

    /// A result, on stdout.
    fn print(&self, text: &str);

    /// Text for people, on stderr.
    fn say(&self, text: &str);

    /// Shows `prompt` and reads a line, without its end. `None` at the end of the input, and when
    /// the person presses Ctrl-C.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](bty::ErrorKind::Usage) when nobody is there to answer, or the input
    /// cannot be read.
    fn read_line(&self, prompt: &str, cancel: &CancelToken) -> Result<Option<String>>;

    /// `text` in a style, where the terminal has styles.
    fn paint(&self, _style: Style, text: &str) -> String {
        text.to_owned()
    }
}

impl fmt::Debug for dyn Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Terminal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_styles_reach_a_terminal_and_only_one_that_has_them() {
        for style in [Style::Strong, Style::Good, Style::Warning, Style::Bad, Style::Quiet] {
            let text = format!("a\n\x1b[{}mb\x1b[0m\tc", style.sgr());
            assert_eq!(shown(&text, true), text);
            assert!(!shown(&text, false).contains('\x1b'));
        }
        assert_eq!(shown("\x1b[2J\x1b[8mx\x1b", true), "\\u{1b}[2J\\u{1b}[8mx\\u{1b}");
        assert_eq!(shown("\x07\r\u{9b}2J", true), "\\u{7}\\r\\u{9b}2J");
    }
}
