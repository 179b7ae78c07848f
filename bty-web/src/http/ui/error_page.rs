//! Errors as pages.

use askama::Template;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};

use super::frame::{Frame, Frames};
use crate::domain::error::Error;
use crate::services::access::Principal;

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    frame: Frame,
    title: &'static str,
    error: Error,
}

/// Replaces the JSON body of an error with a page.
pub async fn errors_as_pages(
    State(frames): State<Frames>,
    request: Request,
    next: Next,
) -> Response {
    let principal = request.extensions().get::<Principal>().cloned();
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    let Some(error) = response.extensions_mut().remove::<Error>() else { return response };
    let title = response.status().canonical_reason().unwrap_or("Error");
    let frame = frames.page(principal.as_ref(), &path, None).await;
    let Ok(frame) = frame else { return response };
    let Ok(page) = (ErrorPage { frame, title, error }).render() else { return response };
    response.headers_mut().remove(header::CONTENT_LENGTH);
    let (mut parts, _) = response.into_parts();
    parts
        .headers
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/html; charset=utf-8"));
    Response::from_parts(parts, page.into())
}

/// Shows an error page to a browser without a session. The page reveals nothing of the state.
pub fn public_error_page(frames: &Frames, error: Error) -> Response {
    let status = error.kind.status();
    let title = status.canonical_reason().unwrap_or("Error");
    match (ErrorPage { frame: frames.outside(), title, error: error.clone() }).render() {
        Ok(page) => (status, Html(page)).into_response(),
        Err(_) => error.into_response(),
    }
}
