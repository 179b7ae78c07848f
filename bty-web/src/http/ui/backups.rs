//! Backups: the completed ones, the jobs that create them, and their schedule.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method};
use axum::response::Response;

use super::form::Fields;
use super::frame::Frame;
use super::notice::{Notice, Notices};
use super::render::render;
use super::settings::save_settings;
use crate::domain::error::{Error, Result};
use crate::domain::machine::ClientContext;
use crate::domain::time::Time;
use crate::http::serve_file;
use crate::services::job_control::{Backups, JobControl};
use crate::services::jobs::JobStatus;
use crate::services::jobs::backup::OnDisk;
use crate::services::settings::SettingEdits;
use crate::services::snapshot::Snapshots;

#[derive(Template)]
#[template(path = "backups.html")]
struct BackupsPage {
    frame: Frame,
    state: Backups,
    is_enabled: bool,
    cadence: String,
    retention: String,
    last: Option<Time>,
}

/// Shows backups and their schedule.
pub async fn page(
    State(jobs): State<JobControl>,
    State(snapshots): State<Arc<Snapshots>>,
    frame: Frame,
) -> Result<Response> {
    let state = jobs.backups().await?;
    let settings = &snapshots.current().settings;
    render(&BackupsPage {
        is_enabled: settings.get("backup.enabled") == "1",
        cadence: settings.get("backup.cadence").to_owned(),
        retention: settings.get("backup.retention_count").to_owned(),
        last: Time::parse(settings.get("backup.last_run_at")),
        frame,
        state,
    })
}

/// Downloads the export of a backup.
pub async fn download(
    State(jobs): State<JobControl>,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response> {
    let file = jobs.backup_file(&id)?;
    let name = format!("bty-{id}.json");
    serve_file::respond(&file, &name, "application/json", method == Method::HEAD, &headers).await
}

/// Handles the forms of the page.
pub async fn submit(
    State(jobs): State<JobControl>,
    State(settings): State<SettingEdits>,
    who: ClientContext,
    notices: Notices,
    fields: Fields,
) -> Response {
    notices.redirect("/ui/backups", handle(&jobs, &settings, &who, &fields).await)
}

async fn handle(
    jobs: &JobControl,
    settings: &SettingEdits,
    who: &ClientContext,
    fields: &Fields,
) -> Result<Notice> {
    let key = fields.text("key");
    match fields.text("act") {
        "create" => {
            let job = jobs.create_backup(who, None).await?;
            Ok(Notice::success(format!("Backup {} was requested.", job.key)))
        }
        "cancel" => {
            jobs.cancel_backup(key)?;
            Ok(Notice::success("The backup is being cancelled."))
        }
        "delete" => {
            jobs.delete_backup(who, key.to_owned()).await?;
            Ok(Notice::success(format!("Backup {key} is deleted.")))
        }
        "schedule" => {
            let cadence = fields.text("cadence");
            let values = [
                ("backup.enabled", if cadence == "manual" { "0" } else { "1" }),
                ("backup.cadence", cadence),
                ("backup.retention_count", fields.text("retention")),
            ];
            let values = values.map(|(key, value)| (key.to_owned(), value.into()));
            let values = values.into_iter().collect();
            save_settings(settings, who, values, "The schedule is saved.").await
        }
        _ => Err(Error::invalid("unknown action")),
    }
}

fn status_word(status: &JobStatus) -> String {
    format!("{status:?}").to_lowercase()
}

/// Returns when a backup was made, which its name states.
fn made_at(backup: &OnDisk) -> Option<Time> {
    let text = backup.id.get(..20)?;
    let (date, clock) = text.split_once('T')?;
    Time::parse(&format!("{date}T{}", clock.replace('-', ":")))
}
