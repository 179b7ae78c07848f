//! An API client, for the commands and the simulated machines.

use std::time::Duration;

use axum::http::Method;
use bty::client::{Reply, Request};
use bty::{Client, ClientOptions};
use serde_json::Value;

use crate::domain::error::{Error, ErrorKind, Problem, Result};

/// Maximum size of a response: lists of machines, images and plans are the largest.
const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// Maximum duration of a request and its response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// A server, with the token for it.
#[derive(Clone)]
pub struct ServerClient {
    /// URL of the server, without a trailing slash.
    pub base: String,
    /// Token of the server; `None` if it has no password.
    pub token: Option<String>,
    client: Client,
}

impl ServerClient {
    /// Creates a client for the server at `address`, a URL or a host.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if `address` is not an `http` or `https` URL.
    pub fn new(address: &str, token: Option<String>) -> Result<Self> {
        let mut options = ClientOptions::default();
        [options.http_proxy, options.https_proxy, options.no_proxy] =
            crate::config::proxies(&|name| std::env::var(name).ok());
        let base =
            if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let base = base.trim_end_matches('/').to_owned();
        if !base.parse::<url::Url>().is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            return Err(Error::new(
                ErrorKind::Malformed,
                format!("{base} is not the URL of a server"),
            ));
        }
        Ok(Self { base, token, client: Client::new(options) })
    }

    /// Sends a GET request.
    ///
    /// # Errors
    /// The errors of [`send`](Self::send).
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, None).await
    }

    /// Sends a HEAD request. Returns false if the response is 404.
    ///
    /// # Errors
    /// The errors of [`send`](Self::send), except for [`ErrorKind::NotFound`].
    pub async fn has(&self, path: &str) -> Result<bool> {
        match self.send(Method::HEAD, path, None).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends a request with an optional JSON body. Returns the JSON of the response, or its text if
    /// it is not JSON.
    ///
    /// # Errors
    /// - [`ErrorKind::Malformed`], [`ErrorKind::Invalid`], [`ErrorKind::NotFound`] or
    ///   [`ErrorKind::Conflict`] for 400, 422, 404 and 409, with the problems in the response.
    /// - [`ErrorKind::Upstream`] for other errors, and if the server does not respond.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(|body| ("application/json", body.to_string().into_bytes()));
        self.send_bytes(method, path, body).await
    }

    /// Sends a request with an optional body of a content type, like [`send`](Self::send).
    ///
    /// # Errors
    /// The errors of [`send`](Self::send).
    pub async fn send_bytes(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Value> {
        let url = format!("{}{path}", self.base);
        let mut request = Request::get(&url);
        request.method = Some(method.as_str());
        request
            .headers
            .extend(self.token.as_ref().map(|token| ("authorization", format!("Bearer {token}"))));
        request.body = body;
        let reply = self.exchange(request).await?;
        let json: Value = serde_json::from_slice(&reply.body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&reply.body).into_owned()));
        if reply.is_success() {
            return Ok(json);
        }
        let status = reply.status;
        let kind = match status {
            400 => ErrorKind::Malformed,
            422 => ErrorKind::Invalid,
            404 => ErrorKind::NotFound,
            409 => ErrorKind::Conflict,
            _ => ErrorKind::Upstream,
        };
        let detail = json["detail"]
            .as_str()
            .map_or_else(|| format!("{url} responded with {status}"), str::to_owned);
        let hint = if status == 401 {
            " (create a token on the server with bty-web token create)"
        } else {
            ""
        };
        let text = |problem: &Value, name: &str| problem[name].as_str().map(str::to_owned);
        let problem = |p: &Value| Problem {
            at: text(p, "at").unwrap_or_default(),
            message: text(p, "message").unwrap_or_default(),
            hint: text(p, "hint"),
        };
        let problems = json["problems"].as_array().into_iter().flatten().map(problem).collect();
        Err(Error::new(kind, format!("{detail}{hint}")).with_problems(problems))
    }

    /// Sends `request` without a token, and waits at most [`RESPONSE_TIMEOUT`] for the complete
    /// response.
    pub(crate) async fn exchange(&self, mut request: Request<'_>) -> Result<Reply> {
        (request.timeout, request.limit_bytes) = (RESPONSE_TIMEOUT, RESPONSE_BYTES_MAX);
        let gone = |e: bty::Error| Error { kind: ErrorKind::Upstream, ..Error::from(e) };
        self.client.exchange_async(&request).await.map_err(gone)
    }
}
