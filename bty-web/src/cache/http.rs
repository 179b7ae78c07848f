//! What the cache host answers to a request for an object: RFC 9110, sections 13 (conditions) and 14 (ranges).

use std::fs::File;
use std::sync::Arc;

use bty::Digest;
use url::form_urlencoded;

use super::address::Address;
use super::object::Fill;
use super::{Cache, Served};
use crate::error::{Error, ErrorKind, Result};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Ask<'a> {
    /// The path, `/b/<address>/<name>` or `/blob`.
    pub path: &'a str,
    /// What follows the `?`.
    pub query: &'a str,
    /// Only the head.
    pub is_head: bool,
    /// `Range`.
    pub range: Option<&'a str>,
    /// `If-Range`.
    pub if_range: Option<&'a str>,
    /// `If-None-Match`.
    pub if_none_match: Option<&'a str>,
}

/// An answer: the head, and where the body is.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers, without those of the connection.
    pub headers: Vec<(&'static str, String)>,
    /// What is sent.
    pub payload: Payload,
}

/// What is sent.
pub enum Payload {
    /// A text that is here.
    Text(String),
    /// Bytes of an object.
    Bytes(Body),
}

/// Bytes of an object, from `start` to `end`.
#[derive(Clone)]
pub struct Body {
    /// The file that they are in.
    pub file: Arc<File>,
    /// The first one.
    pub start: u64,
    /// One past the last one; none when nobody knows yet.
    pub end: Option<u64>,
    /// Who fills the file.
    fill: Option<Arc<Fill>>,
    expected: Option<Digest>,
    /// Keeps it from being evicted.
    _served: Served,
}

impl Body {
    /// Waits until the byte at `offset` is there; gives where what is there ends. `offset` itself is the end of the object.
    ///
    /// # Errors
    /// When it never will be.
    pub async fn readable(&self, offset: u64) -> Result<u64> {
        match (&self.fill, self.end) {
            (Some(fill), end) => {
                let there = fill.wait_for(offset, self.expected).await?;
                Ok(end.map_or(there, |end| end.min(there)))
            }
            (None, Some(end)) => Ok(end),
            (None, None) => Err(Error::internal("a whole object without a length")),
        }
    }
}

/// True for what [`answer`] answers.
#[must_use]
pub fn is_object(path: &str) -> bool {
    path == "/blob" || path.starts_with("/b/")
}

/// Answers.
pub async fn answer(cache: &Arc<Cache>, ask: &Ask<'_>) -> Answer {
    match try_answer(cache, ask).await {
        Ok(answer) => answer,
        Err(error) => refused(&error),
    }
}

async fn try_answer(cache: &Arc<Cache>, ask: &Ask<'_>) -> Result<Answer> {
    let (address, expected) = target(ask)?;
    if ask.is_head {
        cache.check(&address).await?;
        return head(cache, &address, expected);
    }
    let served = cache.get(&address, expected).await?;
    let how = match &served {
        Served::Whole { is_stale: false, .. } => "hit",
        Served::Whole { is_stale: true, .. } => "stale",
        Served::Filling(_) => "filling",
    };
    whole(served, ask, expected, how).await
}

/// What the path and the query say.
fn target(ask: &Ask<'_>) -> Result<(Address, Option<Digest>)> {
    let field = |name: &str| {
        let mut fields = form_urlencoded::parse(ask.query.as_bytes());
        fields.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    };
    let address = match ask.path.strip_prefix("/b/") {
        Some(rest) => Address::decode(rest.split('/').next().unwrap_or_default())?,
        None => field("url").ok_or_else(|| Error::new(ErrorKind::Malformed, "/blob needs ?url="))?.parse()?,
    };
    let wrong = |e: bty::Error| Error::new(ErrorKind::Malformed, format!("sha256: {e}"));
    let expected =
        field("sha256").filter(|text| !text.is_empty()).map(|text| text.parse().map_err(wrong)).transpose()?;
    Ok((address, expected))
}

/// What is known, without waiting for anybody. What is not there is fetched for who comes later.
fn head(cache: &Arc<Cache>, address: &Address, expected: Option<Digest>) -> Result<Answer> {
    let found = cache.peek(address)?;
    let is_other = |digest: Digest| expected.is_some_and(|expected| expected != digest);
    match found {
        Some(Served::Whole { object, .. }) if !is_other(object.facts.sha256) => {
            let facts = &object.facts;
            let mut answer = Answer::new(200, "hit");
            answer.describe(&facts.etag, Some(facts.sha256), Some(facts.size_bytes));
            Ok(answer)
        }
        Some(Served::Filling(fill)) => {
            let mut answer = Answer::new(200, "filling");
            if let Some(opened) = fill.opened() {
                answer.describe(&opened.etag, None, opened.len_bytes);
            }
            Ok(answer)
        }
        _ if cache.options.is_curated => {
            cache.missed(address);
            Ok(Answer::new(404, "curated"))
        }
        _ => {
            let (cache, address) = (Arc::clone(cache), address.clone());
            tokio::spawn(async move {
                if let Err(error) = cache.get(&address, expected).await {
                    tracing::debug!(%error, %address, "nothing was fetched after a HEAD");
                }
            });
            Ok(Answer::new(404, "miss"))
        }
    }
}

