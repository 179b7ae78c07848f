//! The stream that open pages follow. It sends the topics that have changed, not the changes. A
//! page then reloads itself, and replaces its regions that depend on these topics.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Sse, KeepAlive, Sse as Answer};
use axum::response::{IntoResponse, Response};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{Instant, sleep_until};

use crate::domain::event::Event;
use crate::domain::mac::Mac;
use crate::http::state::service_group;
use crate::services::access::{Access, Principal};
use crate::services::cache_control::CacheControl;
use crate::services::event_bus::EventBus;
use crate::services::event_log::EventLog;
use crate::services::jobs::{Change, Jobs};
use crate::services::shutdown::Shutdown;

/// Time during which changes are collected into one message.
const GATHER: Duration = Duration::from_millis(400);

/// Interval between progress messages about fetches of the cache host.
const FILLS: Duration = Duration::from_secs(1);

/// Maximum number of topics per message. Beyond that, further machines are sent only as `machines`.
const TOPICS_MAX: usize = 50;

const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Streams the topics that have changed: `event: changed`, with their names, separated by spaces,
/// in the data. The first message is `event: hello` with the version and the number of the newest
/// event. The stream ends when its session ends.
pub async fn stream(State(services): State<LiveServices>, principal: Principal) -> Response {
    let listener = TopicListener {
        events: services.bus.listen(),
        machines: services.bus.machines(),
        jobs: services.jobs.listen(),
        topics: BTreeSet::new(),
        principal,
        services,
        is_first: true,
    };
    // an event, not a comment: scripts do not see comments, and could not distinguish an idle
    // server from a lost connection
    let still =
        KeepAlive::new().interval(KEEP_ALIVE).event(Sse::default().event("still").data("."));
    let stream = futures_util::stream::unfold(listener, |mut listener| async move {
        let next = listener.next().await?;
        Some((Ok::<_, Infallible>(next), listener))
    });
    Answer::new(stream).keep_alive(still).into_response()
}

/// The services of the stream.
pub struct LiveServices {
    bus: EventBus,
    jobs: Jobs,
    log: EventLog,
    access: Access,
    cache: CacheControl,
    shutdown: Shutdown,
}

service_group!(LiveServices { bus, jobs, log, access, cache, shutdown });

struct TopicListener {
    services: LiveServices,
    events: Receiver<Event>,
    machines: Receiver<Mac>,
    jobs: Receiver<Change>,
    /// Topics that have changed since the last message.
    topics: BTreeSet<String>,
    principal: Principal,
    is_first: bool,
}

impl TopicListener {
    /// Returns the next message; `None` if the server is stopping or the session has ended.
    async fn next(&mut self) -> Option<Sse> {
        if std::mem::take(&mut self.is_first) {
            return Some(self.hello().await);
        }
        let mut until: Option<Instant> = None;
        // progress of the cache host's fetches is not recorded as events
        if self.services.cache.is_fetching() {
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
                () = self.services.shutdown.stopped() => return None,
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
        if !self.services.access.is_valid(&self.principal).await {
            return None;
        }
        let topics: Vec<String> = std::mem::take(&mut self.topics).into_iter().collect();
        Some(Sse::default().event("changed").data(topics.join(" ")))
    }

    /// Returns the message from which a page learns whether it has missed changes since it was
    /// loaded.
    async fn hello(&self) -> Sse {
        let newest = self.services.log.failures_and_newest().await;
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

    /// Handles lost messages: everything may have changed.
    fn add_all(&mut self) {
        self.add("all");
    }
}
