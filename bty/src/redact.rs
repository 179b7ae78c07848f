//! Takes users and passwords out of addresses before anybody sees them.
//!
//! An address with a password is used as it is written, but it ends up in messages, in logs and in
//! lists that everybody may read. Whatever shows an address shows it through [`address`]; whatever
//! shows a text that others wrote shows it through [`text`].

use std::borrow::Cow;

use url::Url;

/// The same address without user and password. Local paths, `file://` addresses and texts that are
/// no addresses stay as they are.
///
/// ```
/// assert_eq!(bty::redact::address("https://me:secret@example.org/a.img"), "https://example.org/a.img");
/// assert_eq!(bty::redact::address("oras://ghcr.io/me/disk@sha256:00"), "oras://ghcr.io/me/disk@sha256:00");
/// ```
#[must_use]
pub fn address(address: &str) -> Cow<'_, str> {
    // a password may hold blanks: the URL standard encodes them
    cut(address, |_| false)
}

/// `url` without user and password.
pub(crate) fn url(url: &Url) -> Url {
    let mut url = url.clone();
    // both fail only for addresses without a host, which have no credentials
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// The same text, with user and password taken out of every address in it.
///
/// ```
/// assert_eq!(bty::redact::text("fetching http://me:secret@h/a failed"), "fetching http://h/a failed");
/// ```
#[must_use]
pub fn text(text: &str) -> Cow<'_, str> {
    cut(text, char::is_whitespace)
}

/// True when `text` is an address with a user or a password.
#[must_use]
pub fn has_credentials(text: &str) -> bool {
    matches!(address(text), Cow::Owned(_))
}

/// Cuts what stands between `://` and the last `@` before the path. It works on the text, since
/// what is no valid address is shown as well.
fn cut(text: &str, ends: impl Fn(char) -> bool) -> Cow<'_, str> {
    let (mut kept, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        // web addresses may have more slashes, or backslashes, before their host
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
    fn users_and_passwords_are_cut_in_every_notation() {
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
    fn every_address_of_a_text_is_cut() {
        assert_eq!(
            text("http://a:s@h/x, then \"http://b:s@i/y\""),
            "http://h/x, then \"http://i/y\""
        );
        assert_eq!(text("see http://h or me@h"), "see http://h or me@h");
        assert!(matches!(text("http://h/x"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn what_the_parser_takes_for_credentials_is_cut(
            user in "[a-z:@ %\"'<>]{0,8}", host in "[a-z]{1,5}", path in "(/[a-z@:]{0,5})?"
        ) {
            let written = format!("http://{user}@{host}{path}");
            if let Ok(url) = url::Url::parse(&address(&written)) {
                prop_assert!(url.username().is_empty() && url.password().is_none());
                prop_assert_eq!(url.host_str(), Some(host.as_str()));
            }
        }

        #[test]
        fn no_text_is_too_strange(written in "(://|@|/|file|é| |a){0,12}") {
            let _ = text(&written);
            let _ = address(&written);
        }
    }
}
