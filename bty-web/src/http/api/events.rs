//! The audit log, and streams of changes.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::sse::{Event as Sse, KeepAlive, KeepAliveStream};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::domain::error::{Error, Result};
use crate::domain::event::Event;
use crate::domain::mac::Mac;
use crate::http::api::machine_body::MachineBody;
use crate::http::error::ErrorBody;
use crate::http::extract::{Params, PathText};
use crate::http::state::service_group;
use crate::services::access::{Access, Principal};
use crate::services::event_bus::EventBus;
use crate::services::event_log::{EXPORT_MAX, EventLog, Filter, LIMIT_MAX};
use crate::services::jobs::Jobs;
use crate::services::machine_reads::MachineReads;
use crate::services::shutdown::Shutdown;

#[derive(Deserialize)]
pub(crate) struct EventQuery {
    kind: Option<String>,
    subject_kind: Option<String>,
    subject_id: Option<String>,
    actor: Option<String>,
    actor_name: Option<String>,
    source_ip: Option<String>,
    failed: Option<String>,
    acknowledged: Option<String>,
    before_id: Option<i64>,
    since: Option<String>,
    q: Option<String>,
    limit: Option<i64>,
}

/// A page of events, newest first.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct EventList {
    events: Vec<Event>,
    /// Number of unacknowledged failures in the whole log.
    unacknowledged_failures: i64,
}

const LIMIT_DEFAULT: i64 = 50;

/// Lists events, newest first.
///
/// Pass the last id of a page as `before_id` to get the next page.
#[utoipa::path(
    get, path = "/events", tag = "events",
    params(
        ("kind" = Option<String>, Query, description = "kind of the events"),
        ("subject_kind" = Option<String>, Query, description = "kind of their subject"),
        ("subject_id" = Option<String>, Query, description = "subject, such as a MAC address"),
        ("actor" = Option<String>, Query, description = "operator, system or pxe-client"),
        ("actor_name" = Option<String>, Query, description = "name of a user or token"),
        ("source_ip" = Option<String>, Query, description = "address of the client"),
        ("failed" = Option<bool>, Query, description = "only failures, or none"),
        ("acknowledged" = Option<bool>, Query, description = "only acknowledged events, or none"),
        ("before_id" = Option<i64>, Query, description = "only events with a smaller id"),
        (
            "since" = Option<String>, Query,
            description = "only events with a larger id, or from this time on",
        ),
        ("q" = Option<String>, Query, description = "text to find, as on the page of events"),
        (
            "limit" = Option<i64>,
            Query,
            description = "1 to 500, by default 50; other values are clamped",
        ),
    ),
    responses(
        (status = 200, body = EventList), (status = 401, body = ErrorBody),
        (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn list(
    State(events): State<EventLog>,
    Params(query): Params<EventQuery>,
) -> Result<axum::Json<EventList>> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX.into());
    let filter = query.filter(&events).await?;
    let limit = u32::try_from(limit).unwrap_or(1);
    let (events, unacknowledged_failures) = events.list(filter, limit).await?;
    Ok(axum::Json(EventList { events, unacknowledged_failures }))
}

impl EventQuery {
    async fn filter(self, events: &EventLog) -> Result<Filter> {
        let after_id = match self.since.as_deref() {
            None | Some("") => None,
            Some(since) => Some(events.position(since).await?),
        };
        Ok(Filter {
            failed: flag("failed", self.failed.as_deref())?,
            acknowledged: flag("acknowledged", self.acknowledged.as_deref())?,
            kind: self.kind,
            subject_kind: self.subject_kind,
            subject_id: self.subject_id,
            actor: self.actor,
            actor_name: self.actor_name,
            source_ip: self.source_ip,
            before_id: self.before_id,
            after_id,
            text: self.q,
        })
    }
}

/// Exports events as JSON lines, oldest first.
///
/// A response has at most 5000 events. Pass the id of the last one as `since` to get the next part;
/// an empty response is the end.
#[utoipa::path(
    get, path = "/events/export", tag = "events",
    params(
        ("kind" = Option<String>, Query, description = "kind of the events"),
        ("subject_kind" = Option<String>, Query, description = "kind of their subject"),
        ("subject_id" = Option<String>, Query, description = "subject, such as a MAC address"),
        ("actor" = Option<String>, Query, description = "operator, system or pxe-client"),
        ("actor_name" = Option<String>, Query, description = "name of a user or token"),
        ("source_ip" = Option<String>, Query, description = "address of the client"),
        ("failed" = Option<bool>, Query, description = "only failures, or none"),
        ("acknowledged" = Option<bool>, Query, description = "only acknowledged events, or none"),
        ("before_id" = Option<i64>, Query, description = "only events with a smaller id"),
        (
            "since" = Option<String>, Query,
            description = "only events with a larger id, or from this time on",
        ),
        ("q" = Option<String>, Query, description = "text to find, as on the page of events"),
        (
            "limit" = Option<i64>,
            Query,
            description = "1 to 5000, by default 5000; other values are clamped",
        ),
    ),
    responses(
        (status = 200, content_type = "application/jsonl", body = String),
        (status = 401, body = ErrorBody), (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn export(
    State(events): State<EventLog>,
    Params(query): Params<EventQuery>,
) -> Result<Response> {
    let limit = query.limit.unwrap_or(EXPORT_MAX.into()).clamp(1, EXPORT_MAX.into());
    let filter = query.filter(&events).await?;
    let mut lines = String::new();
    for event in events.export(filter, u32::try_from(limit).unwrap_or(1)).await? {
        lines += &serde_json::to_string(&event)?;
        lines.push('\n');
    }
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], lines).into_response())
}

