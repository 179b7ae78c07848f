//! What a form has sent.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use url::form_urlencoded;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::http::guard;
use crate::services::app::App;

/// What is told to who sends a form of another session.
pub const FOREIGN: &str = "the form is not from this session: load the page again";

/// The fields of a form of ours: one from another session is refused.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// A field without blanks around it; empty when it is not there.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// A field as it was sent.
    #[must_use]
    pub fn raw(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// A field that says something.
    #[must_use]
    pub fn maybe(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// A box is ticked, a button was pressed.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Every value of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Every field.
    pub fn each(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A page of ours to go back to; `default` for anything else.
    #[must_use]
    pub fn back<'a>(&'a self, default: &'a str) -> &'a str {
        let back = self.text("back");
        let is_ours =
            back.starts_with("/ui/") && !back.contains("//") && !back.chars().any(char::is_control);
        if is_ours { back } else { default }
    }
}

impl FromRequest<Arc<App>> for Fields {
    type Rejection = Error;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self> {
        let who = request.extensions().get::<guard::Principal>().cloned();
        let bytes = Bytes::from_request(request, app).await.map_err(|e| match e.status() {
            axum::http::StatusCode::PAYLOAD_TOO_LARGE => {
                Error::new(ErrorKind::TooLarge, "the form is too large")
            }
            _ => Error::new(ErrorKind::Malformed, "the form ended early"),
        })?;
        let fields = Self(form_urlencoded::parse(&bytes).into_owned().collect());
        let csrf = who.as_ref().map(guard::Principal::csrf).unwrap_or_default();
        if !crate::domain::secret::is_same(fields.raw("csrf"), csrf) {
            return Err(Error::new(ErrorKind::Forbidden, FOREIGN));
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_leads_back_to_pages_of_ours_only() {
        let back =
            |text: &str| Fields(vec![("back".into(), text.into())]).back("/ui/events").to_owned();
        assert_eq!(back("/ui/events?q=a&b=c"), "/ui/events?q=a&b=c");
        for text in [
            "",
            "//evil.example",
            "https://evil.example/ui/",
            "/ui//evil",
            "/ui/\r\nSet-Cookie: a",
            "/docs",
        ] {
            assert_eq!(back(text), "/ui/events", "{text:?}");
        }
    }
}
