//! The cache host: its objects, fetches and misses.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::form::Fields;
use super::frame::Frame;
use super::notice::{Notice, Notices};
use super::render::render;
use crate::domain::error::{Error, Result};
use crate::services::cache_control::{
    CacheControl, CacheFill, CachedObject, NewObject, PackedForm,
};

const OBJECTS_SHOWN: usize = 500;
const MISSES_SHOWN: usize = 100;

#[derive(Template)]
#[template(path = "cache.html")]
struct CachePage {
    frame: Frame,
    used: String,
    max: Option<String>,
    is_curated: bool,
    /// Number of all objects; `objects` contains only the most recently used ones.
    total: usize,
    objects: Vec<ObjectRow>,
    fills: Vec<FillRow>,
    misses: Vec<MissRow>,
}

struct ObjectRow {
    key: String,
    address: String,
    size: String,
    packed: String,
    sha256: String,
    hits: u64,
    used: String,
    is_pinned: bool,
}

impl ObjectRow {
    fn new(object: CachedObject, frame: &Frame) -> Self {
        Self {
            size: bty::size::human(object.size_bytes),
            packed: match &object.packed {
                None => "not yet".to_owned(),
                Some(PackedForm { failure: Some(why), .. }) => format!("no: {why}"),
                Some(PackedForm { size_bytes: 0, .. }) => "as published".to_owned(),
                Some(packed) => bty::size::human(packed.size_bytes),
            },
            used: frame.text(object.used_at),
            key: object.key,
            address: object.address,
            sha256: object.sha256,
            hits: object.hits,
            is_pinned: object.is_pinned,
        }
    }
}

/// An object that is being fetched.
struct FillRow {
    key: String,
    address: String,
    done: String,
    total: String,
    since: String,
}

impl FillRow {
    fn new(fill: CacheFill, frame: &Frame) -> Self {
        Self {
            done: bty::size::human(fill.done_bytes),
            total: fill.total_bytes.map_or_else(|| "?".into(), bty::size::human),
            since: frame.text(fill.started_at),
            key: fill.key,
            address: fill.address,
        }
    }
}

struct MissRow {
    address: String,
    count: u64,
    last: String,
}

/// Shows the contents of the cache host.
pub async fn page(State(cache): State<CacheControl>, frame: Frame) -> Result<Response> {
    let state = cache.state().await?;
    let total = state.objects.len();
    let objects = state.objects.into_iter().take(OBJECTS_SHOWN);
    let misses = state.missed.into_iter().take(MISSES_SHOWN).map(|miss| MissRow {
        address: miss.address,
        count: miss.count,
        last: frame.text(miss.last_at),
    });
    render(&CachePage {
        used: bty::size::human(state.used_bytes),
        max: state.max_bytes.map(bty::size::human),
        is_curated: state.is_curated,
        total,
        objects: objects.map(|object| ObjectRow::new(object, &frame)).collect(),
        fills: state.fills.into_iter().map(|fill| FillRow::new(fill, &frame)).collect(),
        misses: misses.collect(),
        frame,
    })
}

/// Handles the forms of the page.
pub async fn submit(
    State(cache): State<CacheControl>,
    notices: Notices,
    fields: Fields,
) -> Response {
    notices.redirect("/ui/cache", handle(&cache, &fields).await.map(Notice::success))
}

async fn handle(cache: &CacheControl, fields: &Fields) -> Result<&'static str> {
    let key = fields.text("key");
    match fields.text("act") {
        "fetch" => {
            let url = fields.text("url").to_owned();
            cache.fetch(&NewObject { url, sha256: fields.optional("sha256") }).await?;
            Ok("The object is being fetched.")
        }
        "delete" => {
            cache.delete(key).await?;
            Ok("The object is deleted. The next request fetches it again.")
        }
        "pin" => {
            cache.set_pinned(key, true).await?;
            Ok("The object is pinned, and is never evicted.")
        }
        "unpin" => {
            cache.set_pinned(key, false).await?;
            Ok("The object is no longer pinned.")
        }
        "cancel" => {
            cache.cancel(key)?;
            Ok("The fetch is being cancelled. What it has received is discarded.")
        }
        "forget" => {
            cache.forget_misses().await?;
            Ok("The list of misses is cleared.")
        }
        _ => Err(Error::invalid("unknown action")),
    }
}
