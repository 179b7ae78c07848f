//! Uploads of catalogs, by a form or by a program.

use axum::extract::State;
use axum::extract::multipart::{Multipart, MultipartError, MultipartRejection};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::form::CSRF_MISMATCH;
use super::images::import_notice;
use super::notice::Notices;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::machine::ClientContext;
use crate::domain::secret::is_same;
use crate::http::error::ErrorBody;
use crate::services::access::Principal;
use crate::services::catalog::Imported;
use crate::services::image_catalog::ImageCatalog;

/// Imports a catalog uploaded in the field `file`.
///
/// A client that accepts HTML is redirected to the images page; others get the summary as JSON.
#[utoipa::path(
    post, path = "/ui/catalog/upload", tag = "catalog",
    request_body(content = Vec<u8>, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = Imported), (status = 303), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn upload(
    State(images): State<ImageCatalog>,
    who: ClientContext,
    principal: Principal,
    notices: Notices,
    headers: HeaderMap,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Response> {
    let imported = import_form(&images, &who, &principal, form).await;
    let accept =
        headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("text/html") {
        let notice = imported.map(|imported| import_notice(&imported));
        return Ok(notices.redirect("/ui/images", notice));
    }
    imported.map(|imported| axum::Json(imported).into_response())
}

const FILE_NAME_CHARS_MAX: usize = 255;

async fn import_form(
    images: &ImageCatalog,
    who: &ClientContext,
    principal: &Principal,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Imported> {
    let mut form = form.map_err(|e| malformed(&e.body_text()))?;
    // only the forms of a user carry a CSRF token
    let mut is_trusted = principal.csrf().is_empty();
    while let Some(field) = form.next_field().await.map_err(field_error)? {
        if field.name() == Some("csrf") {
            is_trusted |= is_same(&field.text().await.map_err(field_error)?, principal.csrf());
            continue;
        }
        if !is_trusted {
            return Err(Error::new(ErrorKind::Forbidden, CSRF_MISMATCH));
        }
        if field.name() != Some("file") {
            continue;
        }
        let name = field.file_name().unwrap_or("catalog.toml");
        let name: String = name.chars().take(FILE_NAME_CHARS_MAX).collect();
        let bytes = field.bytes().await.map_err(field_error)?;
        return images.import_upload(who, &name, &bytes).await;
    }
    Err(Error::invalid("the form has no file"))
}

fn malformed(why: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("the form: {why}"))
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn field_error(error: MultipartError) -> Error {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Error::new(ErrorKind::TooLarge, "the catalog is larger than 1 MiB")
        }
        _ => malformed(&error.body_text()),
    }
}
