//! `bty-web event`.

use std::process::ExitCode;
use std::time::Duration;

use bty_script::terminal::stdout;
use serde_json::Value;

use crate::domain::error::Result;

use super::cli::{EventSelection, EventVerb};
use super::print::{out, out_json};
use super::remote::{RemoteServer, age, encoded, shown, table_or};

/// Interval of requests for new events.
const FOLLOW_EVERY: Duration = Duration::from_secs(2);

pub(crate) async fn run(server: &RemoteServer, verb: EventVerb) -> Result<ExitCode> {
    match verb {
        EventVerb::List { filter, text, limit } => {
            let text = text.map(|text| format!("&q={}", encoded(&text))).unwrap_or_default();
            let path = format!("/events?limit={limit}{}{text}", query(&filter));
            list(server, &server.api.get(&path).await?);
        }
        EventVerb::Follow { filter } => follow(server, &query(&filter)).await?,
        EventVerb::Export { since, filter } => {
            let mut since = since.unwrap_or_else(|| "0".to_owned());
            while let Some(last) = export(server, &since, &query(&filter), print_json).await? {
                since = last;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn query(filter: &EventSelection) -> String {
    let mut query = String::new();
    query.extend(filter.kind.as_ref().map(|kind| format!("&kind={}", encoded(kind))));
    query.extend(filter.failed.then_some("&failed=true"));
    query
}

fn list(server: &RemoteServer, page: &Value) {
    if server.json {
        return out_json!("{:#}", page["events"]);
    }
    let row = |event: &Value| {
        vec![age(&event["last_ts"]), shown(&event["kind"]), shown(&event["summary"])]
    };
    let rows: Vec<Vec<String>> = page["events"].as_array().into_iter().flatten().map(row).collect();
    table_or("no events", &["Age", "Event", "What happened"], &rows);
}

/// Prints new events until the reader of stdout is gone.
async fn follow(server: &RemoteServer, query: &str) -> Result<()> {
    let newest = server.api.get("/events?limit=1").await?;
    let mut since = newest["events"][0]["id"].as_i64().unwrap_or(0).to_string();
    let print = if server.json { print_json } else { print_line };
    while !stdout::is_closed() {
        if let Some(last) = export(server, &since, query, print).await? {
            since = last;
        } else {
            tokio::time::sleep(FOLLOW_EVERY).await;
        }
    }
    Ok(())
}

fn print_json(line: &str, _: &Value) {
    out_json!("{line}");
}

fn print_line(_: &str, event: &Value) {
    let [time, kind, summary] = ["ts", "kind", "summary"].map(|name| shown(&event[name]));
    out!("{time}  {kind}  {summary}");
}

/// Prints the next part of the log, and returns the number of its last event; `None` at its end.
async fn export(
    server: &RemoteServer,
    since: &str,
    query: &str,
    print: fn(&str, &Value),
) -> Result<Option<String>> {
    let path = format!("/events/export?since={}{query}", encoded(since));
    let lines = match server.api.get(&path).await? {
        Value::String(lines) => lines,
        // a single line is JSON itself
        event => event.to_string(),
    };
    let mut last = None;
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line)?;
        print(line, &event);
        last = Some(event["id"].to_string());
    }
    Ok(last)
}
