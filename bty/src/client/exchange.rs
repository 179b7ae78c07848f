//! Small messages to and from a server: one request, one whole answer.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use url::Url;

use crate::client::body::{self, Failure};
use crate::client::net::Online;
use crate::client::{Client, address_policy};
use crate::source::http::origin::shown;
use crate::{CancelToken, Error, ErrorKind, Result, redact};

/// A request to the host that its address names. Redirects are not followed: they are answers like
/// others.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request<'a> {
    /// `http://` or `https://`.
    pub url: &'a str,
    /// What is wanted, as of the `Accept` header.
    pub accept: &'a str,
    /// The method in capitals; none for a POST when there is a body, else for a GET.
    pub method: Option<&'a str>,
    /// Further headers, each with its name in lower case.
    pub headers: Vec<(&'a str, String)>,
    /// Type and bytes to send.
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
        Self {
            url,
            accept: "*/*",
            method: None,
            headers: Vec::new(),
            body: None,
            timeout: Duration::from_secs(30),
            limit_bytes: 4 << 20,
        }
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
    /// The headers, names in lower case, as far as they are text.
    pub headers: Vec<(String, String)>,
    /// All of the body.
    pub body: Vec<u8>,
}

impl Reply {
    /// An answer that nobody gave: for dry runs.
    #[must_use]
    pub fn json_of(status: u16, json: &serde_json::Value) -> Self {
        Self {
            status,
            content_type: Some("application/json".into()),
            headers: Vec::new(),
            body: json.to_string().into_bytes(),
        }
    }

    /// A header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
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
        text.lines()
            .next()
            .unwrap_or_default()
            .chars()
            .filter(|c| !c.is_control())
            .take(120)
            .collect()
    }
}

impl Client {
    /// Sends `request` once, and waits for all of the answer. Whether it is sent again after a
    /// fault is for the caller to decide.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the address is none; [`ErrorKind::Source`] when nobody answers, or
    /// too late, or with too much. An answer with any status is no error.
    pub fn exchange(&self, request: &Request<'_>, cancel: &CancelToken) -> Result<Reply> {
        let (online, exchange) = self.prepare(request)?;
        online.run(exchange, cancel)
    }

    /// The same for programs with a runtime of their own: the exchange runs on the client's
    /// threads, and ends when the future is dropped.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    pub async fn exchange_async(&self, request: &Request<'_>) -> Result<Reply> {
        let (online, exchange) = self.prepare(request)?;
        let mut task = AbortOnDrop(online.spawn(exchange));
        match (&mut task.0).await {
            Ok(result) => result,
            Err(e) => {
                Err(Error::new(ErrorKind::Host, "a network task ended unexpectedly").because(e))
            }
        }
    }

    fn prepare(
        &self,
        request: &Request<'_>,
    ) -> Result<(Arc<Online>, impl Future<Output = Result<Reply>> + Send + use<>)> {
        let url = Url::parse(request.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Usage,
                    format!("{:?} is no address of a server", redact::address(request.url)),
                )
                .hint("write http://HOST/PATH or https://HOST/PATH")
            })?;
        let shown = shown(&url);
        address_policy::check_literal(self.options.may_reach.as_ref(), &url).map_err(
            |refused| Error::new(ErrorKind::Source, refused.to_string()).with_path(&shown),
        )?;
        let online = self.net.online()?;
        let default = if request.body.is_some() { "POST" } else { "GET" };
        let method = request.method.unwrap_or(default);
        let method = Method::from_bytes(method.as_bytes()).map_err(|e| {
            Error::new(ErrorKind::Usage, format!("{method:?} is no method of HTTP")).because(e)
        })?;
        let mut builder = online.http().client.request(method, url);
        builder = builder.header(ACCEPT, request.accept).timeout(request.timeout);
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some((kind, body)) = &request.body {
            builder = builder.header(CONTENT_TYPE, *kind).body(body.clone());
        }
        let (limit, timeout) = (request.limit_bytes, request.timeout);
        let failed = move |why: &str, e: Option<reqwest::Error>| {
            let error = Error::new(ErrorKind::Source, format!("{why} {shown}")).with_path(&shown);
            match e {
                Some(e) => error.because(e.without_url()),
                None => error,
            }
        };
        let exchange = async move {
            let mut response = builder.send().await.map_err(|e| failed("asking", Some(e)))?;
            let body =
                body::read(&mut response, limit, timeout).await.map_err(
                    |failure| match failure {
                        Failure::Broken(e) => failed("reading the answer of", Some(e)),
                        Failure::Late(_) | Failure::Stalled(_) => {
                            failed("the answer does not come in time from", None)
                        }
                        Failure::TooLarge(_) => failed("too much was answered by", None),
                    },
                )?;
            let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
            let headers = response.headers().iter();
            let headers: Vec<_> = headers
                .filter_map(|(name, value)| Some((name.to_string(), text(value)?)))
                .collect();
            let content_type = headers.iter().find(|(name, _)| name == CONTENT_TYPE.as_str());
            let content_type = content_type
                .map(|(_, v)| v.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
            Ok(Reply { status: response.status().as_u16(), content_type, headers, body })
        };
        Ok((online, exchange))
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<Result<Reply>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
