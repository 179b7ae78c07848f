//! A server that is asked over the network.

use std::process::ExitCode;

use bty_web::error::{Error, ErrorKind, Problem, Result};
use clap::Args;
use reqwest::Method;
use serde_json::Value;

/// Which server, and who is asking.
#[derive(Args)]
pub(crate) struct Remote {
    /// Address of the server
    #[arg(long, global = true, env = "BTY_WEB_SERVER", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    server: String,
    /// A token of that server; none when it has no password
    #[arg(long, global = true, env = "BTY_WEB_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

/// A server.
pub(crate) struct Server {
    pub(crate) base: String,
    pub(crate) token: Option<String>,
    pub(crate) json: bool,
    client: reqwest::Client,
}

impl Remote {
    /// Runs `work` with the server.
    pub(crate) fn run(self, work: impl AsyncFnOnce(&Server) -> Result<ExitCode>) -> Result<ExitCode> {
        let client = bty_web::fleet::client()?;
        let base = if self.server.contains("://") { self.server } else { format!("http://{}", self.server) };
        let base = base.trim_end_matches('/').to_owned();
        let server = Server { base, token: self.token, json: self.json, client };
        crate::block_on(async { work(&server).await })
    }
}

impl Server {
    /// What `path` answers.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, None).await
    }

    /// What `path` answers to a body.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
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

/// Prints JSON, or rows of text in columns.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = head.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    line(head.to_vec());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
}

/// Text of a field; a dash when it is none.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => text.chars().filter(|c| !c.is_control()).collect(),
        other => other.to_string(),
    }
}

/// A value in a path or a query.
pub(crate) fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
