//! The style sheet, the scripts and the icon. They are compiled into the program: pages load
//! nothing from other servers.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Name, media type and content.
const TEXTS: [(&str, &str, &str); 5] = [
    ("bty.svg", "image/svg+xml", include_str!("../../../static/bty.svg")),
    ("bty.css", "text/css; charset=utf-8", include_str!("../../../static/bty.css")),
    ("bty.js", "text/javascript; charset=utf-8", include_str!("../../../static/bty.js")),
    ("htmx.js", "text/javascript; charset=utf-8", include_str!("../../../third-party/htmx.min.js")),
    (
        "idiomorph.js",
        "text/javascript; charset=utf-8",
        include_str!("../../../third-party/idiomorph.min.js"),
    ),
];

struct Asset {
    name: &'static str,
    media: &'static str,
    text: &'static str,
    gzip: Vec<u8>,
    etag: String,
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let asset = |(name, media, text): (&'static str, &'static str, &'static str)| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // writing into memory does not fail
        let gzip =
            encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).unwrap_or_default();
        let etag = format!("\"{}\"", &bty::Digest::of(text.as_bytes()).to_string()[..16]);
        Asset { name, media, text, gzip, etag }
    };
    TEXTS.into_iter().map(asset).collect()
});

/// Serves an asset. Pages link to it with the program's version, so browsers cache it until an
/// upgrade. Only assets are compressed: compressed pages would leak their CSRF tokens (BREACH).
pub async fn get(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let fixed = [
        (header::CACHE_CONTROL, "max-age=3600"),
        (header::ETAG, asset.etag.as_str()),
        (header::VARY, "accept-encoding"),
    ];
    if headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == asset.etag.as_bytes())
    {
        return (StatusCode::NOT_MODIFIED, fixed).into_response();
    }
    let media = [(header::CONTENT_TYPE, asset.media)];
    let accepted = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let takes_gzip = accepted
        .split(',')
        .any(|coding| coding.split(';').next().is_some_and(|name| name.trim() == "gzip"));
    if takes_gzip && !asset.gzip.is_empty() {
        return (fixed, media, [(header::CONTENT_ENCODING, "gzip")], asset.gzip.as_slice())
            .into_response();
    }
    (fixed, media, asset.text).into_response()
}