async fn whole(served: Served, ask: &Ask<'_>, expected: Option<Digest>, how: &str) -> Result<Answer> {
    let (etag, sha256, len_bytes, file, fill) = match &served {
        Served::Whole { object, file, .. } => {
            let facts = &object.facts;
            (facts.etag.clone(), Some(facts.sha256), Some(facts.size_bytes), Arc::clone(file), None)
        }
        Served::Filling(fill) => {
            let opened = fill.wait_opened().await?;
            (opened.etag, None, opened.len_bytes, opened.file, Some(Arc::clone(fill)))
        }
    };
    if ask.if_none_match.is_some_and(|tags| tags.split(',').any(|tag| is_same(tag, &etag) || tag.trim() == "*")) {
        let mut answer = Answer::new(304, how);
        answer.headers.push(("etag", etag));
        return Ok(answer);
    }
    // a range of another version would be spliced to what the client has
    let is_current = ask.if_range.is_none_or(|tag| tag.trim() == etag);
    let range = ask.range.filter(|_| is_current).zip(len_bytes).map(|(range, len)| parse_range(range, len));
    let mut answer = Answer::new(200, how);
    let (start, end) = match (range, len_bytes) {
        (Some(Range::Part(start, end)), Some(len)) => {
            answer.status = 206;
            answer.headers.push(("content-range", format!("bytes {start}-{}/{len}", end - 1)));
            answer.describe(&etag, sha256, Some(end - start));
            (start, Some(end))
        }
        (Some(Range::Unsatisfiable), Some(len)) => {
            let mut answer = Answer::new(416, how);
            answer.headers.push(("content-range", format!("bytes */{len}")));
            return Ok(answer);
        }
        (_, len) => {
            answer.describe(&etag, sha256, len);
            (0, len)
        }
    };
    answer.payload = Payload::Bytes(Body { file, start, end, fill, expected, _served: served });
    Ok(answer)
}

fn is_same(tag: &str, etag: &str) -> bool {
    tag.trim().trim_start_matches("W/") == etag
}

/// What a `Range` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    /// One that is not understood, or several: all of it is sent.
    Whole,
    /// From the first to one past the last byte.
    Part(u64, u64),
    /// Nothing of it is there.
    Unsatisfiable,
}

fn parse_range(text: &str, len: u64) -> Range {
    let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    let parts =
        text.trim().strip_prefix("bytes=").filter(|ranges| !ranges.contains(',')).and_then(|r| r.split_once('-'));
    let (start, end) = match parts {
        Some(("", last)) => match number(last.trim()) {
            Some(n) => (len.saturating_sub(n), if n == 0 { 0 } else { len }),
            None => return Range::Whole,
        },
        Some((first, last)) => match (number(first.trim()), last.trim()) {
            (Some(first), "") => (first, len),
            (Some(first), last) => match number(last) {
                Some(last) if last >= first => (first, last.saturating_add(1).min(len)),
                _ => return Range::Whole,
            },
            (None, _) => return Range::Whole,
        },
        None => return Range::Whole,
    };
    if start < end { Range::Part(start, end) } else { Range::Unsatisfiable }
}

impl Answer {
    fn new(status: u16, how: &str) -> Self {
        let headers = vec![("x-cache", how.to_owned()), ("cache-control", "no-cache".to_owned())];
        Self { status, headers, payload: Payload::Text(String::new()) }
    }

    fn describe(&mut self, etag: &str, sha256: Option<Digest>, len_bytes: Option<u64>) {
        self.headers.push(("content-type", "application/octet-stream".into()));
        self.headers.push(("etag", etag.to_owned()));
        self.headers.extend(sha256.map(|digest| ("x-withcache-sha256", digest.to_string())));
        if let Some(len) = len_bytes {
            self.headers.push(("accept-ranges", "bytes".into()));
            self.headers.push(("content-length", len.to_string()));
        }
    }

    /// The length that the head promises.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match &self.payload {
            Payload::Text(text) => Some(text.len() as u64),
            Payload::Bytes(body) => body.end.map(|end| end - body.start),
        }
    }
}

fn refused(error: &Error) -> Answer {
    if error.kind == ErrorKind::Internal {
        tracing::error!(%error, "a request to the cache failed");
    }
    let mut answer = Answer::new(error.kind.status().as_u16(), "refused");
    answer.headers.push(("content-type", "application/json".into()));
    answer.headers.extend(error.retry_after.map(|seconds| ("retry-after", seconds.to_string())));
    answer.payload = Payload::Text(serde_json::json!({ "detail": error.detail }).to_string());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_standard() {
        for (text, range) in [
            ("bytes=0-0", Range::Part(0, 1)),
            ("bytes=5-", Range::Part(5, 10)),
            ("bytes=5-99", Range::Part(5, 10)),
            ("bytes=-3", Range::Part(7, 10)),
            ("bytes=-99", Range::Part(0, 10)),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=10-", Range::Unsatisfiable),
            ("bytes=9-10", Range::Part(9, 10)),
            ("bytes=5-4", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("bytes=a-", Range::Whole),
            ("items=0-1", Range::Whole),
            ("bytes=+1-2", Range::Whole),
            ("bytes=18446744073709551615-", Range::Unsatisfiable),
        ] {
            assert_eq!(parse_range(text, 10), range, "{text}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Range::Unsatisfiable);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_asked_for_is_within_the_object(text in "(bytes=)?[0-9,-]{0,24}|\\PC{0,20}", len in 0..u64::MAX) {
            if let Range::Part(start, end) = parse_range(&text, len) {
                proptest::prop_assert!(start < end && end <= len);
            }
        }
    }
}
