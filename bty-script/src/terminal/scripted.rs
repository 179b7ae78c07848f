//! A terminal with prepared answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bty::{CancelToken, Result};

use super::{Terminal, TerminalSize};

/// A terminal for tests and dry runs: it takes answers from a list and records what is shown. After
/// the last answer the input ends. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct ScriptedTerminal(Arc<Mutex<Recording>>);

#[derive(Debug, Default)]
struct Recording {
    answers: VecDeque<String>,
    printed: Vec<String>,
    shown: Vec<String>,
}

impl ScriptedTerminal {
    /// Answers each question with the next of `answers`.
    #[must_use]
    pub fn new(answers: impl IntoIterator<Item = String>) -> Self {
        Self(Arc::new(Mutex::new(Recording {
            answers: answers.into_iter().collect(),
            ..Recording::default()
        })))
    }

    /// The results printed so far.
    #[must_use]
    pub fn printed(&self) -> Vec<String> {
        self.state().printed.clone()
    }

    /// Everything shown so far: results, texts, questions and answers.
    #[must_use]
    pub fn transcript(&self) -> Vec<String> {
        self.state().shown.clone()
    }

    /// Everything shown since the last call, or the beginning.
    #[must_use]
    pub fn take_transcript(&self) -> Vec<String> {
        std::mem::take(&mut self.state().shown)
    }

    fn state(&self) -> MutexGuard<'_, Recording> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Terminal for ScriptedTerminal {
    fn size(&self) -> TerminalSize {
        TerminalSize::default()
    }

    fn print(&self, text: &str) {
        let mut state = self.state();
        state.printed.push(text.to_owned());
        state.shown.push(text.to_owned());
    }

    fn say(&self, text: &str) {
        self.state().shown.push(text.to_owned());
    }

    fn read_line(&self, prompt: &str, cancel: &CancelToken) -> Result<Option<String>> {
        cancel.check()?;
        let mut state = self.state();
        let answer = state.answers.pop_front();
        let shown = format!("{prompt}{}", answer.as_deref().unwrap_or_default());
        state.shown.push(shown);
        Ok(answer)
    }
}
