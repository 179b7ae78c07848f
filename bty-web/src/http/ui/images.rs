//! The catalog.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use url::form_urlencoded;

use super::columns::{Column, Head, columns, down, key, up};
use super::form::Fields;
use super::notice::{Notice, Undo, redirect_with_result};
use super::{Frame, render};
use crate::domain::error::{Error, Problem, Result};
use crate::domain::machine::ClientContext;
use crate::http::api::catalog::{self as api, NewEntry, Of, Perhaps};
use crate::http::extract::{Json, Params};
use crate::http::guard;
use crate::services::app::App;
use crate::services::catalog::Imported;
use crate::store::{self, catalog::Stored};

/// What is to be shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ImageFilter {
    q: String,
    sort: String,
}

impl ImageFilter {
    fn sorted_by(&self, sort: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.q.is_empty() {
            query.append_pair("q", &self.q);
        }
        format!("/ui/images?{}", query.append_pair("sort", sort).finish())
    }

    fn sort(&self, rows: &mut [Row]) {
        let (column, is_down) = key(&self.sort);
        match column {
            "size" => rows.sort_by_key(|row| row.image.size_bytes),
            "format" => rows.sort_by(|a, b| a.image.format.cmp(&b.image.format)),
            "arch" => rows.sort_by(|a, b| a.image.arch.cmp(&b.image.arch)),
            "sha256" => rows.sort_by(|a, b| a.image.disk_image_sha.cmp(&b.image.disk_image_sha)),
            "machines" => rows.sort_by_key(|row| row.machines),
            "source" => rows.sort_by(|a, b| a.image.src.cmp(&b.image.src)),
            // they come by name
            _ => {}
        }
        if is_down {
            rows.reverse();
        }
    }
}

/// The columns.
const HEADS: [Head; 7] = [
    up("Name", "name"),
    down("Size", "size"),
    up("Format", "format"),
    up("Arch", "arch"),
    up("SHA-256", "sha256"),
    down("Machines", "machines"),
    up("Source", "source"),
];

#[derive(Template)]
#[template(path = "images.html")]
struct Images {
    frame: Frame,
    wanted: ImageFilter,
    rows: Vec<Row>,
    columns: Vec<Column>,
    total: usize,
    catalog_url: String,
    has_cache: bool,
}

struct Row {
    image: Stored,
    size: String,
    is_cached: bool,
    machines: i64,
}

/// The page.
pub async fn page(
    State(app): State<Arc<App>>,
    who: ClientContext,
    frame: Frame,
    Params(wanted): Params<ImageFilter>,
) -> Result<Response> {
    let (entries, machines) = app
        .db
        .read(|conn| Ok((store::catalog::all(conn)?, store::machines::count_by_image(conn)?)))
        .await?;
    let machines: HashMap<String, i64> = machines.into_iter().collect();
    let total = entries.len();
    let needle = wanted.q.trim().to_lowercase();
    let row = |image: Stored| Row {
        size: image.size_bytes.map_or_else(String::new, bty::size::human),
        is_cached: app.image_router.is_cached(&image),
        machines: machines.get(&image.bty_image_ref).copied().unwrap_or_default(),
        image,
    };
    let mut rows: Vec<Row> = entries
        .into_iter()
        .filter(|image| needle.is_empty() || has(image, &needle))
        .map(row)
        .collect();
    wanted.sort(&mut rows);
    let page = Images {
        columns: columns(&HEADS, &wanted.sort, |sort| wanted.sorted_by(sort)),
        rows,
        catalog_url: app.snapshot().settings.get("upstream.catalog_url").to_owned(),
        has_cache: app.image_router.host(&who.base).is_some(),
        total,
        wanted,
        frame,
    };
    render(&page)
}

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

/// A form of the page.
pub async fn act(
    State(app): State<Arc<App>>,
    who: ClientContext,
    by: guard::Principal,
    fields: Fields,
) -> Response {
    let done = done(&app, who, by, &fields).await;
    redirect_with_result(&app, "/ui/images", done)
}

async fn done(
    app: &Arc<App>,
    who: ClientContext,
    by: guard::Principal,
    fields: &Fields,
) -> Result<Notice> {
    let state = || State(Arc::clone(app));
    let of = || Params(Perhaps { src: fields.maybe("key") });
    match fields.text("act") {
        "add" => {
            let new = NewEntry {
                image_url: fields.text("image_url").to_owned(),
                sha_url: fields.maybe("sha_url"),
                reference: None,
                name: fields.maybe("name"),
                description: fields.maybe("description"),
            };
            let (_, axum::Json(stored)) = api::add(state(), who, Json(new)).await?;
            Ok(Notice::done(format!("{} is in the catalog.", stored.name)))
        }
        "import" => {
            let source = Params(api::From { source: fields.text("source").to_owned() });
            let axum::Json(imported) = api::import(state(), source, who, by).await?;
            Ok(told(&imported))
        }
        "check" => {
            let axum::Json(checked) = api::check(state(), of()).await?;
            Ok(looked(&checked))
        }
        "refresh" => {
            let axum::Json(refreshed) = api::refresh(state(), of(), who).await?;
            let errors =
                refreshed.errors.into_iter().map(|e| Problem::new(e.name, e.error)).collect();
            let text = match refreshed.moved.as_slice() {
                [] => format!("{} tags were looked at: none has moved.", refreshed.checked),
                moved => format!(
                    "{} tags were looked at: {} have moved.",
                    refreshed.checked,
                    moved.join(", ")
                ),
            };
            Ok(Notice { problems: errors, ..Notice::done(text) })
        }
        "warm" => {
            let axum::Json(images) = api::warm(state(), of(), who).await?;
            Ok(Notice::done(format!("The cache host was told to fetch {} images.", images.len())))
        }
        "delete" => {
            let src = fields.text("key").to_owned();
            let wanted = src.clone();
            let known = app.db.read(move |conn| store::catalog::by_src(conn, &wanted)).await?;
            api::delete(state(), Params(Of { src: src.clone() }), who).await?;
            let notice = Notice::done(format!("{src} is deleted. No import brings it back."));
            Ok(match known {
                Some((stored, _)) => notice.or(Undo::Image(Box::new(stored))),
                None => notice,
            })
        }
        _ => Err(Error::invalid("there is no such act")),
    }
}

/// What came of an import.
#[must_use]
pub fn told(imported: &Imported) -> Notice {
    let text = format!(
        "{} images were imported, {} updated, {} left as they are.",
        imported.imported, imported.updated, imported.skipped
    );
    let problems =
        imported.errors.iter().map(|e| Problem::new(e.name.clone(), e.error.clone())).collect();
    Notice { problems, ..Notice::done(text) }
}

fn looked(checked: &[bty::catalog::EntryCheck]) -> Notice {
    let wrong: Vec<Problem> = checked
        .iter()
        .flat_map(|check| {
            check.problems.iter().map(|problem| Problem::new(check.name.clone(), problem.clone()))
        })
        .collect();
    let text = match (checked, checked.iter().filter(|check| !check.is_ok()).count()) {
        ([one], 0) => format!("{} is where the catalog says, and as it says.", one.name),
        (all, 0) => format!("All {} images are where the catalog says, and as it says.", all.len()),
        (all, n) => format!("{n} of {} images are not as the catalog says.", all.len()),
    };
    Notice { is_wrong: !wrong.is_empty(), problems: wrong, ..Notice::done(text) }
}
