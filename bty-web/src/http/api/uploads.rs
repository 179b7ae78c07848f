//! Uploads of images, which continue after an interruption: the protocol tus 1.0
//! (<https://tus.io/protocols/resumable-upload>) with its extensions `creation` and `termination`,
//! so that its clients work. And the images that the server keeps, for machines.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::Config;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::file_name::check_file_name;
use crate::domain::machine::ClientContext;
use crate::http::error::ErrorBody;
use crate::http::extract::PathText;
use crate::http::receive::{Receiver, content_length, discard};
use crate::http::serve_file;
use crate::services::image_files::ImageKey;
use crate::services::image_uploads::{ImageUploads, NewUpload, OpenUpload};
use crate::services::metrics::Metrics;

const TUS_RESUMABLE: &str = "tus-resumable";
const UPLOAD_OFFSET: &str = "upload-offset";
const UPLOAD_LENGTH: &str = "upload-length";
const TUS_VERSION: &str = "1.0.0";

/// Returns an image that the server keeps.
///
/// HEAD, `Range` and conditional requests are supported.
#[utoipa::path(
    get, path = "/images/{sha256}/{name}", tag = "catalog",
    params(
        ("sha256" = String, Path, description = "SHA-256 of the file"),
        ("name" = String, Path, description = "name of the file"),
    ),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 206),
        (status = 304), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 412), (status = 416),
    ),
)]
pub(crate) async fn image(
    State(uploads): State<ImageUploads>,
    State(metrics): State<Arc<Metrics>>,
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
    request: Request,
) -> Result<Response> {
    let Path((sha256, name)) =
        path.map_err(|_| Error::new(ErrorKind::Malformed, "the path is not UTF-8"))?;
    check_file_name("an image", &name)?;
    let missing = || Error::not_found(format!("the image {name}"));
    let sha256 = sha256.parse().map_err(|_| missing())?;
    let found = uploads.files().find(&ImageKey { sha256, name: name.clone() });
    let is_head = *request.method() == Method::HEAD;
    let kind = "application/octet-stream";
    let response =
        serve_file::respond(&found.ok_or_else(missing)?, &name, kind, is_head, request.headers())
            .await?;
    metrics.sent(content_length(response.headers()).unwrap_or_default());
    Ok(response)
}

/// Says which version and extensions of the protocol the server supports.
#[utoipa::path(options, path = "/uploads", tag = "catalog", responses((status = 204)))]
pub(crate) async fn protocol(State(uploads): State<ImageUploads>) -> Response {
    let fields = [
        (TUS_RESUMABLE, TUS_VERSION.to_owned()),
        ("tus-version", TUS_VERSION.to_owned()),
        ("tus-extension", "creation,termination".to_owned()),
        ("tus-max-size", uploads.max_bytes.to_string()),
    ];
    (StatusCode::NO_CONTENT, fields).into_response()
}

/// Starts the upload of an image.
///
/// `Upload-Length` is its size; `Upload-Metadata` has `filename`, and optionally `name`,
/// `description` and `arch`, in base64. The response names the upload in `Location`.
#[utoipa::path(
    post, path = "/uploads", tag = "catalog",
    params(
        ("Upload-Length" = u64, Header, description = "size of the image in bytes"),
        ("Upload-Metadata" = String, Header, description = "keys, each with a value in base64"),
    ),
    responses(
        (status = 201), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 412, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody),
        (status = 429, body = ErrorBody), (status = 507, body = ErrorBody),
    ),
)]
pub(crate) async fn create(
    State(uploads): State<ImageUploads>,
    headers: HeaderMap,
) -> Result<Response> {
    if let Some(refused) = other_version(&headers) {
        return Ok(refused);
    }
    let mut new = metadata(&headers)?;
    new.size_bytes = Some(number(&headers, UPLOAD_LENGTH)?);
    let id = uploads.create(new).await?;
    let fields = [("location", format!("/uploads/{id}")), version()];
    Ok((StatusCode::CREATED, fields).into_response())
}

/// Returns how many bytes of an upload have arrived, in `Upload-Offset`.
#[utoipa::path(
    head, path = "/uploads/{id}", tag = "catalog", params(("id" = String, Path)),
    responses((status = 200), (status = 401), (status = 404), (status = 412)),
)]
pub(crate) async fn status(
    State(uploads): State<ImageUploads>,
    PathText(id): PathText,
    headers: HeaderMap,
) -> Result<Response> {
    if let Some(refused) = other_version(&headers) {
        return Ok(refused);
    }
    let status = uploads.status(&id).await?;
    let length = status.size_bytes.unwrap_or(status.offset);
    let offset = (UPLOAD_OFFSET, status.offset.to_string());
    Ok(([offset, (UPLOAD_LENGTH, length.to_string()), version()]).into_response())
}

