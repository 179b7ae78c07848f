//! A server that is asked over the network: by the command, and by simulated machines.

use std::time::Duration;

use axum::http::Method;
use bty::client::{Reply, Request};
use bty::{Client, ClientOptions};
use serde_json::Value;

use crate::domain::error::{Error, ErrorKind, Problem, Result};

/// Lists of machines, images and plans are the largest answers.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// All of an answer must come within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A server, and who asks it.
#[derive(Clone)]
pub struct Server {
    /// Its address, without a slash at the end.
    pub base: String,
    /// One of its tokens; none when it has no password.
    pub token: Option<String>,
    client: Client,
}

impl Server {
    /// The server at `address`; `http://` is put in front of a bare one.
    ///
    /// # Errors
    /// When `address` is none of a web server.
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
                format!("{base} is no address of a server"),
            ));
        }
        Ok(Self { base, token, client: Client::new(options) })
    }

    /// What `path` answers.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, None).await
    }

    /// Whether there is something at `path`.
    ///
    /// # Errors
    /// As [`send`](Self::send), but for what is not found.
    pub async fn has(&self, path: &str) -> Result<bool> {
        match self.send(Method::HEAD, path, None).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What `path` answers to a body.
    ///
    /// # Errors
    /// [`ErrorKind::Upstream`] when it does not answer; else what it answered, with its problems.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let url = format!("{}{path}", self.base);
        let mut request = Request::get(&url);
        request.method = Some(method.as_str());
        request
            .headers
            .extend(self.token.as_ref().map(|token| ("authorization", format!("Bearer {token}"))));
        request.body = body.map(|body| ("application/json", body.to_string().into_bytes()));
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
            .map_or_else(|| format!("{url} answered {status}"), str::to_owned);
        let hint = if status == 401 { " (give a token: bty-web token create)" } else { "" };
        let text = |problem: &Value, name: &str| problem[name].as_str().map(str::to_owned);
        let problem = |p: &Value| Problem {
            at: text(p, "at").unwrap_or_default(),
            message: text(p, "message").unwrap_or_default(),
            hint: text(p, "hint"),
        };
        let problems = json["problems"].as_array().into_iter().flatten().map(problem).collect();
        Err(Error::new(kind, format!("{detail}{hint}")).with_problems(problems))
    }

    /// Sends `request` as it is, and waits a minute for the whole answer.
    pub(crate) async fn exchange(&self, mut request: Request<'_>) -> Result<Reply> {
        (request.timeout, request.limit_bytes) = (ANSWER_TIMEOUT, ANSWER_BYTES_MAX);
        let gone = |e: bty::Error| Error { kind: ErrorKind::Upstream, ..Error::from(e) };
        self.client.exchange_async(&request).await.map_err(gone)
    }
}
