//! The log-in.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::cookie::{Cookie, SameSite, SignedCookieJar};
use serde::Deserialize;

use super::form::Fields;
use super::{Frame, render};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::machine::ClientContext;
use crate::http::guard;
use crate::services::app::App;
use crate::store::access;

/// The form.
pub async fn page(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response> {
    if app.auth.is_open() || guard::session(&app, &headers).await?.is_some() {
        return Ok(Redirect::to(app.home()).into_response());
    }
    render(&Login { frame: Frame::outside(&app), error: None })
}

/// The log-in form.
#[derive(Template)]
#[template(path = "login.html")]
struct Login {
    frame: Frame,
    /// Why the last attempt failed.
    error: Option<String>,
}

/// What the form sends.
#[derive(Deserialize)]
pub struct Password {
    password: String,
}

/// Begins a session.
pub async fn log_in(
    State(app): State<Arc<App>>,
    who: ClientContext,
    headers: HeaderMap,
    form: std::result::Result<Form<Password>, axum::extract::rejection::FormRejection>,
) -> Result<Response> {
    let Form(form) =
        form.map_err(|e| Error::new(ErrorKind::Malformed, format!("the form: {}", e.body_text())))?;
    if app.auth.is_open() {
        return Ok(Redirect::to(app.home()).into_response());
    }
    let is_right = match app.auth.check_password(who.address(), form.password).await {
        Ok(is_right) => is_right,
        Err(error) => return throttled(&app, &who, &error).await,
    };
    if !is_right {
        let event = NewEvent::new("auth.login.failed", "admin", "a log-in failed");
        app.record(event.by(Actor::Operator, who.ip.as_deref())).await?;
        return render(&Login {
            frame: Frame::outside(&app),
            error: Some("Invalid password.".into()),
        });
    }
    let token = crate::http::api::access::open_session(&app, who.ip.clone(), who.now).await?;
    let cookie = Cookie::build((app.auth.cookie, token))
        .path(cookie_path(&app))
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(who.base.starts_with("https://"))
        .build();
    let jar = SignedCookieJar::from_headers(&headers, app.auth.key.clone()).add(cookie);
    Ok((jar, Redirect::to(app.home())).into_response())
}

/// The form again, with the time to wait.
async fn throttled(app: &Arc<App>, who: &ClientContext, error: &Error) -> Result<Response> {
    let event = NewEvent::new("auth.login.throttled", "admin", "a log-in had to wait");
    app.record(event.by(Actor::Operator, who.ip.as_deref())).await?;
    let mut response =
        render(&Login { frame: Frame::outside(app), error: Some(error.detail.clone()) })?;
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    Ok(response)
}

/// The session is for this server only, which may share its host with others.
fn cookie_path(app: &App) -> String {
    match app.config.root() {
        root if root.is_empty() => "/".to_owned(),
        root => root,
    }
}

/// Ends the session.
pub async fn log_out(
    State(app): State<Arc<App>>,
    who: ClientContext,
    by: guard::Principal,
    headers: HeaderMap,
    _fields: Fields,
) -> Result<Response> {
    let guard::Principal::Session { token_sha256, .. } = by else {
        return Ok(Redirect::to("/ui/login").into_response());
    };
    app.db
        .write(move |transaction| {
            access::end_sessions(transaction, Some(&token_sha256))?;
            let event = NewEvent::new("auth.logout", "admin", "somebody logged out");
            transaction.record(&event.by(Actor::Operator, who.ip.as_deref())).map(drop)
        })
        .await?;
    let jar = SignedCookieJar::from_headers(&headers, app.auth.key.clone());
    let gone = Cookie::build((app.auth.cookie, "")).path(cookie_path(&app)).build();
    Ok((jar.remove(gone), Redirect::to("/ui/login")).into_response())
}
