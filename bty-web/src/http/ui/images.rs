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
use crate::domain::image_route::CacheStatus;
use crate::domain::machine::ClientContext;
use crate::http::extract::Params;
use crate::http::state::service_group;
use crate::services::access::Principal;
use crate::services::catalog::refresh::Refreshed;
use crate::services::catalog::{CatalogEdits, Imported, NewImage};
use crate::services::image_catalog::{ImageCatalog, Stored};
use crate::services::image_files::LooseFile;
use crate::services::image_route::ImageRouter;
use crate::services::image_uploads::ImageUploads;
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
            "arch" => rows.sort_by(|a, b| a.image.arch.cmp(&b.image.arch)),
            "sha256" => rows.sort_by(|a, b| a.image.disk_image_sha.cmp(&b.image.disk_image_sha)),
            "cached" => rows.sort_by_key(|row| row.cached),
            "packed" => rows.sort_by_key(|row| row.packed),
            "machines" => rows.sort_by_key(|row| row.machines),
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
    ascending("Digest", "sha256"),
    descending("Size", "size"),
    ascending("Architecture", "arch"),
    descending("Cached", "cached"),
    descending("Packed", "packed"),
    descending("Used by", "machines"),
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
    /// Images in the server's folder that are not in the catalog.
    loose: Vec<LooseFile>,
    /// The server's folder of images.
    folder: String,
}

struct ImageRow {
    image: Stored,
    size: String,
    /// True if this server keeps the image itself.
    is_kept: bool,
    cached: Having,
    packed: Having,
    machines: usize,
}

impl ImageRow {
    /// Returns its description, if there is one.
    fn about(&self) -> Option<&str> {
        self.image.description.as_deref().filter(|text| !text.is_empty())
    }

    /// Returns what deleting the entry means.
    fn lost(&self) -> &'static str {
        match self.is_kept {
            true => {
                "The entry is deleted permanently: imports do not add it again. An image that \
                 machines or plans use is not deleted. Its file stays in the folder on the server, \
                 where you can delete it."
            }
            false => {
                "The entry is deleted permanently: imports do not add it again. An image that \
                 machines or plans use is not deleted. The image itself stays at its source."
            }
        }
    }
}

/// Whether the cache host has a form of an image. The least available comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Having {
    No,
    Coming,
    Yes,
    /// The image is packed at its source.
    Published,
}

impl Having {
    fn word(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Coming => "coming",
            Self::Yes => "yes",
            Self::Published => "as published",
        }
    }
}

/// Architectures that a person can choose.
const ARCHITECTURES: [&str; 4] = ["x86_64", "arm64", "i386", "arm"];

/// Services of the page.
pub struct ImageServices {
    images: ImageCatalog,
    reads: MachineReads,
    snapshots: Arc<Snapshots>,
    image_router: Arc<ImageRouter>,
    uploads: ImageUploads,
}

service_group!(ImageServices { images, reads, snapshots, image_router, uploads });

/// Shows the images.
pub async fn page(
    State(services): State<ImageServices>,
    who: ClientContext,
    frame: Frame,
    Params(filter): Params<ImageFilter>,
) -> Result<Response> {
    let entries = services.images.entries().await?;
    let machines = services.reads.counts_by_image().await?;
    let total = entries.len();
    let needle = filter.q.trim().to_lowercase();
    let host = services.image_router.host(&who.base);
    let row = |image: Stored| {
        let count = machines.get(&image.bty_image_ref).copied().unwrap_or_default();
        let machines = usize::try_from(count).unwrap_or_default();
        services.row(image, host.as_deref(), &who.base, machines)
    };
    let matching = entries.into_iter().filter(|image| needle.is_empty() || has(image, &needle));
    let mut rows: Vec<ImageRow> = matching.map(row).collect();
    filter.sort(&mut rows);
    let settings = &services.snapshots.current().settings;
    render(&Images {
        columns: columns(&HEADS, &filter.sort, |sort| filter.path(sort)),
        rows,
        catalog_url: settings.get("upstream.catalog_url").to_owned(),
        has_cache: host.is_some(),
        loose: services.uploads.loose().await?,
        folder: services.uploads.files().dir().display().to_string(),
        total,
        filter,
        frame,
    })
}

