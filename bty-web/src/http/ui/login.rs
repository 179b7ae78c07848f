//! Login and logout.

use std::net::SocketAddr;
use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{ConnectInfo, Form, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::cookie::{Cookie, SameSite, SignedCookieJar};
use serde::Deserialize;

use super::form::Fields;
use super::frame::{Frame, Frames};
use super::render::render;
use crate::config::Config;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::machine::ClientContext;
use crate::http::guard;
use crate::services::access::{Access, Principal};

/// Shows the form. Redirects a browser that is already logged in.
pub async fn page(
    State(access): State<Access>,
    State(config): State<Arc<Config>>,
    State(frames): State<Frames>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
) -> Result<Response> {
    let (frame, peer) = (frames.outside(), peer.map(|Extension(peer)| peer.0.ip()));
    if frame.is_open || guard::browser(&access, &config, peer, &headers).await?.is_some() {
        return Ok(Redirect::to(frame.home).into_response());
    }
    render(&Login { frame, error: None })
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
pub struct LoginForm {
    /// Empty for the admin.
    #[serde(default)]
    user: String,
    password: String,
}

/// Opens a session if the password is correct.
pub async fn log_in(
    State(access): State<Access>,
    State(frames): State<Frames>,
    who: ClientContext,
    headers: HeaderMap,
    form: std::result::Result<Form<LoginForm>, axum::extract::rejection::FormRejection>,
) -> Result<Response> {
    let Form(form) =
        form.map_err(|e| Error::new(ErrorKind::Malformed, format!("the form: {}", e.body_text())))?;
    let frame = frames.outside();
    if frame.is_open {
        return Ok(Redirect::to(frame.home).into_response());
    }
    let token = match access.log_in(&who, form.user.trim(), form.password).await {
        Ok(Some(token)) => token,
        Ok(None) => {
            let error = Some("Invalid user name or password.".into());
            return render(&Login { frame, error });
        }
        Err(error) if error.kind == ErrorKind::Throttled => return throttled(frame, &error),
        Err(error) => return Err(error),
    };
    let cookie = Cookie::build((access.auth().cookie, token))
        .path(cookie_path(&frame.root))
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(who.base.starts_with("https://"))
        .build();
    let jar = SignedCookieJar::from_headers(&headers, access.auth().key.clone()).add(cookie);
    Ok((jar, Redirect::to(frame.home)).into_response())
}

/// Shows the form again, with the time to wait.
fn throttled(frame: Frame, error: &Error) -> Result<Response> {
    let mut response = render(&Login { frame, error: Some(error.detail.clone()) })?;
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    Ok(response)
}

/// Returns the path of the session cookie, so that other servers on this host do not receive it.
fn cookie_path(root: &str) -> String {
    if root.is_empty() { "/".to_owned() } else { root.to_owned() }
}

/// Ends the session.
pub async fn log_out(
    State(access): State<Access>,
    State(config): State<Arc<Config>>,
    who: ClientContext,
    principal: Principal,
    headers: HeaderMap,
    _fields: Fields,
) -> Result<Response> {
    let Principal::Session { token_sha256, .. } = principal else {
        return Ok(Redirect::to("/ui/login").into_response());
    };
    access.log_out(&who, token_sha256).await?;
    let jar = SignedCookieJar::from_headers(&headers, access.auth().key.clone());
    let gone = Cookie::build((access.auth().cookie, "")).path(cookie_path(&config.root())).build();
    Ok((jar.remove(gone), Redirect::to("/ui/login")).into_response())
}
