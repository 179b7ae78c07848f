//! Options and output of commands that use a server.

use std::process::ExitCode;

use crate::client;
use crate::domain::error::Result;
use crate::domain::time::Time;
use bty_script::terminal::{Table, stdout};
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

/// Prints a table. On a terminal, its lines are as long as the terminal is wide; elsewhere nothing
/// is cut.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) {
    let table = Table { rows: rows.to_vec(), ..Table::new(head) };
    for line in table.lines(stdout::columns().unwrap_or(usize::MAX)) {
        out!("{line}");
    }
}

/// Prints a table, or the sentence `if_empty` on stderr if it has no rows.
pub(crate) fn table_or(if_empty: &str, head: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        eprintln!("{if_empty}");
    } else {
        table(head, rows);
    }
}

/// Returns how long ago the time in a field was, such as `3 min`; a dash if it is null.
pub(crate) fn age(value: &Value) -> String {
    let time = value.as_str().and_then(Time::parse);
    time.map_or_else(|| "-".to_owned(), |time| time.age(Time::now()))
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
