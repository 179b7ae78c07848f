//! Parses response headers: which part of an object follows, and which version it is.

use reqwest::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED,
    TRANSFER_ENCODING,
};

/// A `Content-Range` header, RFC 9110 section 14.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentRange {
    /// `bytes first-last/total`; `end` is one past the last byte, `total` is `None` for `*`.
    Part { start: u64, end: u64, total: Option<u64> },
    /// `bytes */total`, of a 416 reply.
    Unsatisfied { total: u64 },
}

impl ContentRange {
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(text(headers, &CONTENT_RANGE)?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (unit, rest) = text.trim().split_once(' ')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (part, total) = rest.trim().split_once('/')?;
        if part == "*" {
            return Some(Self::Unsatisfied { total: number(total)? });
        }
        let total = if total == "*" { None } else { Some(number(total)?) };
        let (first, last) = part.split_once('-')?;
        let (start, end) = (number(first)?, number(last)?.checked_add(1)?);
        (start < end && total.is_none_or(|total| end <= total)).then_some(Self::Part {
            start,
            end,
            total,
        })
    }
}

/// The validators of a response, which distinguish the versions of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Validators {
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Validators {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let owned = |name| text(headers, name).map(str::to_owned);
        Self { etag: owned(&ETAG), last_modified: owned(&LAST_MODIFIED) }
    }

    /// The ETag if it is strong; `If-Range` takes no other (RFC 9110 section 13.1.5).
    pub(crate) fn strong_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| etag.starts_with('"'))
    }

    /// The strong ETag or, without one, the modification time together with the length.
    pub(crate) fn version(&self, len_bytes: Option<u64>) -> Option<String> {
        let by_time = || Some(format!("{} {}", self.last_modified.as_deref()?, len_bytes?));
        self.strong_etag().map(str::to_owned).or_else(by_time)
    }

    /// False when the two certainly belong to different versions. Mirrors may disagree about the
    /// modification time of the same file, so it counts only where an ETag is missing.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        // a registry mirror omits the quotes until it has cached the blob
        let opaque =
            |etag: &str| etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"').to_owned();
        match (&self.etag, &other.etag) {
            (Some(a), Some(b)) => opaque(a) == opaque(b),
            _ => match (&self.last_modified, &other.last_modified) {
                (Some(a), Some(b)) => a == b,
                _ => true,
            },
        }
    }
}

/// The `Content-Length`, in bytes.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    number(text(headers, &CONTENT_LENGTH)?)
}

/// True when the server says that it obeys ranges of bytes.
pub(crate) fn offers_ranges(headers: &HeaderMap) -> bool {
    text(headers, &ACCEPT_RANGES).is_some_and(|units| units.eq_ignore_ascii_case("bytes"))
}

/// True when the body is chunked, so that a broken connection cannot pass for its end.
pub(crate) fn is_chunked(headers: &HeaderMap) -> bool {
    text(headers, &TRANSFER_ENCODING)
        .is_some_and(|codings| codings.to_ascii_lowercase().trim_end().ends_with("chunked"))
}

pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Digits only: `u64::from_str` would accept a plus sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_content_ranges() {
        let part = |start, end, total| Some(ContentRange::Part { start, end, total });
        for (text, expected) in [
            ("bytes 0-0/1", part(0, 1, Some(1))),
            ("bytes 5-9/10", part(5, 10, Some(10))),
            ("Bytes 5-9/*", part(5, 10, None)),
            ("bytes */0", Some(ContentRange::Unsatisfied { total: 0 })),
            ("bytes 5-10/10", None),
            ("bytes 5-4/10", None),
            ("bytes +5-9/10", None),
            ("bytes 0-18446744073709551615/*", None),
            ("bytes */*", None),
            ("items 0-0/1", None),
            ("bytes=0-0/1", None),
            ("bytes -/1", None),
        ] {
            assert_eq!(ContentRange::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn validators_tell_versions_apart() {
        let id = |etag: &str, time: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Validators { etag: some(etag), last_modified: some(time) }
        };
        assert!(id("\"a\"", "1").agrees_with(&id("W/\"a\"", "2")));
        assert!(id("\"a\"", "1").agrees_with(&id("a", "1")));
        assert!(!id("\"a\"", "1").agrees_with(&id("\"b\"", "1")));
        assert!(!id("\"a\"", "1").agrees_with(&id("", "2")));
        assert!(id("", "").agrees_with(&id("\"a\"", "1")));
        assert_eq!(
            (
                id("\"a\"", "").strong_etag(),
                id("W/\"a\"", "").strong_etag(),
                id("", "1").strong_etag()
            ),
            (Some("\"a\""), None, None)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_header_is_a_valid_range_or_none(text in "(bytes )?[0-9*/ -]{0,30}|.{0,30}") {
            if let Some(ContentRange::Part { start, end, total }) = ContentRange::parse(&text) {
                prop_assert!(start < end && total.is_none_or(|total| end <= total));
            }
        }

        #[test]
        fn a_formatted_range_parses_back(
            start in 0..1_000_000u64,
            len in 1..1_000_000u64,
            rest in 0..1_000_000u64,
        ) {
            let (end, total) = (start + len, start + len + rest);
            let text = format!("bytes {start}-{}/{total}", end - 1);
            let part = ContentRange::Part { start, end, total: Some(total) };
            prop_assert_eq!(ContentRange::parse(&text), Some(part));
        }
    }
}
