//! What the cache host answers to a request for an object.

use std::fs::File;
use std::sync::Arc;

use bty::Digest;
use url::form_urlencoded;

use super::address::Address;
use super::object::Fill;
use super::{Cache, Lookup};
use crate::conditional::{Conditions, Selection, Validators, select};
use crate::domain::error::{Error, ErrorKind, Result};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Ask<'a> {
    /// The path, `/b/<address>/<name>` or `/blob`.
    pub path: &'a str,
    /// What follows the `?`.
    pub query: &'a str,
    /// Only the head.
    pub is_head: bool,
    /// The conditions of the request.
    pub conditions: Conditions,
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
    _served: Lookup,
}

impl Body {
    /// Waits until the byte at `offset` is there; gives where what is there ends. `offset` itself
    /// is the end of the object.
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
        return head(cache, &address, expected, &ask.conditions);
    }
    let served = cache.get(&address, expected).await?;
    let how = match &served {
        Lookup::Whole { is_stale: false, .. } => "hit",
        Lookup::Whole { is_stale: true, .. } => "stale",
        Lookup::Filling(_) => "filling",
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
        None => field("url")
            .ok_or_else(|| Error::new(ErrorKind::Malformed, "/blob needs ?url="))?
            .parse()?,
    };
    let wrong = |e: bty::Error| Error::new(ErrorKind::Malformed, format!("sha256: {e}"));
    let expected = field("sha256")
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(wrong))
        .transpose()?;
    Ok((address, expected))
}

/// What is known, without waiting for anybody. What is not there is fetched for who comes later.
fn head(
    cache: &Arc<Cache>,
    address: &Address,
    expected: Option<Digest>,
    conditions: &Conditions,
) -> Result<Answer> {
    let found = cache.lookup(address)?;
    let is_other = |digest: Digest| expected.is_some_and(|expected| expected != digest);
    match found {
        Some(Lookup::Whole { object, .. }) if !is_other(object.facts.sha256) => {
            let facts = &object.facts;
            let current =
                Validators { etag: &facts.etag, modified: None, len: Some(facts.size_bytes) };
            Ok(Answer::selected(
                select(conditions, true, &current),
                "hit",
                &current,
                Some(facts.sha256),
            ))
        }
        Some(Lookup::Filling(fill)) => {
            let Some(opened) = fill.opened() else { return Ok(Answer::new(200, "filling")) };
            let current = Validators { etag: &opened.etag, modified: None, len: opened.len_bytes };
            Ok(Answer::selected(select(conditions, true, &current), "filling", &current, None))
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

async fn whole(
    served: Lookup,
    ask: &Ask<'_>,
    expected: Option<Digest>,
    how: &str,
) -> Result<Answer> {
    let (etag, sha256, len_bytes, file, fill) = match &served {
        Lookup::Whole { object, file, .. } => {
            let facts = &object.facts;
            (facts.etag.clone(), Some(facts.sha256), Some(facts.size_bytes), Arc::clone(file), None)
        }
        Lookup::Filling(fill) => {
            let opened = fill.wait_opened().await?;
            (opened.etag, None, opened.len_bytes, opened.file, Some(Arc::clone(fill)))
        }
    };
    let current = Validators { etag: &etag, modified: None, len: len_bytes };
    let selection = select(&ask.conditions, false, &current);
    let mut answer = Answer::selected(selection, how, &current, sha256);
    let (start, end) = match selection {
        Selection::Whole => (0, len_bytes),
        Selection::Part(start, end) => (start, Some(end)),
        _ => return Ok(answer),
    };
    answer.payload = Payload::Bytes(Body { file, start, end, fill, expected, _served: served });
    Ok(answer)
}

impl Answer {
    fn new(status: u16, how: &str) -> Self {
        let headers = vec![("x-cache", how.to_owned()), ("cache-control", "no-cache".to_owned())];
        Self { status, headers, payload: Payload::Text(String::new()) }
    }

    /// The head of the answer with `selection` of an object.
    fn selected(
        selection: Selection,
        how: &str,
        current: &Validators<'_>,
        sha256: Option<Digest>,
    ) -> Self {
        let mut answer = Self::new(selection.status(), how);
        let mut set = |name, value: String| answer.headers.push((name, value));
        set("etag", current.etag.to_owned());
        if let Some(value) = current.len.and_then(|len| selection.content_range(len)) {
            set("content-range", value);
        }
        let sent = match selection {
            Selection::Whole => current.len,
            Selection::Part(start, end) => Some(end - start),
            _ => return answer,
        };
        set("content-type", "application/octet-stream".into());
        if let Some(digest) = sha256 {
            set("x-withcache-sha256", digest.to_string());
        }
        if let Some(len) = sent {
            set("accept-ranges", "bytes".into());
            set("content-length", len.to_string());
        }
        answer
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
    if matches!(error.kind, ErrorKind::Internal | ErrorKind::Full) {
        tracing::error!(%error, "a request to the cache failed");
    }
    let mut answer = Answer::new(error.kind.status().as_u16(), "refused");
    answer.headers.push(("content-type", "application/json".into()));
    answer.headers.extend(error.retry_after.map(|seconds| ("retry-after", seconds.to_string())));
    answer.payload = Payload::Text(serde_json::json!({ "detail": error.detail }).to_string());
    answer
}
