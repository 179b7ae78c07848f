//! A terminal whose person has said everything beforehand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bty::{CancelToken, Result};

use super::{Size, Terminal};

/// A terminal for tests and dry runs: answers come from a list, and all that is shown is kept.
/// After the last answer the input ends. Clones share one person.
#[derive(Clone, Debug, Default)]
pub struct Scripted(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    answers: VecDeque<String>,
    printed: Vec<String>,
    shown: Vec<String>,
}

impl Scripted {
    /// A person who gives these answers, one a question.
    #[must_use]
    pub fn new(answers: impl IntoIterator<Item = String>) -> Self {
        Self(Arc::new(Mutex::new(State {
            answers: answers.into_iter().collect(),
            ..State::default()
        })))
    }

    /// What was printed as a result.
    #[must_use]
    pub fn printed(&self) -> Vec<String> {
        self.state().printed.clone()
    }

    /// All that was on the screen: results, texts, questions and answers.
    #[must_use]
    pub fn shown(&self) -> Vec<String> {
        self.state().shown.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Terminal for Scripted {
    fn size(&self) -> Size {
        Size::default()
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
