//! A server that is asked over the network: by the command, and by simulated machines.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Problem, Result};

/// A server, and who asks it.
#[derive(Clone)]
pub struct Server {
    /// Its address, without a slash at the end.
    pub base: String,
    /// One of its tokens; none when it has no password.
    pub token: Option<String>,
    /// What requests are made with.
    pub(crate) client: reqwest::Client,
}

impl Server {
    /// The server at `address`; `http://` is put in front of a bare one.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn new(address: &str, token: Option<String>) -> Result<Self> {
        // one TLS provider for all of the program; installed already is as good
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().timeout(Duration::from_secs(60)).pool_max_idle_per_host(256);
        let base = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { base, token, client: builder.build().map_err(Error::internal)? })
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
        let mut request = self.client.request(method, &url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let gone = |e: reqwest::Error| Error::new(ErrorKind::Upstream, format!("{url}: {}", chain(&e)));
        let response = request.send().await.map_err(gone)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(gone)?;
        let json: Value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        if status.is_success() {
            return Ok(json);
        }
        let kind = match status.as_u16() {
            400 => ErrorKind::Malformed,
            422 => ErrorKind::Invalid,
            404 => ErrorKind::NotFound,
            409 => ErrorKind::Conflict,
            _ => ErrorKind::Upstream,
        };
        let detail = json["detail"].as_str().map_or_else(|| format!("{url} answered {status}"), str::to_owned);
        let hint = if status.as_u16() == 401 { " (give a token: bty-web token create)" } else { "" };
        let text = |problem: &Value, name: &str| problem[name].as_str().map(str::to_owned);
        let problem = |p: &Value| Problem {
            at: text(p, "at").unwrap_or_default(),
            message: text(p, "message").unwrap_or_default(),
            hint: text(p, "hint"),
        };
        let problems = json["problems"].as_array().into_iter().flatten().map(problem).collect();
        Err(Error::new(kind, format!("{detail}{hint}")).with_problems(problems))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}
