//! The audit log: one search box, everything that can be clicked narrows it.

use std::net::IpAddr;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use url::form_urlencoded;

use super::form::Fields;
use super::notice::{Notice, Undo, redirect_with_result};
use super::{Frame, render};
use crate::domain::error::{Error, Result};
use crate::domain::event::{Event, KINDS};
use crate::domain::mac::Mac;
use crate::domain::time::Time;
use crate::http::extract::Params;
use crate::services::app::App;
use crate::store::events::{self, EventRow, Filter, Found};

/// As many are on a page.
const ROWS: usize = 50;

/// What is searched for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EventFilter {
    q: String,
    before: Option<i64>,
}

/// A search: what the database finds by its indexes, and what is looked for in that, event by
/// event.
#[derive(Debug, Default)]
struct Search {
    filter: Filter,
    words: Vec<Word>,
}

/// What an event has to be.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Failed,
    Acknowledged(bool),
    By(String),
    From(String),
    Text(String),
}

impl Word {
    fn is_in(&self, event: &EventRow<'_>) -> bool {
        match self {
            Self::Failed => event.has_failed(),
            Self::Acknowledged(is) => event.is_acknowledged() == *is,
            Self::By(actor) => event.is_by(actor),
            Self::From(ip) => event.is_from(ip),
            Self::Text(text) => event.contains(text),
        }
    }
}

impl Search {
    /// `failed`, `ack:no`, `ack:yes`, `actor:operator`, a kind, a MAC address and an IP address
    /// mean just that; all other words are text.
    fn parse(text: &str) -> Self {
        let mut search = Self::default();
        for word in text.split_whitespace().take(16) {
            let lower = word.to_lowercase();
            let word = match (lower.as_str(), lower.parse::<Mac>(), lower.parse::<IpAddr>()) {
                ("failed", ..) => Word::Failed,
                ("ack:no", ..) => Word::Acknowledged(false),
                ("ack:yes", ..) => Word::Acknowledged(true),
                (kind, ..) if KINDS.contains(&kind) => {
                    search.filter.kind = Some(lower);
                    continue;
                }
                (_, Ok(mac), _) => {
                    search.filter.subject_kind = Some("machine".into());
                    search.filter.subject_id = Some(mac.to_string());
                    continue;
                }
                (_, _, Ok(ip)) => Word::From(ip.to_string()),
                (text, ..) => match text.strip_prefix("actor:") {
                    Some(actor) => Word::By(actor.to_owned()),
                    None => Word::Text(lower),
                },
            };
            search.words.push(word);
        }
        // there is an index for what is still to be looked at
        if search.words.contains(&Word::Failed) && search.words.contains(&Word::Acknowledged(false))
        {
            (search.filter.failed, search.filter.acknowledged) = (Some(true), Some(false));
        }
        search
    }

    fn find(mut self, conn: &crate::store::Connection, before: Option<i64>) -> Result<Found> {
        self.filter.before_id = before;
        events::search(conn, &self.filter, ROWS, |event| {
            self.words.iter().all(|word| word.is_in(event))
        })
    }
}

#[derive(Template)]
#[template(path = "events.html")]
struct Events {
    frame: Frame,
    wanted: EventFilter,
    here: String,
    events: Vec<Event>,
    /// Where older ones are.
    older: Option<String>,
    /// The search has ended before it was at the end of the log.
    searched_to: Option<Time>,
}

/// The page.
pub async fn page(
    State(app): State<Arc<App>>,
    frame: Frame,
    Params(wanted): Params<EventFilter>,
) -> Result<Response> {
    let (search, before) = (Search::parse(&wanted.q), wanted.before);
    let Found { events, next, searched_to } =
        app.db.read(move |conn| search.find(conn, before)).await?;
    let is_short = events.len() < ROWS;
    let page = Events {
        here: path(&wanted.q, wanted.before),
        older: next.map(|id| path(&wanted.q, Some(id))),
        searched_to: searched_to.filter(|_| is_short),
        wanted,
        events,
        frame,
    };
    render(&page)
}

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

/// Takes note of events, or not after all.
pub async fn act(State(app): State<Arc<App>>, fields: Fields) -> Response {
    let back = fields.back("/ui/events").to_owned();
    let done = acknowledge(&app, &fields).await;
    redirect_with_result(&app, &back, done)
}

async fn acknowledge(app: &App, fields: &Fields) -> Result<Notice> {
    let act = fields.text("act").to_owned();
    let ids: Vec<i64> = fields.all("id").filter_map(|id| id.parse().ok()).take(1000).collect();
    let ids = match act.as_str() {
        "all" => app.db.write(|t| events::acknowledge_failures(t)).await?,
        "ack" | "unack" if ids.is_empty() => return Err(Error::invalid("no event is ticked")),
        "ack" | "unack" => {
            let (wanted, is) = (ids.clone(), act == "ack");
            app.db.write(move |t| events::acknowledge_all(t, &wanted, is).map(drop)).await?;
            ids
        }
        _ => return Err(Error::invalid("there is no such act")),
    };
    let text = match (ids.len(), act.as_str()) {
        (n, "unack") => format!("{n} events are to be looked at again."),
        (n, _) => format!("{n} events are acknowledged."),
    };
    Ok(Notice::done(text).or(Undo::Acknowledged { ids, acknowledged: act == "unack" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_search_mean_what_the_page_says() {
        let search = Search::parse(
            "machine.flashed 52-54-00-AA-bb-01 10.0.0.7 failed ack:no actor:operator Debian x",
        );
        let filter = search.filter;
        assert_eq!(filter.kind.as_deref(), Some("machine.flashed"));
        assert_eq!(filter.subject_id.as_deref(), Some("52:54:00:aa:bb:01"));
        assert_eq!((filter.failed, filter.acknowledged), (Some(true), Some(false)));
        let words = [
            Word::From("10.0.0.7".into()),
            Word::Failed,
            Word::Acknowledged(false),
            Word::By("operator".into()),
            Word::Text("debian".into()),
            Word::Text("x".into()),
        ];
        assert_eq!(search.words, words);
    }
}
