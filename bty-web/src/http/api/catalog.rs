//! The catalog: for clients, and for operators.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::domain::error::Result;
use crate::domain::event::Actor;
use crate::domain::machine::ClientContext;
use crate::http::error::ErrorBody;
use crate::http::extract::{Json, Params};
use crate::services::access::Principal;
use crate::services::catalog::refresh::Refreshed;
use crate::services::catalog::{CatalogEdits, Imported, NewImage};
use crate::services::image_catalog::{CachedImage, ImageCatalog, Stored};
use crate::services::image_route::ImageRouter;

/// An image of the catalog.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Image {
    name: String,
    format: Option<String>,
    size_bytes: Option<u64>,
    /// Its URL.
    url: String,
    /// Its reference, by which it is assigned to machines.
    #[serde(rename = "ref")]
    image_ref: String,
    /// The first twelve digits of its SHA-256.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha_short: Option<String>,
    /// True if a cache host has the complete image.
    cached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    arch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

/// Lists the images of the catalog.
#[utoipa::path(
    get, path = "/images", tag = "catalog", responses((status = 200, body = Vec<Image>)),
)]
pub(crate) async fn images(
    State(images): State<ImageCatalog>,
    State(image_router): State<Arc<ImageRouter>>,
) -> Result<axum::Json<Vec<Image>>> {
    let entries = images.entries().await?;
    let image = |entry: Stored| Image {
        cached: image_router.is_cached(&entry),
        sha_short: entry.disk_image_sha.as_deref().map(|sha| sha.chars().take(12).collect()),
        name: entry.name,
        format: entry.format,
        size_bytes: entry.size_bytes,
        url: entry.src,
        image_ref: entry.bty_image_ref,
        arch: entry.arch,
        description: entry.description,
    };
    Ok(axum::Json(entries.into_iter().map(image).collect()))
}

/// Returns the catalog as TOML, including entries without a digest.
///
/// URLs point to the cache host if there is one and it responds.
#[utoipa::path(
    get, path = "/catalog.toml", tag = "catalog",
    responses((status = 200, content_type = "application/toml", body = String)),
)]
pub(crate) async fn toml(
    State(images): State<ImageCatalog>,
    who: ClientContext,
) -> Result<Response> {
    let text = images.client_toml(&who.base).await?;
    Ok(([(header::CONTENT_TYPE, "application/toml")], text).into_response())
}

/// Selects one entry by its URL; all entries by default.
#[derive(Deserialize)]
pub(crate) struct EntrySelection {
    src: Option<String>,
}

/// Returns the status of all images, or of one, on the cache host.
///
/// Fetches nothing.
#[utoipa::path(
    get, path = "/catalog/cache", tag = "catalog",
    params(("src" = Option<String>, Query, description = "URL of one image; by default all")),
    responses(
        (status = 200, body = Vec<CachedImage>), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn cached(
    State(images): State<ImageCatalog>,
    Params(selection): Params<EntrySelection>,
    who: ClientContext,
) -> Result<axum::Json<Vec<CachedImage>>> {
    images.cache_status(&who, selection.src).await.map(axum::Json)
}

/// Makes the cache host fetch all images, or one, before machines request them.
///
/// The response does not wait for the fetches.
#[utoipa::path(
    post, path = "/catalog/warm", tag = "catalog",
    params(("src" = Option<String>, Query, description = "URL of one image; by default all")),
    responses(
        (status = 200, body = Vec<CachedImage>), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 422, body = ErrorBody),
        (status = 429, body = ErrorBody), (status = 502, body = ErrorBody),
    ),
)]
pub(crate) async fn warm(
    State(images): State<ImageCatalog>,
    Params(selection): Params<EntrySelection>,
    who: ClientContext,
) -> Result<axum::Json<Vec<CachedImage>>> {
    images.warm(&who, selection.src).await.map(axum::Json)
}

/// Lists the catalog entries with all stored fields.
#[utoipa::path(
    get, path = "/catalog/entries", tag = "catalog",
    responses((status = 200, body = Vec<Stored>), (status = 401, body = ErrorBody)),
)]
pub(crate) async fn entries(State(images): State<ImageCatalog>) -> Result<axum::Json<Vec<Stored>>> {
    images.entries().await.map(axum::Json)
}

