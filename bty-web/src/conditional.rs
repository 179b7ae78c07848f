//! Conditional requests and range requests: RFC 9110, sections 13 and 14.
//!
//! [`select`] decides from the header fields of a request and the validators of a representation
//! which status the response has and which bytes it carries. It does no I/O, so that the cache
//! host, `/boot` and the download of a backup share it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The conditional header fields of a request, and `Range`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    if_match: Option<String>,
    if_unmodified_since: Option<String>,
    if_none_match: Option<String>,
    if_modified_since: Option<String>,
    if_range: Option<String>,
    range: Option<String>,
}

impl Conditions {
    /// Reads the conditions from header fields. Repeated fields become one list (section 5.3).
    pub fn read<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut conditions = Self::default();
        for (name, value) in fields {
            let field = match () {
                () if name.eq_ignore_ascii_case("range") => &mut conditions.range,
                () if name.eq_ignore_ascii_case("if-range") => &mut conditions.if_range,
                () if name.eq_ignore_ascii_case("if-match") => &mut conditions.if_match,
                () if name.eq_ignore_ascii_case("if-none-match") => &mut conditions.if_none_match,
                () if name.eq_ignore_ascii_case("if-modified-since") => {
                    &mut conditions.if_modified_since
                }
                () if name.eq_ignore_ascii_case("if-unmodified-since") => {
                    &mut conditions.if_unmodified_since
                }
                () => continue,
            };
            // a tag that is not UTF-8 was not created by this server, and matches nothing
            let value = String::from_utf8_lossy(value);
            match field {
                Some(before) => *before = format!("{before}, {value}"),
                None => *field = Some(value.into_owned()),
            }
        }
        conditions
    }

    /// Reads the conditions from the headers of a request.
    #[must_use]
    pub fn of(headers: &axum::http::HeaderMap) -> Self {
        Self::read(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
    }
}

/// The validators of a representation, with which conditions are compared.
#[derive(Clone, Copy, Debug)]
pub struct Validators<'a> {
    /// `ETag`, with its quotes.
    pub etag: &'a str,
    /// `Last-Modified`; `None` if the response has no such header.
    pub modified: Option<SystemTime>,
    /// Length in bytes; while it is unknown, ranges are ignored.
    pub len: Option<u64>,
}

/// The status of a response to a GET or HEAD request, and the bytes to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// 200: all bytes.
    Whole,
    /// 206: the bytes from the first offset up to, but not including, the second.
    Part(u64, u64),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    Unsatisfiable,
}

impl Selection {
    /// Returns the status of the response.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Whole => 200,
            Self::Part(..) => 206,
            Self::NotModified => 304,
            Self::PreconditionFailed => 412,
            Self::Unsatisfiable => 416,
        }
    }

    /// Returns the value of `Content-Range` for a representation of `len` bytes.
    #[must_use]
    pub fn content_range(self, len: u64) -> Option<String> {
        match self {
            Self::Part(start, end) => Some(format!("bytes {start}-{}/{len}", end - 1)),
            Self::Unsatisfiable => Some(format!("bytes */{len}")),
            _ => None,
        }
    }
}

/// Decides what to send, in the order of section 13.2.2. `Range` applies only to GET.
#[must_use]
pub fn select(conditions: &Conditions, is_head: bool, current: &Validators<'_>) -> Selection {
    let modified = current.modified.map(whole_second);
    let is_unchanged = match (&conditions.if_match, &conditions.if_unmodified_since) {
        (Some(tags), _) => {
            tags_of(tags).any(|tag| tag == "*" || is_strongly_same(tag, current.etag))
        }
        (None, Some(date)) => match (parse_date(date), modified) {
            (Some(date), Some(modified)) => modified <= date,
            // an invalid date is ignored, and so is any date if the representation has none
            _ => true,
        },
        (None, None) => true,
    };
    if !is_unchanged {
        return Selection::PreconditionFailed;
    }
    let client_has_it = match (&conditions.if_none_match, &conditions.if_modified_since) {
        (Some(tags), _) => tags_of(tags).any(|tag| tag == "*" || is_weakly_same(tag, current.etag)),
        (None, Some(date)) => {
            parse_date(date).zip(modified).is_some_and(|(date, modified)| modified <= date)
        }
        (None, None) => false,
    };
    if client_has_it {
        return Selection::NotModified;
    }
    let (Some(range), Some(len), false) = (&conditions.range, current.len, is_head) else {
        return Selection::Whole;
    };
    // otherwise the client would append a part of another version to the bytes it already has
    let is_same_version =
        conditions.if_range.as_deref().is_none_or(|validator| match validator.trim() {
            tag if tag.starts_with('"') || tag.starts_with("W/") => {
                is_strongly_same(tag, current.etag)
            }
            date => parse_date(date).zip(modified).is_some_and(|(date, modified)| date == modified),
        });
    if is_same_version { parse_range(range, len) } else { Selection::Whole }
}

