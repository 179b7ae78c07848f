//! What pages follow: which topics have changed, not what: a page fetches itself again, and takes
//! the regions that follow a topic from that.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Sse, KeepAlive, Sse as Answer};
use axum::response::{IntoResponse, Response};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use crate::http::guard::Principal;
use crate::services::app::App;

/// What happens meanwhile is told at once.
const GATHER: Duration = Duration::from_millis(400);

/// So often it is told that a fetch goes on.
const FILLS: Duration = Duration::from_secs(1);

/// More machines at once are only told as `machines`.
const MACHINES_MAX: usize = 50;

/// Topics that have changed: `event: changed`, with their names in the data, blanks between. The
/// first message is `event: hello` with the version and the number of the newest event.
///
/// It ends with the session that has opened it.
pub async fn stream(State(app): State<Arc<App>>, by: Principal) -> Response {
    let listening = Listening {
        events: app.bus.listen(),
        machines: app.bus.machines(),
        jobs: app.jobs.listen(),
        topics: BTreeSet::new(),
        by,
        app,
        is_first: true,
    };
    // a comment is not heard by scripts: who hears nothing cannot tell a quiet server from one that
    // is gone
    let still = KeepAlive::new()
        .interval(Duration::from_secs(10))
        .event(Sse::default().event("still").data("."));
    let stream = futures_util::stream::unfold(listening, |mut listening| async move {
        let next = listening.next().await?;
        Some((Ok::<_, Infallible>(next), listening))
    });
    Answer::new(stream).keep_alive(still).into_response()
}

struct Listening {
    app: Arc<App>,
    events: tokio::sync::broadcast::Receiver<crate::domain::event::Event>,
    machines: tokio::sync::broadcast::Receiver<crate::domain::mac::Mac>,
    jobs: tokio::sync::broadcast::Receiver<crate::services::jobs::Change>,
    topics: BTreeSet<String>,
    by: Principal,
    is_first: bool,
}

impl Listening {
    /// What is told next; none when the server ends.
    async fn next(&mut self) -> Option<Sse> {
        if std::mem::take(&mut self.is_first) {
            // a page that is as new as this has missed nothing
            let newest = self.app.db.read(crate::store::events::newest).await.unwrap_or_default();
            return Some(
                Sse::default()
                    .event("hello")
                    .data(format!("{} {newest}", env!("CARGO_PKG_VERSION"))),
            );
        }
        let mut until: Option<Instant> = None;
        // how far a fetch of the cache host is, is no event
        if self.app.cache.as_ref().is_some_and(|cache| !cache.fills().is_empty()) {
            self.topic("cache");
            until = Some(Instant::now() + FILLS);
        }
        loop {
            let is_due = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.app.stopped() => return None,
                () = is_due => break,
                event = self.events.recv() => match event {
                    Ok(event) => self.hear(&event.subject_kind),
                    Err(RecvError::Lagged(_)) => self.hear_all(),
                    Err(RecvError::Closed) => return None,
                },
                mac = self.machines.recv() => match mac {
                    Ok(mac) => self.hear_machine(&mac),
                    Err(RecvError::Lagged(_)) => self.hear_all(),
                    Err(RecvError::Closed) => return None,
                },
                job = self.jobs.recv() => match job {
                    Ok(_) => self.topic("jobs"),
                    Err(RecvError::Lagged(_)) => self.hear_all(),
                    Err(RecvError::Closed) => return None,
                },
            }
            until.get_or_insert(Instant::now() + GATHER);
        }
        if !self.by.may_still(&self.app).await {
            return None;
        }
        let topics: Vec<String> = std::mem::take(&mut self.topics).into_iter().collect();
        Some(Sse::default().event("changed").data(topics.join(" ")))
    }

    fn topic(&mut self, name: &str) {
        self.topics.insert(name.to_owned());
    }

    fn hear(&mut self, subject_kind: &str) {
        self.topic("events");
        self.topic(match subject_kind {
            "machine" => "machines",
            "plan" => "plans",
            "catalog" => "images",
            "cache" => "cache",
            "netboot" => "netboot",
            "backup" => "jobs",
            _ => "settings",
        });
    }

    fn hear_machine(&mut self, mac: &crate::domain::mac::Mac) {
        self.topic("machines");
        if self.topics.len() < MACHINES_MAX {
            self.topic(&mac.hyphens());
        }
    }

    /// Some was missed: everything may have changed.
    fn hear_all(&mut self) {
        self.topic("all");
    }
}
