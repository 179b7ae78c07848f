//! Artifacts of the live environment, and what else machines fetch at boot.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio_util::io::StreamReader;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::ipxe;
use crate::domain::machine::ClientContext;
use crate::domain::machine::report::record_artifact;
use crate::http::extract::{Params, PathText, broken_body};
use crate::http::serve_file;
use crate::services::app::App;
use crate::services::netboot;
use crate::tftp::AUTOEXEC;

/// Limits of what is read of an upload after it has failed.
const DRAIN: Duration = Duration::from_secs(5);
const DRAIN_BYTES_MAX: u64 = 256 << 20;

/// A bare file name: nothing that leads elsewhere, and nothing hidden.
///
/// # Errors
/// [`ErrorKind::Malformed`].
pub(crate) fn file_name(name: &str) -> Result<&str> {
    let is_plain = !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && !name.contains(['/', '\\', '\0'])
        && !name.chars().any(char::is_control);
    if is_plain {
        Ok(name)
    } else {
        Err(Error::new(ErrorKind::Malformed, "that is no bare file name"))
    }
}

#[derive(Deserialize)]
pub(crate) struct Tag {
    mac: Option<String>,
    cycle: Option<String>,
}

/// A file; `autoexec.ipxe` is made for who asks. HEAD, `Range` and conditions are understood. With
/// `mac` and `cycle` the server takes note that this machine boots.
#[utoipa::path(get, path = "/boot/{name}", tag = "boot",
    params(("name" = String, Path), ("mac" = Option<String>, Query), ("cycle" = Option<String>, Query)),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 206), (status = 304), (status = 400, body = crate::http::error::ErrorBody),
        (status = 404, body = crate::http::error::ErrorBody), (status = 412), (status = 416)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    PathText(name): PathText,
    Params(tag): Params<Tag>,
    who: ClientContext,
    request: Request,
) -> Result<Response> {
    let name = file_name(&name)?;
    if name == AUTOEXEC {
        return Ok(
            ([(header::CONTENT_TYPE, ipxe::MEDIA_TYPE)], ipxe::autoexec(&who.base)).into_response()
        );
    }
    let path = netboot::find(&app.config, name)
        .ok_or_else(|| Error::not_found(format!("the file {name}")))?;
    if *request.method() == axum::http::Method::GET {
        heard(&app, &tag, who, name).await?;
    }
    let is_head = *request.method() == axum::http::Method::HEAD;
    let response =
        serve_file::respond(&path, name, "application/octet-stream", is_head, request.headers())
            .await?;
    let headers = response.headers();
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    app.metrics.sent(length.unwrap_or_default());
    Ok(response)
}

/// A machine that is known fetches its live environment.
async fn heard(app: &Arc<App>, tag: &Tag, who: ClientContext, name: &str) -> Result<()> {
    let Some(mac) = tag.mac.as_deref().and_then(|mac| mac.parse().ok()) else { return Ok(()) };
    let (token, name) = (tag.cycle.clone(), name.to_owned());
    let changed = app.update_machine(
        &mac,
        move |look| match &look.machine {
            Some(machine) => Ok(record_artifact(machine, &who, token.as_deref(), &name)),
            None => Err(Error::not_found("the machine")),
        },
        |_, _| Ok(()),
    );
    match changed.await {
        Err(error) if error.kind != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A file that was uploaded.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Uploaded {
    name: String,
    size_bytes: u64,
    path: String,
}

/// Uploads a file, in one piece: it is there when all of it has come, or not at all.
#[utoipa::path(put, path = "/boot/{name}", tag = "boot", params(("name" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Uploaded), (status = 400, body = crate::http::error::ErrorBody), (status = 413, body = crate::http::error::ErrorBody),
        (status = 507, body = crate::http::error::ErrorBody)))]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    PathText(name): PathText,
    who: ClientContext,
    request: Request,
) -> Result<axum::Json<Uploaded>> {
    let name = file_name(&name)?.to_owned();
    let path = app.config.boot_dir.join(&name);
    let partial = Partial(
        app.config.boot_dir.join(format!(".{name}.{}.partial", crate::random::random_token())),
    );
    let size_bytes = receive(&app, &partial.0, request).await?;
    tokio::fs::rename(&partial.0, &path)
        .await
        .map_err(|e| Error::writing(&app.config.boot_dir, &e))?;
    let event = NewEvent::new(
        "netboot.artifact.uploaded",
        name.clone(),
        format!("{name} was uploaded, {}", bty::size::human(size_bytes)),
    );
    let event = event.by(Actor::Operator, who.ip.as_deref());
    app.record(event.with(serde_json::json!({ "name": name, "size_bytes": size_bytes }))).await?;
    Ok(axum::Json(Uploaded { path: format!("/boot/{name}"), name, size_bytes }))
}

async fn receive(app: &App, path: &std::path::Path, request: Request) -> Result<u64> {
    use futures_util::TryStreamExt as _;
    let limit = app.config.max_upload_bytes;
    let too_large = || {
        Error::new(ErrorKind::TooLarge, format!("uploads have at most {}", bty::size::human(limit)))
    };
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > limit) {
        return Err(too_large());
    }
    let stream = request.into_body().into_data_stream().map_err(std::io::Error::other);
    let mut body = StreamReader::new(stream);
    let dir = &app.config.boot_dir;
    if let (Some(declared), Some(free)) = (declared, crate::state_dir::free_bytes(dir))
        && declared > free
    {
        return Err(
            Error::full(format!("an upload of {declared} bytes, {free} are free")).in_dir(dir)
        );
    }
    let unwritten = |e: std::io::Error| Error::writing(dir, &e);
    let mut file = tokio::fs::File::create(path).await.map_err(unwritten)?;
    let mut limited = tokio::io::AsyncReadExt::take(&mut body, limit.saturating_add(1));
    let copied = tokio::io::copy_buf(&mut limited, &mut file).await;
    // only the file has errors of the system: those of the body were made here
    let bytes = match copied {
        Ok(bytes) => bytes,
        Err(e) if e.raw_os_error().is_some() => {
            drain(&mut body).await;
            return Err(unwritten(e));
        }
        Err(e) => return Err(broken_body(app, &e)),
    };
    if bytes > limit {
        return Err(too_large());
    }
    file.flush().await.map_err(unwritten)?;
    file.sync_all().await.map_err(unwritten)?;
    Ok(bytes)
}

/// Reads what a client still sends: if the connection were closed before, the client would see a
/// reset instead of the answer.
async fn drain(body: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut rest = tokio::io::AsyncReadExt::take(body, DRAIN_BYTES_MAX);
    let _ = tokio::time::timeout(DRAIN, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}

/// A file that goes away when it was not finished.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // it is gone when it was finished
        let _ = std::fs::remove_file(&self.0);
    }
}
