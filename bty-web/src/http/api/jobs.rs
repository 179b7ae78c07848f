//! Jobs: downloads of the live environment, and backups.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::domain::error::Result;
use crate::domain::machine::ClientContext;
use crate::http::error::ErrorBody;
use crate::http::extract::{OptionalJson, PathText};
use crate::services::job_control::{Backups, JobControl, NetbootHealth, ReleaseCheck, Releases};
use crate::services::jobs::{Job, Jobs};
use crate::services::netboot::dhcp_lines::text as dhcp_text;

/// Lists all jobs, newest first.
#[utoipa::path(
    get, path = "/workers", tag = "jobs",
    responses((status = 200, body = Vec<Job>), (status = 401, body = ErrorBody)),
)]
pub(crate) async fn jobs(State(jobs): State<Jobs>) -> axum::Json<Vec<Job>> {
    axum::Json(jobs.list(None))
}

/// Lists the installed versions of the live environment, and downloads of others.
#[utoipa::path(
    get, path = "/boot/releases", tag = "jobs",
    responses((status = 200, body = Releases), (status = 401, body = ErrorBody)),
)]
pub(crate) async fn releases(State(jobs): State<JobControl>) -> axum::Json<Releases> {
    axum::Json(jobs.releases())
}

/// Compares the files of a version with their digests.
///
/// Reads all files, which takes seconds.
#[utoipa::path(
    get, path = "/boot/releases/{version}/verify", tag = "jobs",
    params(("version" = String, Path)),
    responses(
        (status = 200, body = ReleaseCheck), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
)]
pub(crate) async fn verify(
    State(jobs): State<JobControl>,
    PathText(version): PathText,
) -> Result<axum::Json<ReleaseCheck>> {
    jobs.verify_release(version).await.map(axum::Json)
}

/// Returns the DHCP options that make machines boot from this server.
///
/// The options name the address to which the request was sent.
#[utoipa::path(
    get, path = "/netboot/dhcp", tag = "boot",
    responses(
        (status = 200, content_type = "text/plain", body = String),
        (status = 401, body = ErrorBody),
    ),
)]
pub(crate) async fn dhcp(who: ClientContext) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], dhcp_text(&who.base)).into_response()
}

/// Checks whether machines can boot from this server.
///
/// Requests a boot program over TFTP, as firmware does.
#[utoipa::path(
    get, path = "/netboot/health", tag = "boot",
    responses(
        (status = 200, body = NetbootHealth), (status = 401, body = ErrorBody),
    ),
)]
pub(crate) async fn health(
    State(jobs): State<JobControl>,
    who: ClientContext,
) -> axum::Json<NetbootHealth> {
    axum::Json(jobs.netboot_health(&who).await)
}

/// The release to download.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReleaseTag {
    /// Letters, digits, `.`, `_` and `-`; `latest` is the server's own version. The default is the
    /// tag in the settings.
    #[serde(default)]
    tag: Option<String>,
}

/// Downloads the files of a release in the background, and verifies them.
///
/// Resumes a download that failed.
#[utoipa::path(
    post, path = "/boot/releases", tag = "jobs", request_body = ReleaseTag,
    responses(
        (status = 202, body = Job), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn fetch_release(
    State(jobs): State<JobControl>,
    who: ClientContext,
    OptionalJson(body): OptionalJson<ReleaseTag>,
) -> Result<(StatusCode, axum::Json<Job>)> {
    let job = jobs.fetch_release(&who, body.tag).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(job)))
}

/// Cancels a download.
#[utoipa::path(
    delete, path = "/boot/releases/{tag}", tag = "jobs", params(("tag" = String, Path)),
    responses(
        (status = 200, body = Job), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn cancel_release(
    State(jobs): State<JobControl>,
    PathText(tag): PathText,
) -> Result<axum::Json<Job>> {
    jobs.cancel_release(&tag).map(axum::Json)
}

/// Lists the completed backups, and the jobs that create backups.
#[utoipa::path(
    get, path = "/workers/backups", tag = "jobs",
    responses((status = 200, body = Backups), (status = 401, body = ErrorBody)),
)]
pub(crate) async fn backups(State(jobs): State<JobControl>) -> Result<axum::Json<Backups>> {
    jobs.backups().await.map(axum::Json)
}

/// The cause of a backup.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupTrigger {
    /// `manual` (default) or `scheduled`; the schedule counts only the latter.
    #[serde(default)]
    trigger: Option<String>,
}

/// Backs up everything but the audit log, in the background.
#[utoipa::path(
    post, path = "/workers/backups", tag = "jobs", request_body = BackupTrigger,
    responses(
        (status = 202, body = Job), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn create_backup(
    State(jobs): State<JobControl>,
    who: ClientContext,
    OptionalJson(body): OptionalJson<BackupTrigger>,
) -> Result<(StatusCode, axum::Json<Job>)> {
    let job = jobs.create_backup(&who, body.trigger.as_deref()).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(job)))
}

/// Cancels a backup in progress.
#[utoipa::path(
    delete, path = "/workers/backups/{id}", tag = "jobs", params(("id" = String, Path)),
    responses(
        (status = 200, body = Job), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub(crate) async fn cancel_backup(
    State(jobs): State<JobControl>,
    PathText(id): PathText,
) -> Result<axum::Json<Job>> {
    jobs.cancel_backup(&id).map(axum::Json)
}