/// Returns the entity tags of a list. A tag may contain a comma.
fn tags_of(list: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let is_end = move |c: char| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    };
    list.split(is_end).map(str::trim).filter(|tag| !tag.is_empty())
}

fn is_strongly_same(tag: &str, etag: &str) -> bool {
    tag == etag && !etag.starts_with("W/")
}

fn is_weakly_same(tag: &str, etag: &str) -> bool {
    tag.strip_prefix("W/").unwrap_or(tag) == etag.strip_prefix("W/").unwrap_or(etag)
}

fn parse_date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text.trim()).ok()
}

/// Dates in HTTP have whole seconds.
fn whole_second(time: SystemTime) -> SystemTime {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Parses a single byte range. Ignores everything else, as section 14.2 allows: several ranges,
/// other units, invalid ranges.
fn parse_range(text: &str, len: u64) -> Selection {
    let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    let single = |text: &'_ str| -> Option<(u64, u64)> {
        let (unit, range) = text.trim().split_once('=')?;
        let (first, last) = range.split_once('-').filter(|_| unit.eq_ignore_ascii_case("bytes"))?;
        match (first.trim(), last.trim()) {
            ("", last) => {
                number(last).map(|n| (len.saturating_sub(n), if n == 0 { 0 } else { len }))
            }
            (first, "") => number(first).map(|first| (first, len)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then(|| (first, last.saturating_add(1).min(len)))
            }
        }
    };
    match single(text) {
        Some((start, end)) if start < end => Selection::Part(start, end),
        Some(_) => Selection::Unsatisfiable,
        None => Selection::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn selected(fields: &[(&str, &str)]) -> Selection {
        let conditions =
            Conditions::read(fields.iter().map(|(name, value)| (*name, value.as_bytes())));
        let modified = UNIX_EPOCH + Duration::new(784_111_777, 500_000_000);
        select(
            &conditions,
            false,
            &Validators { etag: "\"a,b\"", modified: Some(modified), len: Some(10) },
        )
    }

    #[test]
    fn ranges_are_parsed_as_the_standard_says() {
        for (text, range) in [
            ("bytes=0-0", Selection::Part(0, 1)),
            ("bytes=5-", Selection::Part(5, 10)),
            ("BYTES=5-99", Selection::Part(5, 10)),
            ("bytes=-3", Selection::Part(7, 10)),
            ("bytes=-99", Selection::Part(0, 10)),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=10-", Selection::Unsatisfiable),
            ("bytes=9-10", Selection::Part(9, 10)),
            ("bytes=5-4", Selection::Whole),
            ("bytes=0-1,3-4", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("bytes=a-", Selection::Whole),
            ("items=0-1", Selection::Whole),
            ("bytes", Selection::Whole),
            ("bytes=+1-2", Selection::Whole),
            ("bytes=18446744073709551615-", Selection::Unsatisfiable),
        ] {
            assert_eq!(selected(&[("Range", text)]), range, "{text}");
            assert_eq!(selected(&[("range", text), ("If-Range", "\"a,b\"")]), range, "{text}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(selected(&[("range", "bytes=0-0"), ("range", "bytes=2-3")]), Selection::Whole);
    }

    #[test]
    fn a_part_is_sent_only_of_the_version_that_the_client_has() {
        let range = ("Range", "bytes=5-");
        for same in ["\"a,b\"", DATE] {
            assert_eq!(selected(&[range, ("If-Range", same)]), Selection::Part(5, 10), "{same}");
        }
        for other in
            ["\"b\"", "W/\"a,b\"", "a,b", "*", "", LATER, EARLIER, "yesterday", "\"a,b\", \"b\""]
        {
            assert_eq!(selected(&[range, ("If-Range", other)]), Selection::Whole, "{other}");
        }
        // a range past the end of a shorter version is not an error either
        assert_eq!(selected(&[("Range", "bytes=20-"), ("If-Range", "\"b\"")]), Selection::Whole);
    }

    #[test]
    fn conditions_are_evaluated_in_the_order_of_the_standard() {
        use Selection::{NotModified, PreconditionFailed, Whole};
        for (fields, expected) in [
            (&[("If-None-Match", "\"a,b\"")][..], NotModified),
            (&[("If-None-Match", "\"x\", W/\"a,b\"")], NotModified),
            (&[("If-None-Match", "\"x\""), ("if-none-match", "\"a,b\"")], NotModified),
            (&[("If-None-Match", "*")], NotModified),
            (&[("If-None-Match", "\"a\"")], Whole),
            (&[("If-None-Match", "\"a\""), ("If-Modified-Since", LATER)], Whole),
            (&[("If-Modified-Since", DATE)], NotModified),
            (&[("If-Modified-Since", LATER)], NotModified),
            (&[("If-Modified-Since", EARLIER)], Whole),
            (&[("If-Modified-Since", "yesterday")], Whole),
            (&[("If-Match", "\"a,b\"")], Whole),
            (&[("If-Match", "*")], Whole),
            (&[("If-Match", "W/\"a,b\"")], PreconditionFailed),
            (&[("If-Match", "\"x\""), ("If-None-Match", "\"a,b\"")], PreconditionFailed),
            (&[("If-Match", "\"a,b\""), ("If-Unmodified-Since", EARLIER)], Whole),
            (&[("If-Unmodified-Since", DATE)], Whole),
            (&[("If-Unmodified-Since", EARLIER), ("Range", "bytes=0-1")], PreconditionFailed),
            (&[("If-Unmodified-Since", "yesterday")], Whole),
            (&[("If-None-Match", "\"a,b\""), ("Range", "bytes=20-")], NotModified),
        ] {
            assert_eq!(selected(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn head_and_an_unknown_length_have_no_ranges() {
        let conditions = Conditions::read([("range", &b"bytes=20-"[..])].into_iter());
        let known = Validators { etag: "\"a\"", modified: None, len: Some(10) };
        assert_eq!(select(&conditions, true, &known), Selection::Whole);
        assert_eq!(
            select(&conditions, false, &Validators { len: None, ..known }),
            Selection::Whole
        );
        assert_eq!(
            select(&conditions, false, &known).content_range(10).as_deref(),
            Some("bytes */10")
        );
    }

    #[test]
    fn a_weak_tag_never_joins_two_parts() {
        let fields = [("range", &b"bytes=5-"[..]), ("if-range", b"W/\"a\"")];
        let weak = Validators { etag: "W/\"a\"", modified: None, len: Some(10) };
        assert_eq!(select(&Conditions::read(fields.into_iter()), false, &weak), Selection::Whole);
    }

    proptest::proptest! {
        #[test]
        fn every_selection_is_within_the_representation(
            range in "(bytes=)?[0-9,-]{0,24}|\\PC{0,20}",
            validator in "(W/)?\"[ab]\"|\\PC{0,20}|Sun, 06 Nov 1994 08:49:3[0-9] GMT",
            name in "if-range|if-match|if-none-match|if-modified-since|if-unmodified-since",
            len in 0..u64::MAX,
            is_head: bool,
        ) {
            let fields = [("range", range.as_bytes()), (name.as_str(), validator.as_bytes())];
            let conditions = Conditions::read(fields.into_iter());
            let current = Validators { etag: "\"a\"", modified: None, len: Some(len) };
            let selection = select(&conditions, is_head, &current);
            if let Selection::Part(start, end) = selection {
                proptest::prop_assert!(!is_head && start < end && end <= len);
                let is_same = name != "if-range" || validator.trim() == current.etag;
                proptest::prop_assert!(is_same, "a part of another version");
            }
            proptest::prop_assert_eq!(selection == Selection::NotModified && name == "if-range", false);
        }

        #[test]
        fn a_range_selects_the_bytes_that_slicing_selects(len in 0..200_u64, first in 0..250_u64, last in 0..250_u64) {
            let body: Vec<u64> = (0..len).collect();
            let expected: Vec<u64> = body.iter().copied().filter(|n| (first..=last).contains(n)).collect();
            match parse_range(&format!("bytes={first}-{last}"), len) {
                Selection::Part(start, end) => proptest::prop_assert_eq!((start..end).collect::<Vec<_>>(), expected),
                Selection::Whole => proptest::prop_assert!(first > last),
                other => proptest::prop_assert!(expected.is_empty() && other == Selection::Unsatisfiable),
            }
        }
    }
}
