//! The catalog: for clients, and for operators.

use std::sync::Arc;

use axum::extract::{Multipart, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::blocking::blocking;
use crate::cache::address::{Address, blob_url};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Actor;
use crate::domain::image_route::CacheStatus;
use crate::domain::machine::ClientContext;
use crate::domain::secret::is_same;
use crate::http::error::ErrorBody;
use crate::http::extract::{Json, Params};
use crate::http::guard;
use crate::services::app::App;
use crate::services::auth::Scope;
use crate::services::catalog::{self, Imported, NewImage, Refreshed};
use crate::services::image_route::source;
use crate::store::{self, catalog::Stored};

/// An image as clients see it.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Image {
    name: String,
    format: Option<String>,
    size_bytes: Option<u64>,
    /// Where its bytes are.
    url: String,
    /// What machines are bound by.
    #[serde(rename = "ref")]
    image_ref: String,
    /// The first twelve digits of its digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha_short: Option<String>,
    /// A cache host has all of it.
    cached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    arch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

/// The images of the catalog.
#[utoipa::path(get, path = "/images", tag = "catalog", responses((status = 200, body = Vec<Image>)))]
pub(crate) async fn images(State(app): State<Arc<App>>) -> Result<axum::Json<Vec<Image>>> {
    let entries = app.db.read(store::catalog::all).await?;
    let image = |entry: Stored| Image {
        cached: app.image_router.is_cached(&entry),
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

/// The catalog as clients read it: all entries, those without a digest included. When there is a
/// cache host and it answers, addresses lead there.
#[utoipa::path(get, path = "/catalog.toml", tag = "catalog", responses((status = 200, content_type = "application/toml", body = String)))]
pub(crate) async fn toml(State(app): State<Arc<App>>, who: ClientContext) -> Result<Response> {
    let text = match app.image_router.host(&who.base) {
        Some(host) if app.image_router.is_reachable().await => {
            let entries = app.db.read(store::catalog::all).await?;
            let mut catalog = bty::catalog::Catalog::new();
            for stored in entries {
                let mut entry = stored.entry()?;
                let source = source(&stored);
                if source.parse::<Address>().is_ok() {
                    let name =
                        bty::catalog::file_name(source).unwrap_or_else(|| stored.name.clone());
                    let url = blob_url(&host, source, &name, stored.disk_image_sha.as_deref());
                    let kept = entry;
                    entry = bty::catalog::Entry::new(kept.name.clone(), url)?;
                    (entry.sha256, entry.format, entry.size_bytes) =
                        (kept.sha256, kept.format, kept.size_bytes);
                    (entry.description, entry.arch) = (kept.description, kept.arch);
                }
                catalog.add(entry)?;
            }
            catalog.to_toml()
        }
        _ => app.snapshot().catalog.to_string(),
    };
    Ok(([(header::CONTENT_TYPE, "application/toml")], text).into_response())
}

/// Where the cache host stands with an image.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Cached {
    pub(crate) name: String,
    pub(crate) src: String,
    pub(crate) status: CacheStatus,
}

/// Where the cache host stands with images: all, or one. It is asked; nothing is fetched that was
/// not asked for before.
#[utoipa::path(get, path = "/catalog/cache", tag = "catalog", params(("src" = Option<String>, Query)),
    responses((status = 200, body = Vec<Cached>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn cached(
    State(app): State<Arc<App>>,
    Params(of): Params<Perhaps>,
    who: ClientContext,
) -> Result<axum::Json<Vec<Cached>>> {
    look(&app, &who, of.src, false).await.map(axum::Json)
}

/// Has the cache host fetch images before machines ask for them: all, or one. The answer does not
/// wait for that.
#[utoipa::path(post, path = "/catalog/warm", tag = "catalog", params(("src" = Option<String>, Query)),
    responses((status = 200, body = Vec<Cached>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody),
        (status = 429, body = ErrorBody), (status = 502, body = ErrorBody)))]
pub(crate) async fn warm(
    State(app): State<Arc<App>>,
    Params(of): Params<Perhaps>,
    who: ClientContext,
) -> Result<axum::Json<Vec<Cached>>> {
    look(&app, &who, of.src, true).await.map(axum::Json)
}

async fn look(
    app: &Arc<App>,
    who: &ClientContext,
    src: Option<String>,
    is_warming: bool,
) -> Result<Vec<Cached>> {
    let entries = chosen(app, src).await?;
    let mut all = Vec::with_capacity(entries.len());
    for entry in entries {
        let status = app.image_router.look(&who.base, &entry, is_warming).await?;
        all.push(Cached { name: entry.name, src: entry.src, status });
    }
    Ok(all)
}

/// All entries, or one.
async fn chosen(app: &App, src: Option<String>) -> Result<Vec<Stored>> {
    let mut entries = app.db.read(store::catalog::all).await?;
    if let Some(src) = src {
        entries.retain(|entry| entry.src == src);
        if entries.is_empty() {
            return Err(Error::not_found(format!(
                "the image {}",
                src.chars().take(512).collect::<String>()
            )));
        }
    }
    Ok(entries)
}

/// The entries as they are kept.
#[utoipa::path(get, path = "/catalog/entries", tag = "catalog", responses((status = 200, body = Vec<Stored>), (status = 401, body = ErrorBody)))]
pub(crate) async fn entries(State(app): State<Arc<App>>) -> Result<axum::Json<Vec<Stored>>> {
    app.db.read(store::catalog::all).await.map(axum::Json)
}

/// An image that is to be added.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewEntry {
    /// `http://`, `https://` or `oras://`.
    pub(crate) image_url: String,
    /// Address of a file with its digest, as `sha256sum` writes it.
    #[serde(default)]
    pub(crate) sha_url: Option<String>,
    /// What its reference must be.
    #[serde(default, rename = "ref")]
    pub(crate) reference: Option<String>,
    /// What it is called; else as its address or its registry says.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// For people.
    #[serde(default)]
    pub(crate) description: Option<String>,
}

/// Adds an image by its address, which must be there.
#[utoipa::path(post, path = "/catalog/entries", tag = "catalog", request_body = NewEntry,
    responses((status = 201, body = Stored), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 409, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    who: ClientContext,
    Json(new): Json<NewEntry>,
) -> Result<(StatusCode, axum::Json<Stored>)> {
    let NewEntry { image_url, sha_url, reference, name, description } = new;
    let new = NewImage { image_url, sha_url, reference, name, description };
    let stored = catalog::add(&app, &who, new).await?;
    Ok((StatusCode::CREATED, axum::Json(stored)))
}

#[derive(Deserialize)]
pub(crate) struct Of {
    pub(crate) src: String,
}

/// Deletes an entry for good: no import and no restart brings it back, only adding it again does.
#[utoipa::path(delete, path = "/catalog/entries", tag = "catalog", params(("src" = String, Query)),
    responses((status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Params(of): Params<Of>,
    who: ClientContext,
) -> Result<StatusCode> {
    catalog::delete(&app, &who, of.src).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
pub(crate) struct From {
    pub(crate) source: String,
}

/// Imports a catalog: an `http://`, `https://` or `oras://` address, or a path on the server, which
/// needs the scope `admin`.
#[utoipa::path(post, path = "/catalog/import", tag = "catalog", params(("source" = String, Query)),
    responses((status = 200, body = Imported), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn import(
    State(app): State<Arc<App>>,
    Params(from): Params<From>,
    who: ClientContext,
    by: guard::Principal,
) -> Result<axum::Json<Imported>> {
    catalog::check_source(&from.source, by.require(Scope::Admin).is_ok())?;
    catalog::import(&app, &who, Actor::Operator, from.source).await.map(axum::Json)
}

/// Imports a catalog that is uploaded as `file`. Answers with the summary for who accepts JSON,
/// else goes back to the pages.
#[utoipa::path(post, path = "/ui/catalog/upload", tag = "catalog", request_body(content = Vec<u8>, content_type = "multipart/form-data"),
    responses((status = 200, body = Imported), (status = 303), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    who: ClientContext,
    by: guard::Principal,
    headers: axum::http::HeaderMap,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Result<Response> {
    let imported = uploaded(&app, &who, &by, form).await;
    let accept =
        headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("text/html") {
        let notice = imported.map(|imported| crate::http::ui::images::told(&imported));
        return Ok(crate::http::ui::notice::redirect_with_result(&app, "/ui/images", notice));
    }
    imported.map(|imported| axum::Json(imported).into_response())
}

async fn uploaded(
    app: &Arc<App>,
    who: &ClientContext,
    by: &guard::Principal,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Result<Imported> {
    let malformed = |e: String| Error::new(ErrorKind::Malformed, format!("the form: {e}"));
    let mut form = form.map_err(|e| malformed(e.body_text()))?;
    let mut is_ours = !matches!(by, guard::Principal::Session { .. });
    while let Some(field) = form.next_field().await.map_err(|e| malformed(e.body_text()))? {
        if field.name() == Some("csrf") {
            is_ours |=
                is_same(&field.text().await.map_err(|e| malformed(e.body_text()))?, by.csrf());
            continue;
        }
        if !is_ours {
            return Err(Error::new(ErrorKind::Forbidden, crate::http::ui::form::FOREIGN));
        }
        if field.name() != Some("file") {
            continue;
        }
        let name =
            field.file_name().unwrap_or("catalog.toml").chars().take(255).collect::<String>();
        let bytes = field.bytes().await.map_err(|e| match e.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Error::new(ErrorKind::TooLarge, "a catalog has at most 1 MiB")
            }
            _ => malformed(e.body_text()),
        })?;
        let parsed = catalog::parse(&bytes)?;
        return catalog::import_catalog(
            app,
            &app.guarded,
            who,
            Actor::Operator,
            format!("upload:{name}"),
            &parsed,
        )
        .await;
    }
    Err(Error::invalid("the form has no file"))
}

#[derive(Deserialize)]
pub(crate) struct Perhaps {
    pub(crate) src: Option<String>,
}

/// Looks at all tags again, or at one entry, and takes note of what they mean now.
#[utoipa::path(post, path = "/catalog/refresh", tag = "catalog", params(("src" = Option<String>, Query)),
    responses((status = 200, body = Refreshed), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn refresh(
    State(app): State<Arc<App>>,
    Params(of): Params<Perhaps>,
    who: ClientContext,
) -> Result<axum::Json<Refreshed>> {
    catalog::refresh(&app, &who, Actor::Operator, of.src).await.map(axum::Json)
}

/// Whether images are where the catalog says, and as it says: all, or one. Fetches nothing.
#[utoipa::path(get, path = "/catalog/check", tag = "catalog", params(("src" = Option<String>, Query)),
    responses((status = 200, body = Vec<Object>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    Params(of): Params<Perhaps>,
) -> Result<axum::Json<Vec<bty::catalog::EntryCheck>>> {
    let entries = chosen(&app, of.src).await?;
    let checked = blocking(move || {
        let mut catalog = bty::catalog::Catalog::new();
        for entry in &entries {
            catalog.add(entry.entry()?)?;
        }
        Ok::<_, Error>(bty::catalog::check(&app.client, &catalog, &bty::CancelToken::new())?)
    });
    checked.await?.map(axum::Json)
}
