//! Templates as responses, and numbers for people.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};

use crate::domain::error::{Error, Result};

/// The response with this page.
///
/// # Errors
/// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when the template fails.
pub fn render(page: &impl Template) -> Result<Response> {
    Ok(Html(page.render().map_err(Error::internal)?).into_response())
}

/// A size with its unit, such as `1.5 GiB`. Takes references too, which templates have.
#[must_use]
pub fn size(bytes: impl std::borrow::Borrow<u64>) -> String {
    bty::size::human(*bytes.borrow())
}

/// How much of `total` is done, in percent; 0 when `total` is 0.
#[must_use]
pub fn percent(done: u64, total: u64) -> u64 {
    let percent = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or_default();
    u64::try_from(percent).unwrap_or(100).min(100)
}
