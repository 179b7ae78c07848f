//! The stream that pages follow. It names the topics that have changed, not the changes: a page
//! then fetches itself again, and replaces its regions that follow these topics.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Sse, KeepAlive, Sse as Answer};
use axum::response::{IntoResponse, Response};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{Instant, sleep_until};

use crate::domain::event::Event;
use crate::domain::mac::Mac;
use crate::services::access::Principal;
use crate::services::app::App;
use crate::services::event_log;
use crate::services::jobs::Change;

/// Changes within this time are sent in one message.
const GATHER: Duration = Duration::from_millis(400);

/// How often progress of the cache host's fetches is sent.
const FILLS: Duration = Duration::from_secs(1);

/// When more topics have changed at once, further machines are only sent as `machines`.
const TOPICS_MAX: usize = 50;

const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Streams topics that have changed: `event: changed`, with their names in the data, separated by
/// blanks. The first message is `event: hello` with the version and the number of the newest event.
/// The stream ends with the session that has opened it.
pub async fn stream(State(app): State<Arc<App>>, principal: Principal) -> Response {
    let listener = Listener {
        events: app.bus.listen(),
        machines: app.bus.machines(),
        jobs: app.jobs.listen(),
        topics: BTreeSet::new(),
        principal,
        app,
        is_first: true,
    };
    // an event, not a comment: scripts do not see comments, and could not tell a quiet server from
    // one that has gone
    let still =
        KeepAlive::new().interval(KEEP_ALIVE).event(Sse::default().event("still").data("."));
    let stream = futures_util::stream::unfold(listener, |mut listener| async move {
        let next = listener.next().await?;
        Some((Ok::<_, Infallible>(next), listener))
    });
    Answer::new(stream).keep_alive(still).into_response()
}

struct Listener {
    app: Arc<App>,
    events: Receiver<Event>,
    machines: Receiver<Mac>,
    jobs: Receiver<Change>,
    /// Topics that have changed since the last message.
    topics: BTreeSet<String>,
    principal: Principal,
    is_first: bool,
}

impl Listener {
    /// The next message; `None` when the server stops, or the session has ended.
    async fn next(&mut self) -> Option<Sse> {
        if std::mem::take(&mut self.is_first) {
            return Some(self.hello().await);
        }
        let mut until: Option<Instant> = None;
        // progress of a fetch of the cache host is not an event
        if self.app.cache.as_ref().is_some_and(|cache| !cache.fills().is_empty()) {
            self.add("cache");
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
                    Ok(event) => self.add_event(&event),
                    Err(RecvError::Lagged(_)) => self.add_all(),
                    Err(RecvError::Closed) => return None,
                },
                mac = self.machines.recv() => match mac {
                    Ok(mac) => self.add_machine(&mac),
                    Err(RecvError::Lagged(_)) => self.add_all(),
                    Err(RecvError::Closed) => return None,
                },
                job = self.jobs.recv() => match job {
                    Ok(_) => self.add("jobs"),
                    Err(RecvError::Lagged(_)) => self.add_all(),
                    Err(RecvError::Closed) => return None,
                },
            }
            until.get_or_insert(Instant::now() + GATHER);
        }
        if !self.principal.is_valid(&self.app).await {
            return None;
        }
        let topics: Vec<String> = std::mem::take(&mut self.topics).into_iter().collect();
        Some(Sse::default().event("changed").data(topics.join(" ")))
    }

    /// Tells a page whether it has missed anything since it was loaded.
    async fn hello(&self) -> Sse {
        let newest = event_log::failures_and_newest(&self.app).await;
        let newest = newest.map_or(0, |(_, newest)| newest);
        Sse::default().event("hello").data(format!("{} {newest}", env!("CARGO_PKG_VERSION")))
    }

    fn add(&mut self, topic: &str) {
        self.topics.insert(topic.to_owned());
    }

    fn add_event(&mut self, event: &Event) {
        self.add("events");
        self.add(match event.subject_kind.as_str() {
            "machine" => "machines",
            "plan" => "plans",
            "catalog" => "images",
            "cache" => "cache",
            "netboot" => "netboot",
            "backup" => "jobs",
            _ => "settings",
        });
    }

    fn add_machine(&mut self, mac: &Mac) {
        self.add("machines");
        if self.topics.len() < TOPICS_MAX {
            self.add(&mac.hyphens());
        }
    }

    /// Messages were lost: everything may have changed.
    fn add_all(&mut self) {
        self.add("all");
    }
}
