//! Small messages to and from a server: one request, one whole answer.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use url::Url;

use crate::client::{Client, reach};
use crate::source::http::origin::shown;
use crate::{CancelToken, Error, ErrorKind, Result, redact};

/// A request to the host that its address names. Redirects are not followed: they are answers like others.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request<'a> {
    /// `http://` or `https://`.
    pub url: &'a str,
    /// What is wanted, as of the `Accept` header.
    pub accept: &'a str,
    /// Type and bytes to send; the request is then a POST, else a GET.
    pub body: Option<(&'a str, Vec<u8>)>,
    /// The answer must come within so much time, all of it.
    pub timeout: Duration,
    /// An answer with more bytes is an error.
    pub limit_bytes: usize,
}

impl<'a> Request<'a> {
    /// A GET of anything at `url`, answered within 30 s by at most 4 MiB.
    #[must_use]
    pub fn get(url: &'a str) -> Self {
        Self { url, accept: "*/*", body: None, timeout: Duration::from_secs(30), limit_bytes: 4 << 20 }
    }

    /// A POST of JSON to `url`, with the same limits.
    #[must_use]
    pub fn post_json(url: &'a str, json: &serde_json::Value) -> Self {
        Self {
            accept: "application/json",
            body: Some(("application/json", json.to_string().into_bytes())),
            ..Self::get(url)
        }
    }
}

/// An answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type`, without parameters, in lower case.
    pub content_type: Option<String>,
    /// All of the body.
    pub body: Vec<u8>,
}

impl Reply {
    /// An answer that nobody gave: for dry runs.
    #[must_use]
    pub fn json_of(status: u16, json: &serde_json::Value) -> Self {
        Self { status, content_type: Some("application/json".into()), body: json.to_string().into_bytes() }
    }

    /// True for a status of 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Source`] when it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .map_err(|e| Error::new(ErrorKind::Source, "the answer is no JSON").because(e))
    }

    /// The first line of the body as text, for messages.
    #[must_use]
    pub fn excerpt(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(120).collect()
    }
}

impl Client {
    /// Sends `request` once, and waits for all of the answer. Whether it is sent again after a fault is for the caller to decide.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the address is none; [`ErrorKind::Source`] when nobody answers, or too late, or with too much.
    /// An answer with any status is no error.
    pub fn exchange(&self, request: &Request<'_>, cancel: &CancelToken) -> Result<Reply> {
        let url =
            Url::parse(request.url).ok().filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(|| {
                Error::new(ErrorKind::Usage, format!("{:?} is no address of a server", redact::address(request.url)))
                    .hint("write http://HOST/PATH or https://HOST/PATH")
            })?;
        let shown = shown(&url);
        reach::check_literal(self.options.may_reach.as_ref(), &url)
            .map_err(|refused| Error::new(ErrorKind::Source, refused.to_string()).with_path(&shown))?;
        let online = self.net.online()?;
        let method = if request.body.is_some() { Method::POST } else { Method::GET };
        let mut builder = online.http().direct.request(method, url.clone());
        builder = builder.header(ACCEPT, request.accept).timeout(request.timeout);
        if let Some((kind, body)) = &request.body {
            builder = builder.header(CONTENT_TYPE, *kind).body(body.clone());
        }
        let limit = request.limit_bytes;
        let failed = move |why: &str, e: Option<reqwest::Error>| {
            let error = Error::new(ErrorKind::Source, format!("{why} {shown}")).with_path(&shown);
            match e {
                Some(e) => error.because(e.without_url()),
                None => error,
            }
        };
        online.run(
            async move {
                let mut response = builder.send().await.map_err(|e| failed("asking", Some(e)))?;
                let content_type = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
                let content_type =
                    content_type.map(|v| v.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
                let mut body = Vec::new();
                while let Some(chunk) = response.chunk().await.map_err(|e| failed("reading the answer of", Some(e)))? {
                    if body.len() + chunk.len() > limit {
                        return Err(failed("too much was answered by", None));
                    }
                    body.extend_from_slice(&chunk);
                }
                Ok(Reply { status: response.status().as_u16(), content_type, body })
            },
            cancel,
        )
    }
}
