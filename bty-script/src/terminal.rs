//! Terminals: show text to the person at the machine, and read what they type.
//!
//! A [`Console`] is a real one. A [`ScriptedTerminal`] has its answers in advance, and records what
//! it was told to show:
//!
//! ```
//! use bty_script::terminal::{ScriptedTerminal, Terminal};
//!
//! let terminal = ScriptedTerminal::new(["yes".to_owned()]);
//! let answer = terminal.read_line("Write? ", &Default::default())?;
//! assert_eq!(answer.as_deref(), Some("yes"));
//! # Ok::<(), bty::Error>(())
//! ```

use std::fmt;

use bty::{CancelToken, Result};

mod console;
mod echo;
mod scripted;
pub mod stdout;

pub use console::Console;
pub use echo::EchoTerminal;
pub use scripted::ScriptedTerminal;

/// Size of a terminal in characters. The default, 80 by 25, is used where the terminal does not
/// report its size, as on serial lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Width in characters.
    pub columns: usize,
    /// Height in lines.
    pub rows: usize,
}

impl Default for TerminalSize {
    fn default() -> Self {
        Self { columns: 80, rows: 25 }
    }
}

/// A text style. Texts must be understandable without it, since not all terminals have colors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Style {
    /// A heading, in bold.
    Strong,
    /// What succeeded, in green.
    Good,
    /// What deserves attention, in yellow.
    Warning,
    /// A failure, or data that will be lost.
    Bad,
    /// What matters less than the text around it, in cyan.
    Quiet,
}

impl Style {
    /// The parameters of the SGR escape sequence. Only the 16 colors that every console has are
    /// used.
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

    /// The style that scripts call `name`.
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

/// Escapes all control characters of `text` except line ends, tabs and, with `has_styles`, the
/// sequences of [`Terminal::paint`].
pub(crate) fn escape_for_terminal(text: &str, has_styles: bool) -> String {
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

/// The escape sequence that resets the style, and those of all styles.
const STYLES: [&str; 6] =
    ["\x1b[0m", "\x1b[1m", "\x1b[1;32m", "\x1b[33m", "\x1b[1;31m", "\x1b[36m"];

/// Shows text to a person and reads lines from them.
pub trait Terminal: Send + Sync {
    /// The size of the terminal.
    fn size(&self) -> TerminalSize;

    /// Prints a result on stdout.
    fn print(&self, text: &str);

    /// Shows text for people on stderr.
    fn say(&self, text: &str);

    /// Shows `prompt` and reads a line, without its line end. `None` at the end of the input, and
    /// after Ctrl-C.
    ///
    /// # Errors
    /// - [`ErrorKind::Usage`](bty::ErrorKind::Usage): stdin is not a terminal
    /// - [`ErrorKind::Host`](bty::ErrorKind::Host): reading fails
    fn read_line(&self, prompt: &str, cancel: &CancelToken) -> Result<Option<String>>;

    /// Returns `text` in a style, or unchanged if the terminal has no styles.
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
    fn everything_but_styles_is_escaped() {
        for style in [Style::Strong, Style::Good, Style::Warning, Style::Bad, Style::Quiet] {
            let text = format!("a\n\x1b[{}mb\x1b[0m\tc", style.sgr());
            assert_eq!(escape_for_terminal(&text, true), text);
            assert!(!escape_for_terminal(&text, false).contains('\x1b'));
        }
        assert_eq!(
            escape_for_terminal("\x1b[2J\x1b[8mx\x1b", true),
            "\\u{1b}[2J\\u{1b}[8mx\\u{1b}"
        );
        assert_eq!(escape_for_terminal("\x07\r\u{9b}2J", true), "\\u{7}\\r\\u{9b}2J");
    }
}
