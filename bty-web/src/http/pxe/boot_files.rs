//! The files of the live environment, and other files that machines download while they boot.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio_util::io::StreamReader;

use crate::config::Config;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::NewEvent;
use crate::domain::ipxe;
use crate::domain::machine::ClientContext;
use crate::http::error::ErrorBody;
use crate::http::extract::{Params, PathText, incomplete_body};
use crate::http::serve_file;
use crate::random::random_token;
use crate::services::boot_cycles::BootCycles;
use crate::services::event_log::EventLog;
use crate::services::metrics::Metrics;
use crate::services::netboot;
use crate::tftp::AUTOEXEC;

/// How long the server keeps reading an upload that has failed.
const DRAIN: Duration = Duration::from_secs(5);
const DRAIN_BYTES_MAX: u64 = 256 << 20;

const NAME_BYTES_MAX: usize = 255;

/// Refuses names that lead to another directory, and hidden files.
fn file_name(name: &str) -> Result<&str> {
    let is_plain = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with('.')
        && !name.contains(['/', '\\', '\0'])
        && !name.chars().any(char::is_control);
    if is_plain {
        Ok(name)
    } else {
        Err(Error::new(
            ErrorKind::Malformed,
            "invalid name of a boot file: expected a file name without a directory",
        ))
    }
}

#[derive(Deserialize)]
pub(crate) struct BootQuery {
    mac: Option<String>,
    cycle: Option<String>,
}

/// Returns a boot file; `autoexec.ipxe` is generated.
///
/// HEAD, `Range` and conditional requests are supported. With `mac` and `cycle`, the server records
/// that this machine is booting.
#[utoipa::path(
    get, path = "/boot/{name}", tag = "boot",
    params(
        ("name" = String, Path, description = "name of the file, without a directory"),
        ("mac" = Option<String>, Query, description = "MAC address of the machine that boots"),
        ("cycle" = Option<String>, Query, description = "token of the boot cycle"),
    ),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 206),
        (status = 304), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 412), (status = 416),
    ),
)]
pub(crate) async fn get(
    State(config): State<Arc<Config>>,
    State(metrics): State<Arc<Metrics>>,
    State(boot_cycles): State<BootCycles>,
    PathText(name): PathText,
    Params(query): Params<BootQuery>,
    who: ClientContext,
    request: Request,
) -> Result<Response> {
    let name = file_name(&name)?;
    if name == AUTOEXEC {
        return Ok(
            ([(header::CONTENT_TYPE, ipxe::MEDIA_TYPE)], ipxe::autoexec(&who.base)).into_response()
        );
    }
    let path =
        netboot::find(&config, name).ok_or_else(|| Error::not_found(format!("the file {name}")))?;
    if *request.method() == axum::http::Method::GET {
        record_fetch(&boot_cycles, query, who, name).await?;
    }
    let is_head = *request.method() == axum::http::Method::HEAD;
    let response =
        serve_file::respond(&path, name, "application/octet-stream", is_head, request.headers())
            .await?;
    let headers = response.headers();
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    metrics.sent(length.unwrap_or_default());
    Ok(response)
}

async fn record_fetch(
    boot_cycles: &BootCycles,
    query: BootQuery,
    who: ClientContext,
    name: &str,
) -> Result<()> {
    match query.mac.as_deref().and_then(|mac| mac.parse().ok()) {
        Some(mac) => boot_cycles.record_fetch(who, &mac, query.cycle, name.to_owned()).await,
        None => Ok(()),
    }
}

/// An uploaded file.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Uploaded {
    name: String,
    size_bytes: u64,
    path: String,
}

/// Uploads a boot file.
///
/// It replaces an existing file only once it is complete.
#[utoipa::path(
    put, path = "/boot/{name}", tag = "boot", params(("name" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, body = Uploaded), (status = 400, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 507, body = ErrorBody),
    ),
)]
pub(crate) async fn put(
    State(events): State<EventLog>,
    State(config): State<Arc<Config>>,
    PathText(name): PathText,
    who: ClientContext,
    request: Request,
) -> Result<axum::Json<Uploaded>> {
    let name = file_name(&name)?.to_owned();
    let path = config.boot_dir.join(&name);
    let partial = Partial(config.boot_dir.join(format!(".{name}.{}.partial", random_token())));
    let size_bytes = receive(&config, &partial.0, request).await?;
    tokio::fs::rename(&partial.0, &path).await.map_err(|e| Error::writing(&config.boot_dir, &e))?;
    let event = NewEvent::new(
        "netboot.artifact.uploaded",
        name.clone(),
        format!("uploaded {name}, {}", bty::size::human(size_bytes)),
    );
    let event = event.caused_by(&who.author());
    events
        .record(event.with(serde_json::json!({ "name": name, "size_bytes": size_bytes })))
        .await?;
    Ok(axum::Json(Uploaded { path: format!("/boot/{name}"), name, size_bytes }))
}

async fn receive(config: &Config, path: &std::path::Path, request: Request) -> Result<u64> {
    use futures_util::TryStreamExt as _;
    let limit = config.max_upload_bytes;
    let too_large = || {
        Error::new(
            ErrorKind::TooLarge,
            format!("uploads must be at most {}", bty::size::human(limit)),
        )
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
    let dir = &config.boot_dir;
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
    // the operating system reports only errors of the file; errors of the body are created here
    let bytes = match copied {
        Ok(bytes) => bytes,
        Err(e) if e.raw_os_error().is_some() => {
            drain(&mut body).await;
            return Err(unwritten(e));
        }
        Err(e) => return Err(incomplete_body(config.limits.body_rate, &e)),
    };
    if bytes > limit {
        return Err(too_large());
    }
    file.flush().await.map_err(unwritten)?;
    file.sync_all().await.map_err(unwritten)?;
    Ok(bytes)
}

/// Reads the rest of the client's request. If the server closed the connection earlier, the client
/// would see a reset instead of the response.
async fn drain(body: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut rest = tokio::io::AsyncReadExt::take(body, DRAIN_BYTES_MAX);
    let _ = tokio::time::timeout(DRAIN, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}

/// A temporary file that is removed when it is dropped.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // a finished upload was renamed, so there is nothing to remove
        let _ = std::fs::remove_file(&self.0);
    }
}
