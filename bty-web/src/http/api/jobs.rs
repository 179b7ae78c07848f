//! Jobs: artifacts of the live environment, backups.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::blocking::blocking;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Actor;
use crate::domain::machine::ClientContext;
use crate::domain::settings::is_tag;
use crate::http::error::ErrorBody;
use crate::http::extract::{Body, PathText, parse};
use crate::services::app::App;
use crate::services::jobs::{Job, Kind, backup, netboot};
use crate::services::netboot::{self as boot, Artifact, Release};
use crate::tftp::probe::{TftpProbe, probe};

/// All jobs, the newest first.
#[utoipa::path(get, path = "/workers", tag = "jobs", responses((status = 200, body = Vec<Job>), (status = 401, body = ErrorBody)))]
pub(crate) async fn jobs(State(app): State<Arc<App>>) -> axum::Json<Vec<Job>> {
    axum::Json(app.jobs.list(None))
}

/// Artifacts and their fetches.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Releases {
    pub(crate) boot_root: String,
    pub(crate) max_parallel: usize,
    pub(crate) fetches: Vec<Job>,
    /// The version that machines boot, unless they are bound to another.
    pub(crate) version: String,
    /// What is wrong with that.
    pub(crate) mismatch: Option<String>,
    /// Its files.
    pub(crate) artifacts: Vec<Artifact>,
    /// All versions of which something is there.
    pub(crate) versions: Vec<Release>,
    /// Boot programs that are there.
    pub(crate) programs: Vec<Program>,
}

/// A boot program.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
}

/// The artifacts of the live environment, and how their fetches go.
#[utoipa::path(get, path = "/boot/releases", tag = "jobs", responses((status = 200, body = Releases), (status = 401, body = ErrorBody)))]
pub(crate) async fn releases(State(app): State<Arc<App>>) -> axum::Json<Releases> {
    let version = app.snapshot().netboot_version().to_owned();
    let program = |(name, size_bytes): (String, u64)| Program { name, size_bytes };
    axum::Json(Releases {
        boot_root: app.config.boot_dir.display().to_string(),
        max_parallel: 1,
        fetches: app.jobs.list(Some(Kind::Release)),
        mismatch: boot::mismatch(&app.config, &version),
        artifacts: Release::of(&app.config, &version).files,
        versions: boot::releases(&app.config),
        programs: boot::programs(&app.config).into_iter().map(program).collect(),
        version,
    })
}

/// What came of comparing files with their digests.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Verified {
    pub(crate) version: String,
    pub(crate) is_right: bool,
    /// What is wrong.
    pub(crate) wrong: Vec<String>,
}

/// Compares the files of a version with their digests. Reads all of them: that takes seconds.
#[utoipa::path(get, path = "/boot/releases/{version}/verify", tag = "jobs", params(("version" = String, Path)),
    responses((status = 200, body = Verified), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn verify(
    State(app): State<Arc<App>>,
    PathText(version): PathText,
) -> Result<axum::Json<Verified>> {
    if !is_tag(&version) {
        return Err(Error::new(ErrorKind::Malformed, "that is no version"));
    }
    let release = Release::of(&app.config, &version);
    if release.files.iter().all(|file| !file.is_present) {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("none of the files of version {version} are here"),
        ));
    }
    let wrong = blocking(move || release.verify()).await??;
    Ok(axum::Json(Verified { version, is_right: wrong.is_empty(), wrong }))
}

/// What a DHCP server has to be told so that machines boot from here, by the address that was
/// asked.
#[utoipa::path(get, path = "/netboot/dhcp", tag = "boot", responses((status = 200, content_type = "text/plain", body = String), (status = 401, body = ErrorBody)))]
pub(crate) async fn dhcp(who: ClientContext) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], boot::dhcp::text(&who.base))
        .into_response()
}

/// Whether machines can boot from here.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct NetbootHealth {
    /// TFTP, as a machine would ask it.
    pub(crate) tftp: TftpProbe,
    /// What is wrong with the files of the live environment.
    pub(crate) mismatch: Option<String>,
    /// Boot programs that are there.
    pub(crate) programs: Vec<Program>,
    /// The cache host answers; null when there is none.
    pub(crate) cache_is_reachable: Option<bool>,
}

