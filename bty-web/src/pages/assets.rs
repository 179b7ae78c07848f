//! The style sheet and the scripts. They are in the program: nothing is fetched from elsewhere.

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Name, media type and text.
const ASSETS: [(&str, &str, &str); 5] = [
    ("bty.svg", "image/svg+xml", include_str!("../../static/bty.svg")),
    ("bty.css", "text/css; charset=utf-8", include_str!("../../static/bty.css")),
    ("bty.js", "text/javascript; charset=utf-8", include_str!("../../static/bty.js")),
    ("htmx.js", "text/javascript; charset=utf-8", include_str!("../../../third-party/browser/htmx.min.js")),
    ("idiomorph.js", "text/javascript; charset=utf-8", include_str!("../../../third-party/browser/idiomorph.min.js")),
];

/// An asset. Its address carries the version, so that browsers keep it until an upgrade.
pub async fn get(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some((_, media, text)) = ASSETS.iter().find(|(known, ..)| *known == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let etag = format!("\"{}\"", &bty::Digest::of(text.as_bytes()).to_string()[..16]);
    let fixed = [(header::CACHE_CONTROL, "max-age=3600".to_owned()), (header::ETAG, etag.clone())];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, fixed).into_response();
    }
    (fixed, [(header::CONTENT_TYPE, *media)], *text).into_response()
}
