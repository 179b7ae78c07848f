//! Backups.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method};
use axum::response::Response;

use super::form::Fields;
use super::notice::{Notice, redirect_with_result};
use super::{Frame, render};
use crate::blocking::blocking;
use crate::domain::error::{Error, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::machine::ClientContext;
use crate::domain::time::Time;
use crate::http::api::jobs::{self as api, Backups};
use crate::http::extract::{Body, PathText};
use crate::http::serve_file;
use crate::services::app::App;
use crate::services::jobs::backup::{self, FILE, is_id};

#[derive(Template)]
#[template(path = "backups.html")]
struct Page {
    frame: Frame,
    state: Backups,
    is_enabled: bool,
    cadence: String,
    retention: String,
    last: Option<Time>,
}

/// The page.
pub async fn page(State(app): State<Arc<App>>, frame: Frame) -> Result<Response> {
    let axum::Json(state) = api::backups(State(Arc::clone(&app))).await?;
    let settings = &app.snapshot().settings;
    let page = Page {
        is_enabled: settings.get("backup.enabled") == "1",
        cadence: settings.get("backup.cadence").to_owned(),
        retention: settings.get("backup.retention_count").to_owned(),
        last: Time::parse(settings.get("backup.last_run_at")),
        frame,
        state,
    };
    render(&page)
}

/// The export of a backup.
pub async fn download(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response> {
    let path = known(&app, &id)?.join(FILE);
    let name = format!("bty-{id}.json");
    serve_file::respond(&path, &name, "application/json", method == Method::HEAD, &headers).await
}

/// The directory of a backup that is there.
fn known(app: &App, id: &str) -> Result<std::path::PathBuf> {
    let dir = app.config.backup_dir.join(id);
    if is_id(id) && dir.join(FILE).is_file() {
        Ok(dir)
    } else {
        Err(Error::not_found(format!("the backup {id}")))
    }
}

/// A form of the page.
pub async fn act(State(app): State<Arc<App>>, who: ClientContext, fields: Fields) -> Response {
    let done = done(&app, who, &fields).await;
    redirect_with_result(&app, "/ui/backups", done)
}

async fn done(app: &Arc<App>, who: ClientContext, fields: &Fields) -> Result<Notice> {
    let key = fields.text("key").to_owned();
    match fields.text("act") {
        "create" => {
            let (_, axum::Json(job)) =
                api::create_backup(State(Arc::clone(app)), who, Body(axum::body::Bytes::new()))
                    .await?;
            Ok(Notice::done(format!("The backup {} is being made.", job.key)))
        }
        "cancel" => {
            let cancelled = api::cancel_backup(State(Arc::clone(app)), PathText(key)).await;
            cancelled.map(|_| Notice::done("It is cancelled."))
        }
        "delete" => delete(app, &who, key).await,
        "schedule" => {
            let cadence = fields.text("cadence");
            let values = [
                ("backup.enabled", if cadence == "manual" { "0" } else { "1" }),
                ("backup.cadence", cadence),
                ("backup.retention_count", fields.text("retention")),
            ];
            let values =
                values.map(|(key, value)| (key.to_owned(), value.into())).into_iter().collect();
            super::settings::put(app, who, values, "The schedule is saved.").await
        }
        _ => Err(Error::invalid("there is no such act")),
    }
}

async fn delete(app: &Arc<App>, who: &ClientContext, id: String) -> Result<Notice> {
    let dir = known(app, &id)?;
    blocking(move || std::fs::remove_dir_all(dir)).await??;
    let event = NewEvent::new("backup.pruned", id.clone(), format!("the backup {id} was deleted"));
    app.record(event.by(Actor::Operator, who.ip.as_deref())).await?;
    Ok(Notice::done(format!("The backup {id} is deleted.")))
}

/// Where a job is, in a word.
fn word(status: &crate::services::jobs::Status) -> String {
    format!("{status:?}").to_lowercase()
}

/// The name says when it was made.
fn made_at(on_disk: &backup::OnDisk) -> Option<Time> {
    let text = on_disk.id.get(..20)?;
    let (date, clock) = text.split_once('T')?;
    Time::parse(&format!("{date}T{}", clock.replace('-', ":")))
}