/// Whether machines can boot from here. TFTP is asked for a boot program, as firmware would.
#[utoipa::path(get, path = "/netboot/health", tag = "boot", responses((status = 200, body = NetbootHealth), (status = 401, body = ErrorBody)))]
pub(crate) async fn health(
    State(app): State<Arc<App>>,
    who: ClientContext,
) -> axum::Json<NetbootHealth> {
    let (host, port) = app.config.tftp_probe();
    let version = app.snapshot().netboot_version().to_owned();
    let cache_is_reachable = match app.image_router.host(&who.base) {
        Some(_) => Some(app.image_router.is_reachable().await),
        None => None,
    };
    axum::Json(NetbootHealth {
        tftp: probe(&host, port).await,
        mismatch: boot::mismatch(&app.config, &version),
        programs: boot::programs(&app.config)
            .into_iter()
            .map(|(name, size_bytes)| Program { name, size_bytes })
            .collect(),
        cache_is_reachable,
    })
}

/// Which release.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tag {
    /// Letters, digits, `.`, `_` and `-`; `latest` is the server's own version.
    #[serde(default)]
    tag: Option<String>,
}

fn check_tag(tag: &str) -> Result<()> {
    if is_tag(tag) { Ok(()) } else { Err(Error::invalid("a tag has letters, digits, ., _ and -")) }
}

/// A body that may be left out.
fn perhaps<T: serde::de::DeserializeOwned + Default>(bytes: &Bytes) -> Result<T> {
    if bytes.is_empty() { Ok(T::default()) } else { parse(bytes) }
}

/// Fetches the artifacts of a release: in the background, checked, and going on where an earlier
/// attempt ended.
#[utoipa::path(post, path = "/boot/releases", tag = "jobs", request_body = Tag,
    responses((status = 202, body = Job), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn fetch_release(
    State(app): State<Arc<App>>,
    who: ClientContext,
    Body(body): Body,
) -> Result<(StatusCode, axum::Json<Job>)> {
    let wanted: Tag = perhaps(&body)?;
    let default = || app.snapshot().settings.get("upstream.netboot_tag").to_owned();
    let tag = wanted.tag.unwrap_or_else(default);
    check_tag(&tag)?;
    let job = netboot::request(&app, &who, tag).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(job)))
}

/// Ends a fetch.
#[utoipa::path(delete, path = "/boot/releases/{tag}", tag = "jobs", params(("tag" = String, Path)),
    responses((status = 200, body = Job), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn cancel_release(
    State(app): State<Arc<App>>,
    PathText(tag): PathText,
) -> Result<axum::Json<Job>> {
    check_tag(&tag)?;
    app.jobs.cancel(Kind::Release, &tag).map(axum::Json)
}

/// Backups and their jobs.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Backups {
    pub(crate) backups_root: String,
    pub(crate) max_parallel: usize,
    /// Jobs.
    pub(crate) backups: Vec<Job>,
    /// Backups that are there, the newest first.
    pub(crate) on_disk: Vec<backup::OnDisk>,
}

/// The backups that are there, and how others go.
#[utoipa::path(get, path = "/workers/backups", tag = "jobs", responses((status = 200, body = Backups), (status = 401, body = ErrorBody)))]
pub(crate) async fn backups(State(app): State<Arc<App>>) -> Result<axum::Json<Backups>> {
    let shared = Arc::clone(&app);
    let on_disk = blocking(move || backup::list(&shared)).await?;
    Ok(axum::Json(Backups {
        backups_root: app.config.backup_dir.display().to_string(),
        max_parallel: app.config.backup_max_parallel,
        backups: app.jobs.list(Some(Kind::Backup)),
        on_disk,
    }))
}

/// Why a backup is made.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trigger {
    /// `manual` or `scheduled`; the latter counts for the schedule.
    #[serde(default)]
    trigger: Option<String>,
}

/// Makes a backup of everything but the audit log.
#[utoipa::path(post, path = "/workers/backups", tag = "jobs", request_body = Trigger,
    responses((status = 202, body = Job), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn create_backup(
    State(app): State<Arc<App>>,
    who: ClientContext,
    Body(body): Body,
) -> Result<(StatusCode, axum::Json<Job>)> {
    let wanted: Trigger = perhaps(&body)?;
    let trigger = match wanted.trigger.as_deref() {
        None | Some("manual") => "manual",
        Some("scheduled") => "scheduled",
        Some(_) => return Err(Error::invalid("trigger is manual or scheduled")),
    };
    let job = backup::request(&app, Actor::Operator, who.ip, trigger).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(job)))
}

/// Ends the making of a backup.
#[utoipa::path(delete, path = "/workers/backups/{id}", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = Job), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn cancel_backup(
    State(app): State<Arc<App>>,
    PathText(id): PathText,
) -> Result<axum::Json<Job>> {
    app.jobs.cancel(Kind::Backup, &id).map(axum::Json)
}
