//! Small messages to and from a server: one request, one response read as a whole.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use url::Url;

use crate::client::Client;
use crate::setters::setters;
use crate::transport::address_policy;
use crate::transport::body::{self, BodyError};
use crate::transport::network::NetworkRuntime;
use crate::{CancelToken, Error, ErrorKind, Result, redact};

/// A request for [`Client::exchange`]. Redirects are not followed; they are returned as replies.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request<'a> {
    /// An address that begins with `http://` or `https://`.
    pub url: &'a str,
    /// Value of the `Accept` header.
    pub accept: &'a str,
    /// The method in upper case. `None` means POST with a body, and GET without.
    pub method: Option<&'a str>,
    /// Additional headers; names in lower case.
    pub headers: Vec<(&'a str, String)>,
    /// `Content-Type` and bytes of the body.
    pub body: Option<(&'a str, Vec<u8>)>,
    /// Time limit for the whole exchange, body included.
    pub timeout: Duration,
    /// Maximum size of the reply's body in bytes; a larger one is an error.
    pub limit_bytes: usize,
}

impl<'a> Request<'a> {
    /// A GET request for any media type, with limits of 30 s and 4 MiB.
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

    /// A POST request with a JSON body, that accepts JSON, with limits of 30 s and 4 MiB.
    #[must_use]
    pub fn post_json(url: &'a str, json: &serde_json::Value) -> Self {
        Self {
            accept: "application/json",
            body: Some(("application/json", json.to_string().into_bytes())),
            ..Self::get(url)
        }
    }
}

setters! {
    Request<'a> {
        accept: &'a str,
        method: impl Into<Option<&'a str>>,
        headers: Vec<(&'a str, String)>,
        body: impl Into<Option<(&'a str, Vec<u8>)>>,
        timeout: Duration,
        limit_bytes: usize,
    }
}

/// A response with any status.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// Status code, such as 404.
    pub status: u16,
    /// The `Content-Type`, without parameters, in lower case.
    pub content_type: Option<String>,
    /// The headers whose values are text; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body, as received.
    pub body: Vec<u8>,
}

impl Reply {
    /// Simulates a reply with a JSON body, for dry runs.
    #[must_use]
    pub fn simulated(status: u16, json: &serde_json::Value) -> Self {
        Self {
            status,
            content_type: Some("application/json".into()),
            headers: Vec::new(),
            body: json.to_string().into_bytes(),
        }
    }

    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// True if the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Source`] when the body is not JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .map_err(|e| Error::new(ErrorKind::Source, "the reply is not JSON").because(e))
    }

    /// The beginning of the body's first line, for messages: at most 120 characters.
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
    /// Sends `request` once, and waits for the whole reply. A reply with any status is a success;
    /// retries are up to the caller.
    ///
    /// # Errors
    /// - [`ErrorKind::Usage`]: the URL or the method is malformed.
    /// - [`ErrorKind::Source`]: the server does not answer within the limits, or
    ///   [`may_reach`](crate::ClientOptions::may_reach) forbids its address.
    /// - [`ErrorKind::Host`]: the network threads cannot be started.
    pub fn exchange(&self, request: &Request<'_>, cancel: &CancelToken) -> Result<Reply> {
        let (runtime, exchange) = self.prepare(request)?;
        runtime.run(exchange, cancel)
    }

    /// Like [`exchange`](Self::exchange), for programs with an async runtime of their own. The
    /// exchange runs on the client's threads, and is aborted when the future is dropped.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    pub async fn exchange_async(&self, request: &Request<'_>) -> Result<Reply> {
        let (runtime, exchange) = self.prepare(request)?;
        let mut task = AbortOnDrop(runtime.spawn(exchange));
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
    ) -> Result<(Arc<NetworkRuntime>, impl Future<Output = Result<Reply>> + Send + use<>)> {
        let url = Url::parse(request.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Usage,
                    format!(
                        "{:?} is not an http:// or https:// address",
                        redact::address(request.url)
                    ),
                )
                .hint("write http://HOST/PATH or https://HOST/PATH")
            })?;
        let shown = redact::url(&url).to_string();
        address_policy::check_literal(self.options.may_reach.as_ref(), &url).map_err(
            |refused| Error::new(ErrorKind::Source, refused.to_string()).with_path(&shown),
        )?;
        let runtime = self.network.runtime()?;
        let default = if request.body.is_some() { "POST" } else { "GET" };
        let method = request.method.unwrap_or(default);
        let method = Method::from_bytes(method.as_bytes()).map_err(|e| {
            Error::new(ErrorKind::Usage, format!("{method:?} is not an HTTP method")).because(e)
        })?;
        let mut builder = runtime.http().for_url(&url).request(method, url);
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
            let mut response =
                builder.send().await.map_err(|e| failed("sending a request to", Some(e)))?;
            let body =
                body::read(&mut response, limit, timeout).await.map_err(
                    |failure| match failure {
                        BodyError::Broken(e) => failed("reading the reply of", Some(e)),
                        BodyError::Late(_) | BodyError::Stalled(_) => {
                            failed("no complete reply in time from", None)
                        }
                        BodyError::TooLarge(_) => failed("too large a reply from", None),
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
        Ok((runtime, exchange))
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<Result<Reply>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
