//! A dry run that somebody watches: the answers are prepared, and everything is shown.

use std::sync::Arc;

use bty::{CancelToken, Result};

use super::{Size, Style, Terminal};

/// Takes answers from one terminal and shows everything on another.
pub struct Echo {
    answers: Arc<dyn Terminal>,
    screen: Arc<dyn Terminal>,
}

impl Echo {
    /// Answers of `answers`, shown on `screen`.
    #[must_use]
    pub fn new(answers: Arc<dyn Terminal>, screen: Arc<dyn Terminal>) -> Self {
        Self { answers, screen }
    }
}

impl Terminal for Echo {
    fn size(&self) -> Size {
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
