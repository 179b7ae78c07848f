//! Removes user names and passwords from addresses before they are shown.
//!
//! Addresses end up in messages, logs and lists that others may read. Code that shows an address
//! passes it through [`address`]; code that shows untrusted text passes it through [`text`].

use std::borrow::Cow;

use url::Url;

/// Removes user and password from an address. Local paths, `file://` addresses and other text are
/// returned unchanged.
///
/// ```
/// use bty::redact::address;
///
/// assert_eq!(address("https://me:secret@example.org/a.img"), "https://example.org/a.img");
/// assert_eq!(address("oras://ghcr.io/me/disk@sha256:00"), "oras://ghcr.io/me/disk@sha256:00");
/// ```
#[must_use]
pub fn address(address: &str) -> Cow<'_, str> {
    // no whitespace ends the address: a password may contain blanks, which the URL parser encodes
    cut(address, |_| false)
}

/// Removes user and password from a URL.
pub(crate) fn url(url: &Url) -> Url {
    let mut url = url.clone();
    // both fail only for addresses without a host, which have no credentials
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// Removes user and password from every address in `text`.
///
/// ```
/// let message = "fetching http://me:secret@h/a failed";
/// assert_eq!(bty::redact::text(message), "fetching http://h/a failed");
/// ```
#[must_use]
pub fn text(text: &str) -> Cow<'_, str> {
    cut(text, char::is_whitespace)
}

/// True if `text` is an address with a user or a password.
#[must_use]
pub fn has_credentials(text: &str) -> bool {
    matches!(address(text), Cow::Owned(_))
}

/// Cuts everything between `://` and the last `@` before the path. Works on the text instead of a
/// parsed URL, because malformed addresses are shown too.
fn cut(text: &str, ends: impl Fn(char) -> bool) -> Cow<'_, str> {
    let (mut kept, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        // URL parsers skip additional slashes and backslashes before the host
        let host = after.len() - after.trim_start_matches(['/', '\\']).len();
        let is_file = before.len() >= 7
            && before.as_bytes()[before.len() - 7..].eq_ignore_ascii_case(b"file://");
        let end = after[host..]
            .find(|c| matches!(c, '/' | '?' | '#') || ends(c))
            .map_or(after.len(), |end| host + end);
        kept.push_str(before);
        match after[..end].rfind('@').filter(|_| !is_file) {
            Some(sign) => {
                kept.push_str(&after[..host]);
                kept.push_str(&after[sign + 1..end]);
            }
            None => kept.push_str(&after[..end]),
        }
        rest = &after[end..];
    }
    kept.push_str(rest);
    if kept.len() == text.len() { Cow::Borrowed(text) } else { Cow::Owned(kept) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn users_and_passwords_are_removed_in_every_notation() {
        for (written, shown) in [
            ("http://user:secret@h/a", "http://h/a"),
            ("HTTPS://secret@h", "HTTPS://h"),
            ("http://u:se@cret@h:8080/a@b", "http://h:8080/a@b"),
            ("http://u:sec ret@h/a", "http://h/a"),
            ("http:///u:secret@h/a", "http:///h/a"),
            ("http://u:secret@h:99999/a", "http://h:99999/a"),
            ("oras://u:secret@h/a:t", "oras://h/a:t"),
            ("http://h/a?b=c@d", "http://h/a?b=c@d"),
            ("http://h#a@b", "http://h#a@b"),
            ("/tmp/a@b", "/tmp/a@b"),
            ("file://a@b/c", "file://a@b/c"),
            ("me@h", "me@h"),
            ("é://ü@ö", "é://ö"),
        ] {
            assert_eq!(address(written), shown);
            assert_eq!(has_credentials(written), written != shown, "{written}");
        }
    }

    #[test]
    fn every_address_in_a_text_is_redacted() {
        assert_eq!(
            text("http://a:s@h/x, then \"http://b:s@i/y\""),
            "http://h/x, then \"http://i/y\""
        );
        assert_eq!(text("see http://h or me@h"), "see http://h or me@h");
        assert!(matches!(text("http://h/x"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn everything_that_the_url_parser_takes_for_credentials_is_removed(
            user in "[a-z:@ %\"'<>]{0,8}", host in "[a-z]{1,5}", path in "(/[a-z@:]{0,5})?"
        ) {
            let written = format!("http://{user}@{host}{path}");
            if let Ok(url) = url::Url::parse(&address(&written)) {
                prop_assert!(url.username().is_empty() && url.password().is_none());
                prop_assert_eq!(url.host_str(), Some(host.as_str()));
            }
        }

        #[test]
        fn no_text_panics(written in "(://|@|/|file|é| |a){0,12}") {
            let _ = text(&written);
            let _ = address(&written);
        }
    }
}
