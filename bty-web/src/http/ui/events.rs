//! The audit log: a search box, and links that narrow the search.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use url::form_urlencoded;

use super::form::Fields;
use super::frame::Frame;
use super::notice::{Notice, Notices};
use super::render::render;
use crate::domain::error::{Error, Result};
use crate::domain::event::Event;
use crate::domain::time::Time;
use crate::http::extract::Params;
use crate::services::event_log::{EventLog, Found};
use crate::services::undo::Undo;

const EVENTS_PER_PAGE: usize = 50;

/// Maximum number of events that a form may change at once.
const IDS_MAX: usize = 1000;

/// The query of the page.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EventFilter {
    q: String,
    /// Show only events older than this one.
    before: Option<i64>,
}

impl EventFilter {
    fn path(q: &str, before: Option<i64>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !q.is_empty() {
            query.append_pair("q", q);
        }
        if let Some(before) = before {
            query.append_pair("before", &before.to_string());
        }
        format!("/ui/events?{}", query.finish())
    }
}

#[derive(Template)]
#[template(path = "events.html")]
struct Events {
    frame: Frame,
    filter: EventFilter,
    here: String,
    events: Vec<Event>,
    /// URL of the page with older events.
    older: Option<String>,
    /// Set if the search reached its limit before the end of the log, and before the page was full.
    searched_to: Option<Time>,
}

/// Shows events, newest first.
pub async fn page(
    State(events): State<EventLog>,
    frame: Frame,
    Params(filter): Params<EventFilter>,
) -> Result<Response> {
    let found = events.search(&filter.q, filter.before, EVENTS_PER_PAGE).await?;
    let Found { events, next, searched_to } = found;
    let is_short = events.len() < EVENTS_PER_PAGE;
    render(&Events {
        here: EventFilter::path(&filter.q, filter.before),
        older: next.map(|id| EventFilter::path(&filter.q, Some(id))),
        searched_to: searched_to.filter(|_| is_short),
        filter,
        events,
        frame,
    })
}

/// Acknowledges events, or revokes their acknowledgement.
pub async fn submit(State(events): State<EventLog>, notices: Notices, fields: Fields) -> Response {
    let back = fields.back("/ui/events").to_owned();
    notices.redirect(&back, acknowledge(&events, &fields).await)
}

async fn acknowledge(events: &EventLog, fields: &Fields) -> Result<Notice> {
    let ids: Vec<i64> = fields.all("id").filter_map(|id| id.parse().ok()).take(IDS_MAX).collect();
    let (ids, acknowledged) = match fields.text("act") {
        "all" => (events.acknowledge_failures().await?, true),
        "ack" | "unack" if ids.is_empty() => {
            return Err(Error::invalid("select at least one event"));
        }
        act @ ("ack" | "unack") => {
            let acknowledged = act == "ack";
            events.set_acknowledged(ids.clone(), acknowledged).await?;
            (ids, acknowledged)
        }
        _ => return Err(Error::invalid("unknown action")),
    };
    let n = ids.len();
    let text = match acknowledged {
        true => format!("Events acknowledged: {n}."),
        false => format!("Events no longer acknowledged: {n}."),
    };
    let undo = Undo::Acknowledged { ids, acknowledged: !acknowledged };
    Ok(Notice::success(text).with_undo(undo))
}
