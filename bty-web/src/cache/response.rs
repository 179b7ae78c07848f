//! Requests for objects over HTTP, and the responses to them, independent of a connection. The code
//! that handles the connection sends the head and then the bytes of the file.

use std::any::Any;
use std::fs::File;
use std::sync::Arc;

use bty::Digest;
use url::form_urlencoded;

use super::address::Address;
use super::fill::Fill;
use super::lookup::{Lookup, PackedFile};
use crate::conditional::{Conditions, Selection, Validators, select};
use crate::domain::error::{Error, ErrorKind, Result};

/// Header with the SHA-256 of the index of an object's packed form.
pub const PACKED_INDEX_HEADER: &str = "x-packed-index-sha256";

/// A GET or HEAD request for an object.
#[derive(Clone, Debug, Default)]
pub struct BlobRequest<'a> {
    /// Path of the URL: `/b/<address>/<name>` or `/blob`.
    pub path: &'a str,
    /// Query of the URL, without the `?`.
    pub query: &'a str,
    /// True for HEAD requests, whose response has no body.
    pub is_head: bool,
    /// Its conditional headers, and `Range`.
    pub conditions: Conditions,
}

impl BlobRequest<'_> {
    /// Returns the URL at the origin, and the digest that the client expects.
    pub(super) fn target(&self) -> Result<(Address, Option<Digest>)> {
        let field = |name: &str| {
            let mut fields = form_urlencoded::parse(self.query.as_bytes());
            fields.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
        };
        let address = match self.path.strip_prefix("/b/") {
            Some(rest) => Address::decode(rest.split('/').next().unwrap_or_default())?,
            None => field("url")
                .ok_or_else(|| Error::new(ErrorKind::Malformed, "/blob needs ?url="))?
                .parse()?,
        };
        let malformed = |e: bty::Error| Error::new(ErrorKind::Malformed, format!("sha256: {e:#}"));
        let expected = field("sha256")
            .filter(|text| !text.is_empty())
            .map(|text| text.parse().map_err(malformed))
            .transpose()?;
        Ok((address, expected))
    }
}

/// A response: its head, and the location of its body.
pub struct BlobResponse {
    /// HTTP status code.
    pub status: u16,
    /// Headers, except `Connection` and `Transfer-Encoding`, which the HTTP library adds.
    pub headers: Vec<(&'static str, String)>,
    /// Where the body comes from.
    pub payload: Payload,
}

/// The body of a response.
pub enum Payload {
    /// A short text; empty for responses without a body.
    Text(String),
    /// Bytes of an object.
    Bytes(BlobBody),
}

/// A byte range of an object, which may still be filling.
#[derive(Clone)]
pub struct BlobBody {
    /// The file with the bytes.
    pub file: Arc<File>,
    /// Offset of the first byte.
    pub start: u64,
    /// Offset after the last byte; `None` if the length is not yet known.
    pub end: Option<u64>,
    fill: Option<Arc<Fill>>,
    expected: Option<Digest>,
    /// Keeps the object from being evicted.
    _kept: Arc<dyn Any + Send + Sync>,
}

impl BlobBody {
    /// Waits until the byte at `offset` is in the file. Returns the end of the readable bytes;
    /// `offset` itself if the object ends there.
    ///
    /// # Errors
    /// The errors of [`Fill::wait_for`]. The response must then not look complete to the client.
    pub async fn readable(&self, offset: u64) -> Result<u64> {
        match (&self.fill, self.end) {
            (Some(fill), end) => {
                let readable = fill.wait_for(offset, self.expected).await?;
                Ok(end.map_or(readable, |end| end.min(readable)))
            }
            (None, Some(end)) => Ok(end),
            (None, None) => Err(Error::internal("a complete object without a length")),
        }
    }
}

impl BlobResponse {
    /// Creates a response without a body; `outcome` is the value of `X-Cache`.
    pub(super) fn empty(status: u16, outcome: &str) -> Self {
        let headers =
            vec![("x-cache", outcome.to_owned()), ("cache-control", "no-cache".to_owned())];
        Self { status, headers, payload: Payload::Text(String::new()) }
    }

    pub(super) fn refused(error: &Error) -> Self {
        if matches!(error.kind, ErrorKind::Internal | ErrorKind::Full) {
            tracing::error!(%error, "a request to the cache failed");
        }
        let mut response = Self::empty(error.kind.status().as_u16(), "refused");
        response.headers.push(("content-type", "application/json".into()));
        let retry_after = error.retry_after.map(|seconds| ("retry-after", seconds.to_string()));
        response.headers.extend(retry_after);
        response.payload = Payload::Text(serde_json::json!({ "detail": error.detail }).to_string());
        response
    }

