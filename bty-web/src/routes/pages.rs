//! Pages for people: log-in, and a plain list of machines.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum_extra::extract::cookie::{Cookie, SameSite, SignedCookieJar};
use serde::Deserialize;

use crate::app::App;
use crate::auth::Scope;
use crate::auth::guard::{self, Guard, guard};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Actor, NewEvent};
use crate::machine::{Machine, Who};
use crate::pages::{Frame, Login, Machines, Row, render};
use crate::store::{self, access};
use crate::time::Time;

mod cache;

/// As many machines are listed.
const ROWS_MAX: usize = 500;

pub(super) fn router(app: &Arc<App>) -> Router<Arc<App>> {
    let page = Guard { app: Arc::clone(app), scope: Scope::Admin, is_page: true };
    let guarded = Router::new().route("/ui/machines", get(machines)).route_layer(from_fn_with_state(page, guard));
    Router::new().route("/ui/dashboard", get(home)).merge(guarded).merge(cache_router(app))
}

/// Pages of a cache host.
pub(super) fn cache_router(app: &Arc<App>) -> Router<Arc<App>> {
    let page = Guard { app: Arc::clone(app), scope: Scope::Admin, is_page: true };
    let guarded = Router::new()
        .route("/ui/cache", get(cache::page).post(cache::act))
        .route("/ui/logout", post(log_out))
        .route_layer(from_fn_with_state(page, guard));
    Router::new()
        .route("/", get(|| async { Redirect::to("/ui/login") }))
        .route("/ui", get(home))
        .route("/ui/login", get(login).post(log_in))
        .route("/static/bty.css", get(css))
        .merge(guarded)
}

async fn home(State(app): State<Arc<App>>) -> Redirect {
    Redirect::to(app.home())
}

async fn css() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=3600")];
    (headers, include_str!("../../static/bty.css")).into_response()
}

async fn login(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response> {
    if app.auth.is_open() || guard::session(&app, &headers).await?.is_some() {
        return Ok(Redirect::to(app.home()).into_response());
    }
    render(&Login { frame: outside(&app), error: None })
}

fn outside(app: &App) -> Frame {
    Frame::of(app, "", false)
}

#[derive(Deserialize)]
struct Password {
    password: String,
}

async fn log_in(
    State(app): State<Arc<App>>,
    who: Who,
    headers: HeaderMap,
    form: std::result::Result<Form<Password>, axum::extract::rejection::FormRejection>,
) -> Result<Response> {
    let Form(form) = form.map_err(|e| Error::new(ErrorKind::Malformed, format!("the form: {}", e.body_text())))?;
    if app.auth.is_open() {
        return Ok(Redirect::to(app.home()).into_response());
    }
    let ip: IpAddr = who.ip.as_deref().and_then(|ip| ip.parse().ok()).unwrap_or(IpAddr::from([0, 0, 0, 0]));
    if let Err(error) = app.auth.check_guesses(ip, who.now) {
        let event = NewEvent::new("auth.login.throttled", "admin", "a log-in had to wait");
        app.tell(event.by(Actor::Operator, who.ip.as_deref())).await?;
        let mut response = render(&Login { frame: outside(&app), error: Some(error.detail.clone()) })?;
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        if let Some(seconds) = error.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        return Ok(response);
    }
    let shared = Arc::clone(&app);
    let is_right = tokio::task::spawn_blocking(move || shared.auth.is_password(&form.password)).await;
    let is_right = is_right.map_err(Error::internal)?;
    app.auth.guessed(ip, is_right, who.now);
    if !is_right {
        let event = NewEvent::new("auth.login.failed", "admin", "a log-in failed");
        app.tell(event.by(Actor::Operator, who.ip.as_deref())).await?;
        return render(&Login { frame: outside(&app), error: Some("Invalid password.".into()) });
    }
    let token = super::access::open_session(&app, who.ip.clone(), who.now).await?;
    let cookie = Cookie::build((app.auth.cookie, token))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(who.base.starts_with("https://"))
        .build();
    let jar = SignedCookieJar::from_headers(&headers, app.auth.key.clone()).add(cookie);
    Ok((jar, Redirect::to(app.home())).into_response())
}

#[derive(Deserialize)]
struct Csrf {
    #[serde(default)]
    csrf: String,
}

async fn log_out(
    State(app): State<Arc<App>>,
    who: Who,
    by: guard::Who,
    headers: HeaderMap,
    form: std::result::Result<Form<Csrf>, axum::extract::rejection::FormRejection>,
) -> Result<Response> {
    let given = form.map(|Form(form)| form.csrf).unwrap_or_default();
    let guard::Who::Session { token_sha256, csrf } = by else { return Ok(Redirect::to("/ui/login").into_response()) };
    if given != csrf {
        return Err(Error::new(ErrorKind::Forbidden, "the form is not from this session: load the page again"));
    }
    app.db
        .write(move |transaction| {
            access::end_sessions(transaction, Some(&token_sha256))?;
            let event = NewEvent::new("auth.logout", "admin", "somebody logged out");
            transaction.tell(&event.by(Actor::Operator, who.ip.as_deref())).map(drop)
        })
        .await?;
    let jar = SignedCookieJar::from_headers(&headers, app.auth.key.clone());
    let gone = Cookie::build((app.auth.cookie, "")).path("/").build();
    Ok((jar.remove(gone), Redirect::to("/ui/login")).into_response())
}

async fn machines(State(app): State<Arc<App>>, by: guard::Who) -> Result<Response> {
    let read = app.db.read(|conn| {
        let mut machines = Vec::new();
        store::machines::each(conn, |machine| {
            machines.push(machine);
            Ok(machines.len() < ROWS_MAX)
        })?;
        Ok((machines, store::machines::count(conn)?, store::catalog::all(conn)?))
    });
    let (machines, total, images) = read.await?;
    let total = usize::try_from(total).unwrap_or_default();
    let snapshot = app.snapshot();
    let shown = |time: Option<Time>| {
        let zoned = time.map(|time| time.timestamp().to_zoned_datetime(snapshot.zone.clone()));
        zoned.map_or_else(String::new, |zoned| zoned.strftime("%Y-%m-%d %H:%M:%S %Z").to_string())
    };
    let row = |machine: Machine| Row {
        image: image_name(&machine, &images),
        state: machine.boot_state(),
        last_seen: shown(machine.last_seen_at),
        last_flashed: shown(machine.flashed.as_ref().map(|flashed| flashed.at)),
        last_ip: machine.last_seen_ip.unwrap_or_default(),
        mac: machine.mac.to_string(),
        labels: machine.labels,
        plan: machine.plan,
    };
    let rows = machines.into_iter().map(row).collect();
    let frame = Frame::of(&app, by.csrf(), true);
    render(&Machines { frame, total, rows })
}

fn image_name(machine: &Machine, images: &[store::catalog::Stored]) -> String {
    let bound = machine.image_ref.as_ref();
    let found = bound.and_then(|image| images.iter().find(|entry| entry.bty_image_ref == *image));
    match (found, bound) {
        (Some(entry), _) => entry.name.clone(),
        (None, Some(image)) => format!("{}… (not in the catalog)", image.chars().take(8).collect::<String>()),
        (None, None) => String::new(),
    }
}
