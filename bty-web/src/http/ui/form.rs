//! Form fields.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use url::form_urlencoded;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::secret::is_same;
use crate::services::access::Principal;

/// The error for a form without the CSRF token of the session.
pub const CSRF_MISMATCH: &str = "the form belongs to another session; reload the page";

/// The fields of a form, which was sent with the CSRF token of its session.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Returns the trimmed text of a field; empty if the field is missing.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// Returns the text of a field as it was sent; empty if the field is missing.
    #[must_use]
    pub fn raw(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Returns the trimmed text of a field; `None` if it is empty or missing.
    #[must_use]
    pub fn optional(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// True if the box is checked, or the button was pressed.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Returns all values of a field.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the names and values of all fields.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the path in the field `back` if it is a page of this server, otherwise `default`.
    #[must_use]
    pub fn back<'a>(&'a self, default: &'a str) -> &'a str {
        let back = self.text("back");
        let is_own =
            back.starts_with("/ui/") && !back.contains("//") && !back.chars().any(char::is_control);
        if is_own { back } else { default }
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let principal = request.extensions().get::<Principal>().cloned();
        let bytes = Bytes::from_request(request, state).await.map_err(|e| match e.status() {
            axum::http::StatusCode::PAYLOAD_TOO_LARGE => {
                Error::new(ErrorKind::TooLarge, "the form is too large")
            }
            _ => Error::new(ErrorKind::Malformed, "the form ended early"),
        })?;
        let fields = Self(form_urlencoded::parse(&bytes).into_owned().collect());
        let csrf = principal.as_ref().map(Principal::csrf).unwrap_or_default();
        if !is_same(fields.raw("csrf"), csrf) {
            return Err(Error::new(ErrorKind::Forbidden, CSRF_MISMATCH));
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_leads_back_to_pages_of_this_server_only() {
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
