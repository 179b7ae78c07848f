//! The documentation site at `/docs/`: the files of `paths.site_dir`, if they are installed. The
//! API viewer at `/docs/api` does not need them.

use std::path::{Component, Path};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path as Route, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;

use super::serve_file;
use crate::config::Config;
use crate::domain::error::{Error, Result};
use crate::http::state::RouterState;

/// As strict as for the other pages, except that style sheets may embed icons as `data:` URLs.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; \
                      script-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// The routes of the site.
pub(super) fn router() -> Router<RouterState> {
    Router::new()
        .route("/docs", get(|| async { Redirect::permanent("/docs/") }))
        .route("/docs/", get(home))
        .route("/docs/{*path}", get(file))
}

/// Redirects to the first page, or to the API viewer if no site is installed.
async fn home(
    State(config): State<Arc<Config>>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response> {
    match config.has_site() {
        true => respond(&config, "index.html", &method, &headers).await,
        false => Ok(Redirect::temporary("/docs/api").into_response()),
    }
}

async fn file(
    State(config): State<Arc<Config>>,
    Route(path): Route<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response> {
    respond(&config, &path, &method, &headers).await
}

async fn respond(
    config: &Config,
    name: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response> {
    let path = config.site_dir.join(name);
    let found = tokio::fs::symlink_metadata(&path).await;
    if !is_inside(name) || !found.is_ok_and(|found| found.is_file()) {
        return Err(Error::not_found(format!("the file {name}")));
    }
    let is_head = method == Method::HEAD;
    let mut response = serve_file::respond(&path, name, media_type(name), is_head, headers).await?;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // display it instead of saving it
    fields.remove(header::CONTENT_DISPOSITION);
    Ok(response)
}

/// True for a path that stays in its directory and contains no hidden names.
fn is_inside(name: &str) -> bool {
    let is_plain = |part: Component<'_>| match part {
        Component::Normal(part) => !part.as_encoded_bytes().starts_with(b"."),
        _ => false,
    };
    !name.contains('\0') && Path::new(name).components().all(is_plain)
}

/// Returns the media type of files that browsers need; everything else is plain text.
fn media_type(name: &str) -> &'static str {
    match Path::new(name).extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("gz") => "application/gzip",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_below_the_site_are_named() {
        for inside in ["index.html", "how-to/plans.html", "assets/a.b.js"] {
            assert!(is_inside(inside), "{inside}");
        }
        for outside in ["../state.db", "a/../../b", "/etc/passwd", ".git/config", "a\0", "a/.b"] {
            assert!(!is_inside(outside), "{outside:?}");
        }
    }

    #[test]
    fn the_reference_has_every_kind_of_event_and_every_key() {
        let events = include_str!("../../../docs/reference/events.md");
        for kind in crate::domain::event::KINDS {
            assert!(events.contains(&format!("`{kind}`")), "{kind}");
        }
        let configuration = include_str!("../../../docs/reference/configuration.md");
        for (key, ..) in crate::config::KEYS {
            let name = key.strip_prefix("limits.").unwrap_or(key);
            assert!(configuration.contains(&format!("| `{name}` |")), "{key}");
        }
    }
}
