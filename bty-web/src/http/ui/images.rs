//! The images of the catalog.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use url::form_urlencoded;

use super::columns::{Column, Head, ascending, columns, descending, parse_sort};
use super::form::Fields;
use super::frame::Frame;
use super::notice::{Notice, Notices};
use super::render::render;
use crate::domain::error::{Error, Problem, Result};
use crate::domain::event::Actor;
use crate::domain::machine::ClientContext;
use crate::http::extract::Params;
use crate::services::access::Principal;
use crate::services::catalog::refresh::Refreshed;
use crate::services::catalog::{CatalogEdits, Imported, NewImage};
use crate::services::image_catalog::{ImageCatalog, Stored};
use crate::services::image_route::ImageRouter;
use crate::services::machine_reads::MachineReads;
use crate::services::snapshot::Snapshots;
use crate::services::undo::Undo;

/// The query of the page.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ImageFilter {
    q: String,
    sort: String,
}

impl ImageFilter {
    /// Returns the URL of this list, sorted by `sort`.
    fn path(&self, sort: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.q.is_empty() {
            query.append_pair("q", &self.q);
        }
        format!("/ui/images?{}", query.append_pair("sort", sort).finish())
    }

    fn sort(&self, rows: &mut [ImageRow]) {
        let (column, is_descending) = parse_sort(&self.sort);
        match column {
            "size" => rows.sort_by_key(|row| row.image.size_bytes),
            "format" => rows.sort_by(|a, b| a.image.format.cmp(&b.image.format)),
            "arch" => rows.sort_by(|a, b| a.image.arch.cmp(&b.image.arch)),
            "sha256" => rows.sort_by(|a, b| a.image.disk_image_sha.cmp(&b.image.disk_image_sha)),
            "machines" => rows.sort_by_key(|row| row.machines),
            "source" => rows.sort_by(|a, b| a.image.src.cmp(&b.image.src)),
            // the entries are already sorted by name
            _ => {}
        }
        if is_descending {
            rows.reverse();
        }
    }
}

const HEADS: [Head; 7] = [
    ascending("Name", "name"),
    descending("Size", "size"),
    ascending("Format", "format"),
    ascending("Arch", "arch"),
    ascending("SHA-256", "sha256"),
    descending("Machines", "machines"),
    ascending("Source", "source"),
];

#[derive(Template)]
#[template(path = "images.html")]
struct Images {
    frame: Frame,
    filter: ImageFilter,
    rows: Vec<ImageRow>,
    columns: Vec<Column>,
    total: usize,
    catalog_url: String,
    has_cache: bool,
}

struct ImageRow {
    image: Stored,
    size: String,
    is_cached: bool,
    machines: i64,
}

/// Shows the images.
pub async fn page(
    State(images): State<ImageCatalog>,
    State(reads): State<MachineReads>,
    State(snapshots): State<Arc<Snapshots>>,
    State(image_router): State<Arc<ImageRouter>>,
    who: ClientContext,
    frame: Frame,
    Params(filter): Params<ImageFilter>,
) -> Result<Response> {
    let entries = images.entries().await?;
    let machines = reads.counts_by_image().await?;
    let total = entries.len();
    let needle = filter.q.trim().to_lowercase();
    let row = |image: Stored| ImageRow {
        size: image.size_bytes.map_or_else(String::new, bty::size::human),
        is_cached: image_router.is_cached(&image),
        machines: machines.get(&image.bty_image_ref).copied().unwrap_or_default(),
        image,
    };
    let matching = entries.into_iter().filter(|image| needle.is_empty() || has(image, &needle));
    let mut rows: Vec<ImageRow> = matching.map(row).collect();
    filter.sort(&mut rows);
    render(&Images {
        columns: columns(&HEADS, &filter.sort, |sort| filter.path(sort)),
        rows,
        catalog_url: snapshots.current().settings.get("upstream.catalog_url").to_owned(),
        has_cache: image_router.host(&who.base).is_some(),
        total,
        filter,
        frame,
    })
}

