//! The page of the cache host.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::form::Fields;
use super::notice::{Notice, redirect_with_result};
use super::{Frame, render};
use crate::cache::fill::Fill;
use crate::domain::error::{Error, Result};
use crate::domain::time::Time;
use crate::http::api::cache::{key, own, start};
use crate::services::app::App;
use crate::store::cache::{self as rows, ObjectRecord};

/// As many objects and misses are shown.
const ROWS_MAX: usize = 500;

/// The cache host.
#[derive(Template)]
#[template(path = "cache.html")]
struct CachePage {
    /// The frame.
    frame: Frame,
    /// So much is taken.
    used: String,
    /// More it may not have.
    max: Option<String>,
    /// Only what an operator asks for is fetched.
    is_curated: bool,
    /// So many objects there are.
    total: usize,
    /// The last used ones.
    objects: Vec<ObjectRow>,
    /// What is on its way.
    fills: Vec<FillRow>,
    /// What was asked for and not there.
    misses: Vec<MissRow>,
}

/// An object of the cache.
struct ObjectRow {
    /// Its key.
    key: String,
    /// Where it came from.
    address: String,
    /// Its size.
    size: String,
    /// Its digest.
    sha256: String,
    /// How often it was asked for.
    hits: u64,
    /// When it was last asked for.
    used: String,
    /// It is kept for ever.
    is_pinned: bool,
}

/// An object on its way to the cache.
struct FillRow {
    /// Its key.
    key: String,
    /// Where it comes from.
    address: String,
    /// So much of it is here.
    done: String,
    /// Its size.
    total: String,
    /// Since when.
    since: String,
}

/// What was asked for and not in the cache.
struct MissRow {
    /// Its address.
    address: String,
    /// How often.
    count: u64,
    /// When last.
    last: String,
}

/// The page.
pub async fn page(State(app): State<Arc<App>>, frame: Frame) -> Result<Response> {
    let cache = own(&app)?;
    let missed = app.db.read(|conn| rows::misses(conn, 100)).await?;
    let shown = |time: Time| frame.text(time);
    let objects = cache.objects();
    let total = objects.len();
    let object = |facts: ObjectRecord| ObjectRow {
        key: facts.key.to_string(),
        size: bty::size::human(facts.size_bytes),
        sha256: facts.sha256.to_string(),
        hits: facts.hits,
        used: shown(facts.used_at),
        is_pinned: facts.is_pinned,
        address: facts.address,
    };
    let fill = |fill: Arc<Fill>| FillRow {
        key: fill.key.to_string(),
        address: fill.address.clone(),
        done: bty::size::human(fill.done_bytes()),
        total: fill
            .head()
            .and_then(|head| head.len_bytes)
            .map_or_else(|| "?".into(), bty::size::human),
        since: shown(fill.started_at),
    };
    let fills: Vec<FillRow> = cache.fills().into_iter().map(fill).collect();
    let misses: Vec<MissRow> = missed
        .into_iter()
        .map(|miss| MissRow { address: miss.address, count: miss.count, last: shown(miss.last_at) })
        .collect();
    let objects_shown: Vec<ObjectRow> = objects.into_iter().take(ROWS_MAX).map(object).collect();
    let page = CachePage {
        used: bty::size::human(cache.used_bytes()),
        max: cache.options.max_bytes.map(bty::size::human),
        is_curated: cache.options.is_curated,
        total,
        objects: objects_shown,
        fills,
        misses,
        frame,
    };
    render(&page)
}

/// A form of the page.
pub async fn act(State(app): State<Arc<App>>, fields: Fields) -> Response {
    redirect_with_result(&app, "/ui/cache", done(&app, &fields).await.map(Notice::done))
}

async fn done(app: &Arc<App>, fields: &Fields) -> Result<&'static str> {
    let cache = own(app)?;
    let of = || key(fields.text("key"));
    match fields.text("act") {
        "fetch" => {
            let sha256 = fields.maybe("sha256");
            start(cache, fields.text("url"), sha256.as_deref()).await?;
            Ok("It is being fetched.")
        }
        "delete" => cache
            .evict(&of()?)
            .await
            .map(|()| "It is deleted: who asks for it has it fetched again."),
        "pin" => cache.pin(&of()?, true).await.map(|_| "It is pinned: it is not evicted."),
        "unpin" => cache.pin(&of()?, false).await.map(|_| "It is no longer pinned."),
        "cancel" => {
            cache.cancel(&of()?).map(|()| "The fetch is cancelled. What is here of it is kept.")
        }
        "forget" => app
            .db
            .write(|t| rows::forget_misses(t, None).map(drop))
            .await
            .map(|()| "They are forgotten."),
        _ => Err(Error::invalid("there is no such act")),
    }
}