impl ImageServices {
    fn row(&self, image: Stored, host: Option<&str>, base: &str, machines: usize) -> ImageRow {
        let router = &self.image_router;
        let cached = match router.known_status(&image) {
            CacheStatus::Hit => Having::Yes,
            CacheStatus::Filling => Having::Coming,
            _ => Having::No,
        };
        let packed = match image.index_sha256 {
            Some(_) => Having::Published,
            None if host.is_some_and(|host| router.packed(host, &image).is_some()) => Having::Yes,
            None => Having::No,
        };
        ImageRow {
            size: image.size_bytes.map_or_else(String::new, bty::size::human),
            is_kept: router.own_address(base, &image.src).is_some(),
            cached,
            packed,
            machines,
            image,
        }
    }
}

/// True if `needle`, in lower case, occurs in any displayed text of the image.
fn has(image: &Stored, needle: &str) -> bool {
    let texts = [
        Some(&image.name),
        Some(&image.src),
        image.description.as_ref(),
        image.arch.as_ref(),
        image.format.as_ref(),
        image.disk_image_sha.as_ref(),
    ];
    texts.into_iter().flatten().any(|text| text.to_lowercase().contains(needle))
        || image.bty_image_ref.starts_with(needle)
}

/// Handles the forms of the page.
pub async fn submit(
    State(catalog): State<CatalogEdits>,
    State(services): State<ImageServices>,
    who: ClientContext,
    principal: Principal,
    notices: Notices,
    fields: Fields,
) -> Response {
    notices.redirect("/ui/images", handle(&catalog, &services, &who, &principal, &fields).await)
}

async fn handle(
    catalog: &CatalogEdits,
    services: &ImageServices,
    who: &ClientContext,
    principal: &Principal,
    fields: &Fields,
) -> Result<Notice> {
    let (images, src) = (&services.images, fields.optional("key"));
    match fields.text("act") {
        "add" => {
            let new = NewImage {
                image_url: address(fields.text("image_url")),
                sha_url: fields.optional("sha_url"),
                reference: None,
                name: fields.optional("name"),
                description: fields.optional("description"),
                arch: fields.optional("arch"),
            };
            let entry = catalog.add(who, new).await?;
            Ok(Notice::success(format!("{} is in the catalog.", entry.name)))
        }
        "add-file" => {
            let entry = services.uploads.add_loose(who, fields.text("key")).await?;
            Ok(Notice::success(format!("{} is in the catalog.", entry.name)))
        }
        "delete-file" => {
            let path = fields.text("key").to_owned();
            let name = services.uploads.delete_loose(who, path).await?;
            Ok(Notice::success(format!("The file {name} is deleted.")))
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

/// Returns the address of an image that a person has typed: `ghcr.io/lab/debian:13` is a reference
/// to a registry, as container tools write it.
fn address(text: &str) -> String {
    let (host, path) = text.split_once('/').unwrap_or_default();
    let is_reference =
        !text.contains("://") && host.contains(['.', ':']) && path.contains([':', '@']);
    if is_reference { format!("oras://{text}") } else { text.to_owned() }
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

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn a_registry_reference_needs_no_scheme() {
        for (text, expected) in [
            ("ghcr.io/lab/debian:13", "oras://ghcr.io/lab/debian:13"),
            ("registry.lan:5000/os/debian:13", "oras://registry.lan:5000/os/debian:13"),
            ("ghcr.io/lab/debian@sha256:ab", "oras://ghcr.io/lab/debian@sha256:ab"),
            ("https://h/a.img", "https://h/a.img"),
            ("h.example/a.img", "h.example/a.img"),
            ("/srv/a:b", "/srv/a:b"),
            ("", ""),
        ] {
            assert_eq!(address(text), expected);
        }
    }
}
