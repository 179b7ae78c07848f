//! The audit log, and what happens while one listens.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Sse, KeepAlive, KeepAliveStream};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Event;
use crate::http::api::machines::MachineBody;
use crate::http::error::ErrorBody;
use crate::http::extract::{Params, PathText};
use crate::http::guard::Principal;
use crate::services::app::App;
use crate::store::{self, events::Filter};

#[derive(Deserialize)]
pub(crate) struct EventQuery {
    kind: Option<String>,
    subject_kind: Option<String>,
    subject_id: Option<String>,
    actor: Option<String>,
    source_ip: Option<String>,
    failed: Option<String>,
    acknowledged: Option<String>,
    before_id: Option<i64>,
    q: Option<String>,
    limit: Option<i64>,
}

/// Events, the newest first.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Listed {
    events: Vec<Event>,
    /// Failures that nobody has acknowledged, in all of the log.
    unacknowledged_failures: i64,
}

const LIMIT: i64 = 50;

/// Events, the newest first. `before_id` with the last id of a page gives the next one.
#[utoipa::path(get, path = "/events", tag = "events",
    params(("kind" = Option<String>, Query), ("subject_kind" = Option<String>, Query), ("subject_id" = Option<String>, Query), ("actor" = Option<String>, Query),
        ("source_ip" = Option<String>, Query), ("failed" = Option<bool>, Query), ("acknowledged" = Option<bool>, Query),
        ("before_id" = Option<i64>, Query), ("q" = Option<String>, Query), ("limit" = Option<i64>, Query, description = "1 to 500, else the nearest; 50")),
    responses((status = 200, body = Listed), (status = 401, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Params(wanted): Params<EventQuery>,
) -> Result<axum::Json<Listed>> {
    let limit =
        u32::try_from(wanted.limit.unwrap_or(LIMIT).clamp(1, store::events::LIMIT_MAX.into()))
            .unwrap_or(1);
    let filter = Filter {
        failed: flag("failed", wanted.failed.as_deref())?,
        acknowledged: flag("acknowledged", wanted.acknowledged.as_deref())?,
        kind: wanted.kind,
        subject_kind: wanted.subject_kind,
        subject_id: wanted.subject_id,
        actor: wanted.actor,
        source_ip: wanted.source_ip,
        before_id: wanted.before_id,
        text: wanted.q,
    };
    let listed = app.db.read(move |conn| {
        let events = store::events::list(conn, &filter, limit)?;
        Ok(Listed { events, unacknowledged_failures: store::events::tripwire(conn)? })
    });
    listed.await.map(axum::Json)
}

fn flag(name: &str, value: Option<&str>) -> Result<Option<bool>> {
    match value {
        None | Some("") => Ok(None),
        Some("true" | "1" | "yes" | "on") => Ok(Some(true)),
        Some("false" | "0" | "no" | "off") => Ok(Some(false)),
        Some(_) => Err(Error::invalid(format!("the query: {name} is true or false"))),
    }
}

#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Acknowledged {
    id: i64,
    acknowledged: bool,
}

/// An operator has taken note of an event.
#[utoipa::path(post, path = "/events/{id}/ack", tag = "events", params(("id" = i64, Path)),
    responses((status = 200, body = Acknowledged), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn acknowledge(
    State(app): State<Arc<App>>,
    PathText(id): PathText,
) -> Result<axum::Json<Acknowledged>> {
    let id: i64 =
        id.parse().map_err(|_| Error::new(ErrorKind::Malformed, "an event has a number"))?;
    app.db
        .write(move |transaction| match store::events::acknowledge(transaction, id, true)? {
            true => Ok(()),
            false => Err(Error::not_found(format!("event {id}"))),
        })
        .await?;
    Ok(axum::Json(Acknowledged { id, acknowledged: true }))
}

type Boxed = std::pin::Pin<Box<dyn Stream<Item = Result<Sse, Infallible>> + Send>>;
type Told = axum::response::sse::Sse<KeepAliveStream<Boxed>>;

/// Every event as it is written: `event: event`, with the event as JSON.
#[utoipa::path(get, path = "/events/stream", tag = "events", responses((status = 200, content_type = "text/event-stream", body = String), (status = 401, body = ErrorBody)))]
pub(crate) async fn stream(State(app): State<Arc<App>>, by: Principal) -> Told {
    let events = app.bus.listen();
    follow(app, by, events, |_, event| Box::pin(async move { json("event", &event) }))
}

/// Every change of a machine: `event: machines-update`, with the machine as JSON, or
/// `{"mac", "deleted"}`.
#[utoipa::path(get, path = "/events/machines", tag = "events", responses((status = 200, content_type = "text/event-stream", body = String), (status = 401, body = ErrorBody)))]
pub(crate) async fn machines(State(app): State<Arc<App>>, by: Principal) -> Told {
    let events = app.bus.listen();
    follow(app, by, events, |app, event: Event| {
        Box::pin(async move {
            if event.subject_kind != "machine" {
                return None;
            }
            let mac: crate::domain::mac::Mac = event.subject_id.parse().ok()?;
            let wanted = mac.clone();
            match app.db.read(move |conn| store::machines::get(conn, &wanted)).await.ok()? {
                Some(machine) => json("machines-update", &MachineBody::from(&machine)),
                None => {
                    json("machines-update", &serde_json::json!({ "mac": mac, "deleted": true }))
                }
            }
        })
    })
}

/// Every change of a job: `event: worker-state-changed`, with `kind`, `key` and `status`.
#[utoipa::path(get, path = "/events/workers", tag = "events", responses((status = 200, content_type = "text/event-stream", body = String), (status = 401, body = ErrorBody)))]
pub(crate) async fn workers(State(app): State<Arc<App>>, by: Principal) -> Told {
    let jobs = app.jobs.listen();
    follow(app, by, jobs, |_, change| {
        Box::pin(async move { json("worker-state-changed", &change) })
    })
}

fn json<T: Serialize>(name: &str, value: &T) -> Option<Sse> {
    Some(Sse::default().event(name).data(serde_json::to_string(value).ok()?))
}

type Shaped = std::pin::Pin<Box<dyn Future<Output = Option<Sse>> + Send>>;

/// Follows what is told until the server ends, the client goes, or may no longer know. Who is too
/// slow misses some, and goes on.
fn follow<T: Clone + Send + 'static>(
    app: Arc<App>,
    by: Principal,
    told: broadcast::Receiver<T>,
    shape: impl Fn(Arc<App>, T) -> Shaped + Send + Sync + 'static,
) -> Told {
    let stream = futures_util::stream::unfold(
        (app, by, told, shape),
        |(app, by, mut told, shape)| async move {
            loop {
                let next = tokio::select! {
                    () = app.stopped() => return None,
                    next = told.recv() => next,
                };
                match next {
                    Ok(_) if !by.may_still(&app).await => return None,
                    Ok(next) => {
                        if let Some(sse) = shape(Arc::clone(&app), next).await {
                            return Some((Ok(sse), (app, by, told, shape)));
                        }
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        },
    );
    let stream: Boxed = Box::pin(stream);
    axum::response::sse::Sse::new(stream)
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}