    /// Creates the response to HEAD for `found`. Does not wait for the origin.
    pub(super) fn head(found: &Lookup, conditions: &Conditions) -> Self {
        match found {
            Lookup::Whole { object, .. } => {
                let record = &object.record;
                let current =
                    Validators { etag: &record.etag, modified: None, len: Some(record.size_bytes) };
                let selection = select(conditions, true, &current);
                Self::selected(selection, "hit", &current, Some(record.sha256))
            }
            Lookup::Filling(fill) => {
                let Some(head) = fill.head() else { return Self::empty(200, "filling") };
                let current = Validators { etag: &head.etag, modified: None, len: head.len_bytes };
                Self::selected(select(conditions, true, &current), "filling", &current, None)
            }
        }
    }

    /// Creates the response to GET for `found`. Waits until the origin has responded.
    pub(super) async fn get(
        found: Lookup,
        conditions: &Conditions,
        expected: Option<Digest>,
    ) -> Result<Self> {
        let outcome = match &found {
            Lookup::Whole { is_stale: false, .. } => "hit",
            Lookup::Whole { is_stale: true, .. } => "stale",
            Lookup::Filling(_) => "filling",
        };
        let (etag, sha256, len_bytes, file, fill) = match &found {
            Lookup::Whole { object, file, .. } => {
                let record = &object.record;
                let etag = record.etag.clone();
                (etag, Some(record.sha256), Some(record.size_bytes), Arc::clone(file), None)
            }
            Lookup::Filling(fill) => {
                let head = fill.wait_for_head().await?;
                (head.etag, None, head.len_bytes, head.file, Some(Arc::clone(fill)))
            }
        };
        let current = Validators { etag: &etag, modified: None, len: len_bytes };
        let selection = select(conditions, false, &current);
        let mut response = Self::selected(selection, outcome, &current, sha256);
        let (start, end) = match selection {
            Selection::Whole => (0, len_bytes),
            Selection::Part(start, end) => (start, Some(end)),
            _ => return Ok(response),
        };
        response.payload =
            Payload::Bytes(BlobBody { file, start, end, fill, expected, _kept: Arc::new(found) });
        Ok(response)
    }

    /// Creates the response to GET or HEAD for a packed form.
    pub(super) fn packed(found: PackedFile, is_head: bool, conditions: &Conditions) -> Self {
        let len = found.size_bytes;
        let current = Validators { etag: &found.etag, modified: None, len: Some(len) };
        let selection = select(conditions, is_head, &current);
        let mut response = Self::selected(selection, "hit", &current, None);
        response.add_packed_index(found.index_sha256);
        let (start, end) = match selection {
            _ if is_head => return response,
            Selection::Whole => (0, len),
            Selection::Part(start, end) => (start, end),
            _ => return response,
        };
        response.payload = Payload::Bytes(BlobBody {
            file: found.file,
            start,
            end: Some(end),
            fill: None,
            expected: None,
            _kept: Arc::new(found.kept),
        });
        response
    }

    /// Adds the header that says that there is a packed form, whose index has this digest.
    pub(super) fn add_packed_index(&mut self, index_sha256: Digest) {
        self.headers.push((PACKED_INDEX_HEADER, index_sha256.to_string()));
    }

    /// Creates the head of a response with `selection` of an object.
    fn selected(
        selection: Selection,
        outcome: &str,
        current: &Validators<'_>,
        sha256: Option<Digest>,
    ) -> Self {
        let mut response = Self::empty(selection.status(), outcome);
        let mut set = |name, value: String| response.headers.push((name, value));
        set("etag", current.etag.to_owned());
        if let Some(value) = current.len.and_then(|len| selection.content_range(len)) {
            set("content-range", value);
        }
        let sent = match selection {
            Selection::Whole => current.len,
            Selection::Part(start, end) => Some(end - start),
            _ => return response,
        };
        set("content-type", "application/octet-stream".into());
        if let Some(digest) = sha256 {
            set("x-withcache-sha256", digest.to_string());
        }
        if let Some(len) = sent {
            set("accept-ranges", "bytes".into());
            set("content-length", len.to_string());
        }
        response
    }

    /// Returns the length of the body in bytes; `None` if it is not yet known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match &self.payload {
            Payload::Text(text) => Some(text.len() as u64),
            Payload::Bytes(body) => body.end.map(|end| end - body.start),
        }
    }
}
