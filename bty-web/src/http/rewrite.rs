//! Rewrites request paths to those of the router: removes the server's path prefix and duplicate
//! slashes.

use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Uri, header};

/// Paths below which firmware requests double slashes, such as `/boot//kernel`, because it joins
/// URLs from parts.
const FIRMWARE_PATHS: [&str; 2] = ["/boot/", "/pxe/"];

/// Rewrites the path of a request. `root` is the path prefix of the server, which a proxy may
/// already have removed.
pub(super) fn rewrite(uri: &mut Uri, root: &str) {
    let below =
        Some(uri.path()).filter(|_| !root.is_empty()).and_then(|path| path.strip_prefix(root));
    let below = below.filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let path = below.unwrap_or(uri.path());
    let path = match (collapsed(path), below) {
        (Some(path), _) => path,
        (None, Some("")) => "/".to_owned(),
        (None, Some(rest)) => rest.to_owned(),
        (None, None) => return,
    };
    let target = uri.query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    let mut parts = uri.clone().into_parts();
    let Ok(target) = PathAndQuery::try_from(target) else { return };
    parts.path_and_query = Some(target);
    if let Ok(rewritten) = Uri::from_parts(parts) {
        *uri = rewritten;
    }
}

/// Prepends `root` to redirects within this server, because handlers use paths without it.
pub(super) fn redirect(headers: &mut HeaderMap, root: &str) {
    let Some(to) = headers.get(header::LOCATION).filter(|_| !root.is_empty()) else { return };
    let to = to.to_str().unwrap_or_default();
    if to.starts_with('/')
        && !to.starts_with("//")
        && let Ok(to) = HeaderValue::try_from(format!("{root}{to}"))
    {
        headers.insert(header::LOCATION, to);
    }
}

/// Returns the path with single slashes if it is one that machines request and has double slashes.
/// Keeps dots and encoded characters: handlers reject invalid names.
fn collapsed(path: &str) -> Option<String> {
    if !path.contains("//") {
        return None;
    }
    let mut collapsed = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !collapsed.ends_with('/') {
            collapsed.push(c);
        }
    }
    FIRMWARE_PATHS.iter().any(|start| collapsed.starts_with(start)).then_some(collapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn double_slashes_are_collapsed_in_paths_for_firmware() {
        for (asked, expected) in [
            ("/boot//kernel", "/boot/kernel"),
            ("//boot///kernel?mac=a//b", "/boot/kernel?mac=a//b"),
            ("http://h//boot/kernel", "http://h/boot/kernel"),
            ("/pxe//52-54-00-12-34-56", "/pxe/52-54-00-12-34-56"),
            ("/boot/kernel?x=//", "/boot/kernel?x=//"),
            ("/boot//../state.db", "/boot/../state.db"),
            ("/boot//%2e%2e%2fstate.db", "/boot/%2e%2e%2fstate.db"),
            ("/ui//machines", "/ui//machines"),
            ("/b/aGk//name", "/b/aGk//name"),
            ("*", "*"),
        ] {
            let mut uri: Uri = asked.parse().unwrap();
            rewrite(&mut uri, "");
            assert_eq!(uri.to_string(), expected, "{asked}");
        }
    }

    #[test]
    fn the_root_is_removed_once() {
        for (asked, expected) in [
            ("/bty/ui/login?a=b", "/ui/login?a=b"),
            ("/bty", "/"),
            ("/bty/", "/"),
            ("/ui/login", "/ui/login"),
            ("/btyx/ui", "/btyx/ui"),
            ("/bty/bty/ui", "/bty/ui"),
            ("/bty/boot//kernel", "/boot/kernel"),
            ("/bty//evil.example/", "//evil.example/"),
        ] {
            let mut uri: Uri = asked.parse().unwrap();
            rewrite(&mut uri, "/bty");
            assert_eq!(uri.path_and_query().unwrap().as_str(), expected, "{asked}");
        }
    }

    #[test]
    fn redirects_within_the_server_get_the_root() {
        for (to, expected) in [
            ("/ui/login", "/bty/ui/login"),
            ("https://h/x", "https://h/x"),
            ("//h/x", "//h/x"),
            ("x", "x"),
        ] {
            let mut headers =
                HeaderMap::from_iter([(header::LOCATION, HeaderValue::from_static(to))]);
            redirect(&mut headers, "/bty");
            assert_eq!(headers[header::LOCATION], expected);
        }
    }
}
