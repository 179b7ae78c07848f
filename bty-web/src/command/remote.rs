//! Options and output of commands that use a server.

use std::process::ExitCode;

use crate::client;
use crate::domain::error::Result;
use clap::Args;
use serde_json::Value;

use super::print::out;

#[derive(Args)]
pub(crate) struct Remote {
    /// URL of the server
    #[arg(
        long,
        global = true,
        env = "BTY_WEB_SERVER",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    server: String,
    /// Token of the server, if it has a password; see bty-web token create
    #[arg(long, global = true, env = "BTY_WEB_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

pub(crate) struct RemoteServer {
    pub(crate) api: client::ServerClient,
    pub(crate) json: bool,
}

impl Remote {
    /// Runs `work` with the server.
    pub(crate) fn run(
        self,
        work: impl AsyncFnOnce(&RemoteServer) -> Result<ExitCode>,
    ) -> Result<ExitCode> {
        let server = RemoteServer {
            api: client::ServerClient::new(&self.server, self.token)?,
            json: self.json,
        };
        super::runtime::block_on(async { work(&server).await })
    }
}

/// Prints a table with aligned columns.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = head.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        out!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    line(head.to_vec());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
}

/// Returns the text of a field; a dash if it is null or empty.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => bty::text::escape(text).into_owned(),
        other => other.to_string(),
    }
}

/// Percent-encodes a value for a path or a query.
pub(crate) fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
