//! `bty-web events`.

use std::process::ExitCode;

use serde_json::Value;

use crate::domain::error::Result;

use super::cli::EventsVerb;
use super::print::out_json;
use super::remote::{RemoteServer, encoded};

pub(crate) async fn run(server: &RemoteServer, verb: EventsVerb) -> Result<ExitCode> {
    let EventsVerb::Export { since, kind, failed } = verb;
    let mut filter = String::new();
    filter.extend(kind.map(|kind| format!("&kind={}", encoded(&kind))));
    filter.extend(failed.then_some("&failed=true"));
    let mut since = since.unwrap_or_else(|| "0".to_owned());
    loop {
        let path = format!("/events/export?since={}{filter}", encoded(&since));
        let lines = match server.api.get(&path).await? {
            Value::String(lines) => lines,
            // a single line is JSON itself
            event => event.to_string(),
        };
        for line in lines.lines() {
            out_json!("{line}");
        }
        let last = lines.lines().next_back().map(serde_json::from_str::<Value>);
        let Some(last) = last.transpose()? else { return Ok(ExitCode::SUCCESS) };
        since = last["id"].to_string();
    }
}
