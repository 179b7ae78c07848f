//! Login and logout.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::cookie::{Cookie, SameSite, SignedCookieJar};
use serde::Deserialize;

use super::form::Fields;
use super::frame::Frame;
use super::render::render;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::machine::ClientContext;
use crate::http::guard;
use crate::services::access::{self, Principal};
use crate::services::app::App;

/// Shows the form. Redirects a browser that is already logged in.
pub async fn page(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response> {
    if app.auth.is_open() || guard::session(&app, &headers).await?.is_some() {
        return Ok(Redirect::to(app.home()).into_response());
    }
    render(&Login { frame: Frame::outside(&app), error: None })
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login {
    frame: Frame,
    /// Why the last attempt failed.
    error: Option<String>,
}

/// The submitted form.
#[derive(Deserialize)]
pub struct Password {
    password: String,
}

/// Opens a session if the password is correct.
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
    let token = match access::log_in(&app, &who, form.password).await {
        Ok(Some(token)) => token,
        Ok(None) => {
            let error = Some("Invalid password.".into());
            return render(&Login { frame: Frame::outside(&app), error });
        }
        Err(error) if error.kind == ErrorKind::Throttled => return throttled(&app, &error),
        Err(error) => return Err(error),
    };
    let cookie = Cookie::build((app.auth.cookie, token))
        .path(cookie_path(&app))
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(who.base.starts_with("https://"))
        .build();
    let jar = SignedCookieJar::from_headers(&headers, app.auth.key.clone()).add(cookie);
    Ok((jar, Redirect::to(app.home())).into_response())
}

/// Shows the form again, with the time to wait.
fn throttled(app: &App, error: &Error) -> Result<Response> {
    let mut response =
        render(&Login { frame: Frame::outside(app), error: Some(error.detail.clone()) })?;
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    Ok(response)
}

/// Returns the path of the session cookie, so that other servers on this host do not receive it.
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
    principal: Principal,
    headers: HeaderMap,
    _fields: Fields,
) -> Result<Response> {
    let Principal::Session { token_sha256, .. } = principal else {
        return Ok(Redirect::to("/ui/login").into_response());
    };
    access::log_out(&app, &who, token_sha256).await?;
    let jar = SignedCookieJar::from_headers(&headers, app.auth.key.clone());
    let gone = Cookie::build((app.auth.cookie, "")).path(cookie_path(&app)).build();
    Ok((jar.remove(gone), Redirect::to("/ui/login")).into_response())
}