/// Appends bytes to an upload.
///
/// `Upload-Offset` must be the number of bytes that have arrived. With the last bytes, the image is
/// added to the catalog.
#[utoipa::path(
    patch, path = "/uploads/{id}", tag = "catalog",
    params(
        ("id" = String, Path),
        ("Upload-Offset" = u64, Header, description = "number of bytes that have arrived"),
    ),
    request_body(content = Vec<u8>, content_type = "application/offset+octet-stream"),
    responses(
        (status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 412, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody), (status = 507, body = ErrorBody),
    ),
)]
pub(crate) async fn append(
    State(uploads): State<ImageUploads>,
    State(config): State<Arc<Config>>,
    PathText(id): PathText,
    who: ClientContext,
    request: Request,
) -> Result<Response> {
    if let Some(refused) = other_version(request.headers()) {
        return Ok(refused);
    }
    let opened = open(&uploads, id, request.headers()).await;
    let body = request.into_body().into_data_stream();
    let mut upload = match opened {
        Ok(upload) => upload,
        Err(error) => {
            discard(body).await;
            return Err(error);
        }
    };
    let mut file = tokio::fs::File::from_std(upload.file);
    let dir = uploads.files().dir();
    let receiver = Receiver { dir, limit: upload.missing_bytes, rate: config.limits.body_rate };
    let bytes = receiver.receive(body, &mut file).await?;
    if bytes > upload.missing_bytes {
        uploads.discard(&upload.id);
        let detail = "more bytes than Upload-Length came; the upload is deleted";
        return Err(Error::new(ErrorKind::TooLarge, detail));
    }
    upload.file = file.into_std().await;
    let offset = upload.offset + bytes;
    uploads.finish(&who, upload).await?;
    let fields = [(UPLOAD_OFFSET, offset.to_string()), version()];
    Ok((StatusCode::NO_CONTENT, fields).into_response())
}

async fn open(uploads: &ImageUploads, id: String, headers: &HeaderMap) -> Result<OpenUpload> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if kind != Some("application/offset+octet-stream") {
        let detail = "the Content-Type must be application/offset+octet-stream";
        return Err(Error::new(ErrorKind::Malformed, detail));
    }
    let offset = number(headers, UPLOAD_OFFSET)?;
    uploads.open(id, offset).await
}

/// Cancels an upload, and deletes what has arrived.
#[utoipa::path(
    delete, path = "/uploads/{id}", tag = "catalog", params(("id" = String, Path)),
    responses(
        (status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 412, body = ErrorBody),
    ),
)]
pub(crate) async fn cancel(
    State(uploads): State<ImageUploads>,
    PathText(id): PathText,
    headers: HeaderMap,
) -> Result<Response> {
    if let Some(refused) = other_version(&headers) {
        return Ok(refused);
    }
    uploads.status(&id).await?;
    uploads.discard(&id);
    Ok((StatusCode::NO_CONTENT, [version()]).into_response())
}

fn version() -> (&'static str, String) {
    (TUS_RESUMABLE, TUS_VERSION.to_owned())
}

/// Returns the response to a client that speaks another version of the protocol. One that names
/// none is taken at its word for the rest.
fn other_version(headers: &HeaderMap) -> Option<Response> {
    headers.get(TUS_RESUMABLE).filter(|value| value.as_bytes() != TUS_VERSION.as_bytes())?;
    let detail = format!("this server speaks version {TUS_VERSION} of the protocol tus");
    let body = ErrorBody { detail, problems: Vec::new() };
    let fields = [("tus-version", TUS_VERSION)];
    Some((StatusCode::PRECONDITION_FAILED, fields, axum::Json(body)).into_response())
}

fn number(headers: &HeaderMap, name: &str) -> Result<u64> {
    let value = headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok());
    value.ok_or_else(|| {
        Error::new(ErrorKind::Malformed, format!("the header {name} must be a number of bytes"))
    })
}

/// Parses `Upload-Metadata`: pairs of a key and a value in base64, separated by commas.
fn metadata(headers: &HeaderMap) -> Result<NewUpload> {
    let malformed = || {
        let detail = "the header Upload-Metadata must have pairs of a key and a value in base64";
        Error::new(ErrorKind::Malformed, detail)
    };
    let mut new = NewUpload::default();
    let text = headers.get("upload-metadata").and_then(|value| value.to_str().ok());
    for pair in text.unwrap_or_default().split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
        let value = STANDARD.decode(value.trim()).map_err(|_| malformed())?;
        let value = String::from_utf8(value).map_err(|_| malformed())?;
        let optional = || Some(value.trim().to_owned()).filter(|text| !text.is_empty());
        match key {
            "filename" => new.file_name = value,
            "name" => new.name = optional(),
            "description" => new.description = optional(),
            "arch" => new.arch = optional(),
            // clients send what they know, such as the media type
            _ => {}
        }
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NewUpload> {
        let mut headers = HeaderMap::new();
        headers.insert("upload-metadata", axum::http::HeaderValue::from_str(text).unwrap());
        metadata(&headers)
    }

    #[test]
    fn metadata_is_read_and_foreign_keys_are_ignored() {
        let new = parse("filename YS5pbWc=, name w7xiZXI=,filetype eA==,is_confidential").unwrap();
        assert_eq!((new.file_name.as_str(), new.name.as_deref()), ("a.img", Some("über")));
        assert_eq!((new.description, new.arch), (None, None));
        for text in ["filename !", "name /w=="] {
            assert_eq!(parse(text).unwrap_err().kind, ErrorKind::Malformed, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_metadata_never_panics(text in "[ -~]{0,200}") {
            let _ = parse(&text);
        }
    }
}