/// An image to add.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewEntry {
    /// `http://`, `https://` or `oras://`.
    image_url: String,
    /// URL of a checksum file with its digest, as `sha256sum` writes it.
    #[serde(default)]
    sha_url: Option<String>,
    /// The reference that the image must have.
    #[serde(default, rename = "ref")]
    reference: Option<String>,
    /// Its name; by default the file name in its URL, or the title in its registry.
    #[serde(default)]
    name: Option<String>,
    /// Description for people, in one line.
    #[serde(default)]
    description: Option<String>,
}

/// Adds an image by its URL.
///
/// The server must be able to reach the image.
#[utoipa::path(
    post, path = "/catalog/entries", tag = "catalog", request_body = NewEntry,
    responses(
        (status = 201, body = Stored), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn add(
    State(catalog): State<CatalogEdits>,
    who: ClientContext,
    Json(new): Json<NewEntry>,
) -> Result<(StatusCode, axum::Json<Stored>)> {
    let NewEntry { image_url, sha_url, reference, name, description } = new;
    let new = NewImage { image_url, sha_url, reference, name, description };
    let entry = catalog.add(&who, new).await?;
    Ok((StatusCode::CREATED, axum::Json(entry)))
}

#[derive(Deserialize)]
pub(crate) struct Deletion {
    src: String,
    #[serde(default)]
    force: bool,
}

/// Deletes an entry permanently.
///
/// No import and no restart restores it; only adding it again does. If machines or plans use the
/// image, the server refuses and lists them, unless `force` is true. The machines that use it are
/// then put on hold: they boot their disks until an operator saves them.
#[utoipa::path(
    delete, path = "/catalog/entries", tag = "catalog",
    params(
        ("src" = String, Query, description = "URL of the image"),
        ("force" = Option<bool>, Query, description = "delete it even if it is used"),
    ),
    responses(
        (status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn delete(
    State(images): State<ImageCatalog>,
    Params(deletion): Params<Deletion>,
    who: ClientContext,
) -> Result<StatusCode> {
    images.delete(&who, deletion.src, deletion.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
pub(crate) struct CatalogSource {
    source: String,
}

/// Imports a catalog.
///
/// The source is an `http://`, `https://` or `oras://` URL, or a path on the server, which requires
/// the scope `admin`.
#[utoipa::path(
    post, path = "/catalog/import", tag = "catalog",
    params(("source" = String, Query, description = "URL of the catalog, or a path on the server")),
    responses(
        (status = 200, body = Imported), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn import(
    State(images): State<ImageCatalog>,
    Params(catalog): Params<CatalogSource>,
    who: ClientContext,
    principal: Principal,
) -> Result<axum::Json<Imported>> {
    images.import(&who, &principal, catalog.source).await.map(axum::Json)
}

/// Resolves tags and reads checksum files again, of all images or of one, and takes the digests that
/// they have now.
#[utoipa::path(
    post, path = "/catalog/refresh", tag = "catalog",
    params(("src" = Option<String>, Query, description = "URL of one image; by default all")),
    responses(
        (status = 200, body = Refreshed), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn refresh(
    State(catalog): State<CatalogEdits>,
    Params(selection): Params<EntrySelection>,
    who: ClientContext,
) -> Result<axum::Json<Refreshed>> {
    catalog.refresh(&who, Actor::Operator, selection.src).await.map(axum::Json)
}

/// Checks whether all images, or one, exist at their URLs with the size and digest in the catalog,
/// and whether their checksum files still list that digest.
///
/// Downloads no image.
#[utoipa::path(
    get, path = "/catalog/check", tag = "catalog",
    params(("src" = Option<String>, Query, description = "URL of one image; by default all")),
    responses(
        (status = 200, body = Vec<Object>), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn check(
    State(images): State<ImageCatalog>,
    Params(selection): Params<EntrySelection>,
) -> Result<axum::Json<Vec<bty::catalog::EntryCheck>>> {
    images.check(selection.src).await.map(axum::Json)
}
