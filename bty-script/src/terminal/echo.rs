//! A terminal for dry runs that somebody watches.

use std::sync::Arc;

use bty::{CancelToken, Result};

use super::{Style, Terminal, TerminalSize};

/// Reads lines from one terminal and shows everything, prompts and answers included, on another.
pub struct EchoTerminal {
    answers: Arc<dyn Terminal>,
    screen: Arc<dyn Terminal>,
}

impl EchoTerminal {
    /// Reads lines from `answers`, and shows everything on `screen`.
    #[must_use]
    pub fn new(answers: Arc<dyn Terminal>, screen: Arc<dyn Terminal>) -> Self {
        Self { answers, screen }
    }
}

impl Terminal for EchoTerminal {
    fn size(&self) -> TerminalSize {
        self.screen.size()
    }

    fn print(&self, text: &str) {
        self.screen.print(text);
    }

    fn say(&self, text: &str) {
        self.screen.say(text);
    }

    fn read_line(&self, prompt: &str, cancel: &CancelToken) -> Result<Option<String>> {
        let answer = self.answers.read_line(prompt, cancel)?;
        self.screen.say(&format!("{prompt}{}", answer.as_deref().unwrap_or_default()));
        Ok(answer)
    }

    fn paint(&self, style: Style, text: &str) -> String {
        self.screen.paint(style, text)
    }
}
