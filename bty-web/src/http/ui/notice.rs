//! The result of a form, shown on the page to which the browser is redirected.
//!
//! A form responds with a redirect, so that reloading the page does not submit the form again. In
//! the meantime, the notice is kept in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};

use crate::domain::error::{Error, Problem, Result};
use crate::random::random_token;
use crate::services::undo::Undo;

/// Maximum number of notices kept. A further one replaces the oldest.
const NOTICES_MAX: usize = 256;

/// Query parameter that identifies the notice to show.
const PARAMETER: &str = "told";

/// The result of a form.
#[derive(Debug, Default)]
pub struct Notice {
    /// One sentence.
    pub text: String,
    /// True for an error.
    pub is_wrong: bool,
    /// All problems of an error.
    pub problems: Vec<Problem>,
    /// A secret that is shown only once.
    pub secret: Option<String>,
    /// The undo of the change; `None` if it cannot be undone.
    pub undo: Option<Undo>,
}

impl Notice {
    /// Creates the notice of a success.
    #[must_use]
    pub fn success(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Adds a button that undoes the change.
    #[must_use]
    pub fn with_undo(mut self, undo: Undo) -> Self {
        self.undo = Some(undo);
        self
    }
}

impl From<Error> for Notice {
    fn from(error: Error) -> Self {
        let Error { detail, problems, .. } = error;
        Self { text: detail, is_wrong: true, problems, ..Self::default() }
    }
}

impl From<Result<Notice>> for Notice {
    fn from(result: Result<Notice>) -> Self {
        result.unwrap_or_else(Self::from)
    }
}

/// The notices that can be shown. Clones share them.
#[derive(Clone, Default)]
pub struct Notices(Arc<Mutex<Kept>>);

/// Notices with their ids, oldest first.
type Kept = VecDeque<(String, Arc<Notice>)>;

impl Notices {
    /// Keeps a notice, and returns its id.
    fn keep(&self, notice: Notice) -> String {
        let id = random_token();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= NOTICES_MAX {
            kept.pop_front();
        }
        kept.push_back((id.clone(), Arc::new(notice)));
        id
    }

    /// Returns the notice with this id. It is kept, because the browser may reload the page.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<Notice>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(known, _)| known == id).map(|(_, notice)| Arc::clone(notice))
    }

    /// Removes the notice with this id, so that a change is undone at most once.
    #[must_use]
    pub fn take(&self, id: &str) -> Option<Arc<Notice>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(known, _)| known == id)?;
        kept.remove(at).map(|(_, notice)| notice)
    }

    /// Returns the notice that the query of a page refers to, and its id.
    pub(super) fn of_query(&self, query: &str) -> Option<(String, Arc<Notice>)> {
        let mut parameters = url::form_urlencoded::parse(query.as_bytes());
        let (_, id) = parameters.find(|(name, _)| name == PARAMETER)?;
        let notice = self.find(&id)?;
        Some((id.into_owned(), notice))
    }

    /// Redirects to the page `to`, which shows the notice or the error.
    #[must_use]
    pub fn redirect(&self, to: &str, notice: impl Into<Notice>) -> Response {
        let id = self.keep(notice.into());
        let (to, fragment) = to.split_once('#').unwrap_or((to, ""));
        let (path, query) = to.split_once('?').unwrap_or((to, ""));
        let others = url::form_urlencoded::parse(query.as_bytes());
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(others.filter(|(name, _)| name != PARAMETER))
            .append_pair(PARAMETER, &id)
            .finish();
        let fragment = if fragment.is_empty() { String::new() } else { format!("#{fragment}") };
        Redirect::to(&format!("{path}?{query}{fragment}")).into_response()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Notices {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let notices = parts.extensions.get::<Self>().cloned();
        notices.ok_or_else(|| Error::internal("the router has no notices"))
    }
}