fn flag(name: &str, value: Option<&str>) -> Result<Option<bool>> {
    match value {
        None | Some("") => Ok(None),
        Some("true" | "1" | "yes" | "on") => Ok(Some(true)),
        Some("false" | "0" | "no" | "off") => Ok(Some(false)),
        Some(_) => Err(Error::invalid(format!("invalid query: {name} must be true or false"))),
    }
}

/// An acknowledged event.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Acknowledged {
    id: i64,
    acknowledged: bool,
}

/// Acknowledges an event.
#[utoipa::path(
    post, path = "/events/{id}/ack", tag = "events", params(("id" = i64, Path)),
    responses(
        (status = 200, body = Acknowledged), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
)]
pub(crate) async fn acknowledge(
    State(events): State<EventLog>,
    PathText(id): PathText,
) -> Result<axum::Json<Acknowledged>> {
    let id = events.acknowledge(&id).await?;
    Ok(axum::Json(Acknowledged { id, acknowledged: true }))
}

type SseStream = Pin<Box<dyn Stream<Item = Result<Sse, Infallible>> + Send>>;
type SseResponse = axum::response::sse::Sse<KeepAliveStream<SseStream>>;

/// Streams every event as it is recorded.
///
/// Messages have the type `event` and contain the event as JSON.
#[utoipa::path(
    get, path = "/events/stream", tag = "events",
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 401, body = ErrorBody),
    ),
)]
pub(crate) async fn stream(
    State(bus): State<EventBus>,
    State(follower): State<Follower>,
    principal: Principal,
) -> SseResponse {
    follower.follow(principal, bus.listen(), |event| Box::pin(async move { json("event", &event) }))
}

/// Streams every change of a machine.
///
/// Messages have the type `machines-update` and contain the machine as JSON, or `mac` and `deleted`
/// for a deleted machine.
#[utoipa::path(
    get, path = "/events/machines", tag = "events",
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 401, body = ErrorBody),
    ),
)]
pub(crate) async fn machines(
    State(bus): State<EventBus>,
    State(machines): State<MachineReads>,
    State(follower): State<Follower>,
    principal: Principal,
) -> SseResponse {
    follower.follow(principal, bus.listen(), move |event| {
        Box::pin(machine_update(machines.clone(), event))
    })
}

async fn machine_update(machines: MachineReads, event: Event) -> Option<Sse> {
    if event.subject_kind != "machine" {
        return None;
    }
    let mac: Mac = event.subject_id.parse().ok()?;
    match machines.find(&mac).await.ok()? {
        Some(machine) => json("machines-update", &MachineBody::from(&machine)),
        None => json("machines-update", &serde_json::json!({ "mac": mac, "deleted": true })),
    }
}

/// Streams every change of a job.
///
/// Messages have the type `worker-state-changed` and contain `kind`, `key` and `status`.
#[utoipa::path(
    get, path = "/events/workers", tag = "events",
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 401, body = ErrorBody),
    ),
)]
pub(crate) async fn workers(
    State(jobs): State<Jobs>,
    State(follower): State<Follower>,
    principal: Principal,
) -> SseResponse {
    follower.follow(principal, jobs.listen(), |change| {
        Box::pin(async move { json("worker-state-changed", &change) })
    })
}

fn json<T: Serialize>(name: &str, value: &T) -> Option<Sse> {
    Some(Sse::default().event(name).data(serde_json::to_string(value).ok()?))
}

const KEEP_ALIVE: Duration = Duration::from_secs(15);

type FormattedEvent = Pin<Box<dyn Future<Output = Option<Sse>> + Send>>;

/// Ends streams with the server, and with the sessions and tokens of their clients.
pub(crate) struct Follower {
    access: Access,
    shutdown: Shutdown,
}

service_group!(Follower { access, shutdown });

impl Follower {
    /// Streams the messages of `receiver`, formatted by `format`, until the server stops, the
    /// client disconnects, or its session or token expires. A client that is too slow misses
    /// messages.
    fn follow<T: Clone + Send + 'static>(
        self,
        principal: Principal,
        receiver: broadcast::Receiver<T>,
        format: impl Fn(T) -> FormattedEvent + Send + Sync + 'static,
    ) -> SseResponse {
        let stream = futures_util::stream::unfold(
            (self, principal, receiver, format),
            |(follower, principal, mut receiver, format)| async move {
                loop {
                    let next = tokio::select! {
                        () = follower.shutdown.stopped() => return None,
                        next = receiver.recv() => next,
                    };
                    match next {
                        Ok(_) if !follower.access.is_valid(&principal).await => return None,
                        Ok(next) => {
                            if let Some(sse) = format(next).await {
                                return Some((Ok(sse), (follower, principal, receiver, format)));
                            }
                        }
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return None,
                    }
                }
            },
        );
        let stream: SseStream = Box::pin(stream);
        axum::response::sse::Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
    }
}
