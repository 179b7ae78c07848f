//! Pages for operators: what they show, and what their forms do.
//!
//! A page is a file here with its handlers, and a template of the same name. What forms change,
//! they change by the handlers of the API: pages know no other way. Pages are whole without
//! scripts; with them, regions that are marked `data-live` follow what happens, see [`live`].
//!
//! | file | what it is about |
//! |---|---|
//! | [`frame`] | what every page has: navigation, notices, times in the operator's zone |
//! | [`form`] | what a form has sent |
//! | [`columns`] | heads of tables that can be sorted by |
//! | [`notice`] | what is told after a form, and how it is undone |
//! | [`live`] | what pages follow |
//! | [`pictures`] | drawings |
//! | [`highlight`] | scripts in colours |
//! | [`assets`] | the style sheet and the scripts |

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};

use crate::domain::error::{Error, Result};
use crate::http::guard::{self, Guard};
use crate::services::app::App;
use crate::services::auth::Scope;

pub mod account;
pub mod assets;
pub mod backups;
pub mod cache;
pub mod columns;
pub mod dashboard;
pub mod docs;
pub mod events;
pub mod form;
pub mod frame;
pub mod highlight;
pub mod images;
pub mod live;
pub mod login;
pub mod machine;
pub mod machines;
pub mod netboot;
pub mod notice;
pub mod pictures;
pub mod plan;
pub mod plans;
pub mod settings;

pub use frame::Frame;

/// Every page.
pub fn router(app: &Arc<App>) -> Router<Arc<App>> {
    let pages = Router::new()
        .route("/ui/dashboard", get(dashboard::page))
        .route("/ui/machines", get(machines::page))
        .route("/ui/machines/add", post(machines::add))
        .route("/ui/machines/{mac}", get(machine::page).post(machine::save))
        .route("/ui/machines/{mac}/preview", post(machine::preview))
        .route("/ui/machines/{mac}/delete", post(machine::delete))
        .route("/ui/plans", get(plans::page).post(plan::save))
        .route("/ui/plans/new", get(plan::new))
        .route("/ui/plans/check", post(plan::check))
        .route("/ui/plans/{name}", get(plan::page))
        .route("/ui/plans/{name}/edit", get(plan::edit))
        .route("/ui/plans/{name}/roll-back", post(plan::roll_back))
        .route("/ui/plans/{name}/delete", post(plan::delete))
        .route("/ui/images", get(images::page).post(images::act))
        .route("/ui/netboot", get(netboot::page).post(netboot::act))
        .route("/ui/netboot/probe", get(netboot::probe))
        .route("/ui/backups", get(backups::page).post(backups::act))
        .route("/ui/backups/{id}", get(backups::download))
        .route("/ui/settings", get(settings::page).post(settings::act))
        .route("/ui/settings/configuration", post(settings::configure))
        .route("/ui/undo", post(notice::undo));
    cache_router(app).merge(guarded(app, pages))
}

/// The pages of a cache host.
pub fn cache_router(app: &Arc<App>) -> Router<Arc<App>> {
    let pages = Router::new()
        .route("/ui/cache", get(cache::page).post(cache::act))
        .route("/ui/events", get(events::page).post(events::act))
        .route("/ui/account", get(account::page).post(account::act))
        .route("/ui/live", get(live::stream))
        .route("/ui/logout", post(login::log_out));
    Router::new()
        .route("/", get(|| async { Redirect::to("/ui/login") }))
        .route("/ui", get(home))
        .route("/ui/login", get(login::page).post(login::log_in))
        .route("/static/{name}", get(assets::get))
        .merge(guarded(app, pages))
}

fn guarded(app: &Arc<App>, pages: Router<Arc<App>>) -> Router<Arc<App>> {
    let guard = Guard { app: Arc::clone(app), scope: Scope::Admin, is_page: true };
    pages
        .route_layer(from_fn_with_state(Arc::clone(app), errors_as_pages))
        .route_layer(from_fn_with_state(guard, guard::guard))
}

async fn home(State(app): State<Arc<App>>) -> Redirect {
    Redirect::to(app.home())
}

/// What went wrong, for people.
#[derive(Template)]
#[template(path = "error.html")]
struct Fault {
    frame: Frame,
    title: &'static str,
    error: Error,
}

/// What went wrong is a page for who looks at pages.
async fn errors_as_pages(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let who = request.extensions().get::<guard::Principal>().cloned();
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    let Some(error) = response.extensions_mut().remove::<Error>() else { return response };
    let title = response.status().canonical_reason().unwrap_or("Error");
    let Ok(frame) = Frame::of(&app, who.as_ref(), &path, None).await else { return response };
    let Ok(page) = (Fault { frame, title, error }).render() else { return response };
    response.headers_mut().remove(header::CONTENT_LENGTH);
    let (mut parts, _) = response.into_parts();
    parts
        .headers
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/html; charset=utf-8"));
    Response::from_parts(parts, page.into())
}

/// What went wrong, as a page for a browser that is not logged in.
pub fn outside_fault(app: &App, error: Error) -> Response {
    let status = error.kind.status();
    let title = status.canonical_reason().unwrap_or("Error");
    match (Fault { frame: Frame::outside(app), title, error: error.clone() }).render() {
        Ok(page) => (status, Html(page)).into_response(),
        Err(_) => error.into_response(),
    }
}

/// A size for people.
#[must_use]
pub fn size(bytes: impl std::borrow::Borrow<u64>) -> String {
    bty::size::human(*bytes.borrow())
}

/// How much of `total` is done, of a hundred; none of nothing.
#[must_use]
pub fn percent(done: u64, total: u64) -> u64 {
    let percent = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or_default();
    u64::try_from(percent).unwrap_or(100).min(100)
}

/// A page as an answer.
///
/// # Errors
/// When it cannot be rendered.
pub fn render(page: &impl Template) -> Result<Response> {
    Ok(Html(page.render().map_err(Error::internal)?).into_response())
}
