//! Renders templates as responses, and formats numbers.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};

use crate::domain::error::{Error, Result};

/// Renders `page` as a response.
///
/// # Errors
/// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when the template fails.
pub fn render(page: &impl Template) -> Result<Response> {
    Ok(Html(page.render().map_err(Error::internal)?).into_response())
}

/// Formats a size with its unit, such as `1.5 GiB`. Accepts references too, which templates use.
#[must_use]
pub fn size(bytes: impl std::borrow::Borrow<u64>) -> String {
    bty::size::human(*bytes.borrow())
}

/// A number with its noun: see [`bty::text::count`]. Accepts references too, which templates use.
#[must_use]
pub fn count(number: impl std::borrow::Borrow<usize>, noun: &str) -> String {
    bty::text::count(*number.borrow(), noun)
}

/// Returns the completed part of `total` in percent; 0 if `total` is 0.
#[must_use]
pub fn percent(done: u64, total: u64) -> u64 {
    let percent = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or_default();
    u64::try_from(percent).unwrap_or(100).min(100)
}
