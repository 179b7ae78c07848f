//! Paths as clients write them, made into those that the router knows.

use axum::http::Uri;
use axum::http::uri::PathAndQuery;

/// Firmware joins addresses from parts, and so asks for `/boot//kernel`.
const FIRMWARE_PATHS: [&str; 2] = ["/boot/", "/pxe/"];

/// Rewrites the path of a request. The address of a path that is not changed is not touched.
pub(super) fn rewrite(uri: &mut Uri) {
    let Some(path) = collapsed(uri.path()) else { return };
    let target = uri.query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    let mut parts = uri.clone().into_parts();
    let Ok(target) = PathAndQuery::try_from(target) else { return };
    parts.path_and_query = Some(target);
    if let Ok(rewritten) = Uri::from_parts(parts) {
        *uri = rewritten;
    }
}

/// The path with single slashes, if machines ask for it and it has others. Dots and encoded characters stay: handlers refuse what they must.
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
    fn slashes_are_collapsed_where_firmware_asks() {
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
            rewrite(&mut uri);
            assert_eq!(uri.to_string(), expected, "{asked}");
        }
    }
}