/// True if `needle`, in lower case, occurs in any displayed text of the image.
fn has(image: &Stored, needle: &str) -> bool {
    let texts = [
        Some(&image.name),
        Some(&image.src),
        image.description.as_ref(),
        image.arch.as_ref(),
        image.format.as_ref(),
    ];
    texts.into_iter().flatten().any(|text| text.to_lowercase().contains(needle))
        || image.bty_image_ref.starts_with(needle)
}

/// Handles the forms of the page.
pub async fn submit(
    State(catalog): State<CatalogEdits>,
    State(images): State<ImageCatalog>,
    who: ClientContext,
    principal: Principal,
    notices: Notices,
    fields: Fields,
) -> Response {
    notices.redirect("/ui/images", handle(&catalog, &images, &who, &principal, &fields).await)
}

async fn handle(
    catalog: &CatalogEdits,
    images: &ImageCatalog,
    who: &ClientContext,
    principal: &Principal,
    fields: &Fields,
) -> Result<Notice> {
    let src = fields.optional("key");
    match fields.text("act") {
        "add" => {
            let new = NewImage {
                image_url: fields.text("image_url").to_owned(),
                sha_url: fields.optional("sha_url"),
                reference: None,
                name: fields.optional("name"),
                description: fields.optional("description"),
            };
            let entry = catalog.add(who, new).await?;
            Ok(Notice::success(format!("{} is in the catalog.", entry.name)))
        }
        "import" => {
            let source = fields.text("source").to_owned();
            let imported = images.import(who, principal, source).await?;
            Ok(import_notice(&imported))
        }
        "check" => Ok(check_notice(&images.check(src).await?)),
        "refresh" => {
            let refreshed = catalog.refresh(who, Actor::Operator, src).await?;
            Ok(refresh_notice(refreshed))
        }
        "warm" => {
            let images = images.warm(who, src).await?;
            let text = format!("Images that the cache host fetches: {}.", images.len());
            Ok(Notice::success(text))
        }
        "delete" => delete(images, who, fields.text("key")).await,
        _ => Err(Error::invalid("unknown action")),
    }
}

async fn delete(images: &ImageCatalog, who: &ClientContext, src: &str) -> Result<Notice> {
    let deleted = images.delete(who, src.to_owned(), false).await?;
    let notice = Notice::success(format!("{src} is deleted. Imports do not add it again."));
    Ok(match deleted {
        Some(entry) => notice.with_undo(Undo::Image(Box::new(entry))),
        None => notice,
    })
}

/// Returns the notice with the result of an import.
pub(super) fn import_notice(imported: &Imported) -> Notice {
    let text = format!(
        "Images: {} imported, {} updated, {} unchanged.",
        imported.imported, imported.updated, imported.skipped
    );
    let problems =
        imported.errors.iter().map(|e| Problem::new(e.name.clone(), e.error.clone())).collect();
    Notice { problems, ..Notice::success(text) }
}

fn refresh_notice(refreshed: Refreshed) -> Notice {
    let text = match refreshed.moved.as_slice() {
        [] => format!("Images: {} checked, none has another digest.", refreshed.checked),
        moved => format!(
            "Images: {} checked; with another digest: {}.",
            refreshed.checked,
            moved.join(", ")
        ),
    };
    let problems = refreshed.errors.into_iter().map(|e| Problem::new(e.name, e.error)).collect();
    Notice { problems, ..Notice::success(text) }
}

fn check_notice(checked: &[bty::catalog::EntryCheck]) -> Notice {
    let problems: Vec<Problem> = checked
        .iter()
        .flat_map(|check| {
            check.problems.iter().map(|problem| Problem::new(check.name.clone(), problem.clone()))
        })
        .collect();
    let text = match (checked, checked.iter().filter(|check| !check.is_ok()).count()) {
        ([one], 0) => format!("{} is available, and matches the catalog.", one.name),
        (all, 0) => format!("All {} images are available, and match the catalog.", all.len()),
        (all, n) => {
            let all = bty::text::count(all.len(), "image");
            format!("Not available, or different from the catalog: {n} of {all}.")
        }
    };
    Notice { is_wrong: !problems.is_empty(), problems, ..Notice::success(text) }
}
