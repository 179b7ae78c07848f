//! The page of the cache host.

use std::sync::Arc;

use axum::extract::{Form, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use url::form_urlencoded;

use crate::app::App;
use crate::auth::guard;
use crate::cache::object::{Facts, Fill};
use crate::error::{Error, ErrorKind, Result};
use crate::extract::Params;
use crate::pages::{CachePage, FillRow, Frame, MissRow, ObjectRow, render};
use crate::routes::cache::{key, own, start};
use crate::store::cache as rows;
use crate::time::Time;

/// As many objects and misses are shown.
const ROWS_MAX: usize = 500;

/// While something is on its way the page is loaded again after so many seconds.
const REFRESH_S: u32 = 3;

#[derive(Deserialize)]
pub(super) struct Flash {
    error: Option<String>,
}

pub(super) async fn page(
    State(app): State<Arc<App>>,
    by: guard::Who,
    Params(flash): Params<Flash>,
) -> Result<Response> {
    let cache = own(&app)?;
    let missed = app.db.read(|conn| rows::misses(conn, 100)).await?;
    let zone = app.snapshot().zone.clone();
    let shown =
        |time: Time| time.timestamp().to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string();
    let objects = cache.objects();
    let total = objects.len();
    let object = |facts: Facts| ObjectRow {
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
        total: fill.opened().and_then(|opened| opened.len_bytes).map_or_else(|| "?".into(), bty::size::human),
        since: shown(fill.started_at),
    };
    let fills: Vec<FillRow> = cache.fills().into_iter().map(fill).collect();
    let is_busy = !fills.is_empty();
    let page = CachePage {
        frame: Frame::of(&app, by.csrf(), true),
        error: flash.error,
        used: bty::size::human(cache.used_bytes()),
        max: cache.options.max_bytes.map(bty::size::human),
        is_curated: cache.options.is_curated,
        total,
        objects: objects.into_iter().take(ROWS_MAX).map(object).collect(),
        fills,
        misses: missed
            .into_iter()
            .map(|miss| MissRow { address: miss.address, count: miss.count, last: shown(miss.last_at) })
            .collect(),
    };
    let mut response = render(&page)?;
    if is_busy {
        response.headers_mut().insert(header::REFRESH, HeaderValue::from(REFRESH_S));
    }
    Ok(response)
}

/// A form of the page.
#[derive(Deserialize)]
pub(super) struct Act {
    #[serde(default)]
    csrf: String,
    act: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    sha256: String,
}

pub(super) async fn act(
    State(app): State<Arc<App>>,
    by: guard::Who,
    form: std::result::Result<Form<Act>, axum::extract::rejection::FormRejection>,
) -> Result<Response> {
    let Form(form) = form.map_err(|e| Error::new(ErrorKind::Malformed, format!("the form: {}", e.body_text())))?;
    if form.csrf != by.csrf() {
        return Err(Error::new(ErrorKind::Forbidden, "the form is not from this session: load the page again"));
    }
    let to = match done(&app, &form).await {
        Ok(()) => "/ui/cache".to_owned(),
        Err(error) => {
            let text: String = form_urlencoded::byte_serialize(error.detail.as_bytes()).collect();
            format!("/ui/cache?error={text}")
        }
    };
    Ok(Redirect::to(&to).into_response())
}

async fn done(app: &Arc<App>, form: &Act) -> Result<()> {
    let cache = own(app)?;
    match form.act.as_str() {
        "fetch" => {
            let sha256 = Some(form.sha256.trim()).filter(|sha256| !sha256.is_empty());
            start(cache, &form.url, sha256).await.map(drop)
        }
        "delete" => cache.delete(&key(&form.key)?).await,
        "pin" => cache.pin(&key(&form.key)?, true).await.map(drop),
        "unpin" => cache.pin(&key(&form.key)?, false).await.map(drop),
        "cancel" => cache.cancel(&key(&form.key)?),
        "forget" => app.db.write(|t| rows::forget_misses(t, None).map(drop)).await,
        _ => Err(Error::invalid("there is no such act")),
    }
}
