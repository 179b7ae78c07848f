//! The admin's account: password, sessions, and tokens of programs.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};

use super::form::Fields;
use super::frame::Frame;
use super::notice::{Notice, Notices};
use super::render::render;
use crate::config::Config;
use crate::domain::error::{Error, Result};
use crate::domain::machine::ClientContext;
use crate::services::access::{Access, ApiToken, NewToken, OpenSession, PasswordChange, Principal};
use crate::services::auth::Scope;

#[derive(Template)]
#[template(path = "account.html")]
struct Account {
    frame: Frame,
    /// Where the password is set.
    password_origin: String,
    sessions: Vec<OpenSession>,
    /// Digest of the current session's token; empty without a session.
    own_token_sha256: String,
    tokens: Vec<ApiToken>,
    scopes: [Scope; 5],
}

/// Shows the account page.
pub async fn page(
    State(access): State<Access>,
    State(config): State<Arc<Config>>,
    principal: Principal,
    frame: Frame,
) -> Result<Response> {
    let own_token_sha256 = match principal {
        Principal::Session { token_sha256, .. } => token_sha256,
        _ => String::new(),
    };
    render(&Account {
        sessions: access.sessions(frame.now).await?,
        tokens: access.tokens().await?,
        password_origin: config.values["admin.password"].1.to_string(),
        own_token_sha256,
        scopes: Scope::ALL,
        frame,
    })
}

/// Handles the forms of the page.
pub async fn submit(
    State(access): State<Access>,
    who: ClientContext,
    principal: Principal,
    notices: Notices,
    fields: Fields,
) -> Response {
    if fields.text("act") == "end-all" {
        return match access.end_sessions(&who, None).await {
            Ok(_) => Redirect::to("/ui/login").into_response(),
            Err(error) => notices.redirect("/ui/account", error),
        };
    }
    notices.redirect("/ui/account", handle(&access, &who, &principal, &fields).await)
}

async fn handle(
    access: &Access,
    who: &ClientContext,
    principal: &Principal,
    fields: &Fields,
) -> Result<Notice> {
    match fields.text("act") {
        "token" => create_token(access, who, fields).await,
        "revoke" => {
            access.revoke_token(who, fields.text("key")).await?;
            let text = "The token is revoked. The server rejects it from now on.";
            Ok(Notice::success(text))
        }
        "end" => {
            let ended = access.end_sessions(who, Some(fields.text("key").to_owned())).await?;
            Ok(Notice::success(format!("Sessions ended: {ended}.")))
        }
        "hash" => hash_password(access, who, principal, fields).await,
        _ => Err(Error::invalid("unknown action")),
    }
}

async fn create_token(access: &Access, who: &ClientContext, fields: &Fields) -> Result<Notice> {
    let is_checked = |scope: &Scope| fields.all("scope").any(|name| name == scope.as_str());
    let scopes: Vec<Scope> = Scope::ALL.into_iter().filter(is_checked).collect();
    let days = fields.optional("days").map(|days| days.parse()).transpose();
    let days = days.map_err(|_| Error::invalid("days must be a whole number"))?;
    let name = fields.text("name").to_owned();
    let text = format!("Token {name} is created.");
    let created = access.create_token(who, NewToken { name, scopes, days }).await?;
    Ok(Notice { secret: Some(created.token), ..Notice::success(text) })
}

async fn hash_password(
    access: &Access,
    who: &ClientContext,
    principal: &Principal,
    fields: &Fields,
) -> Result<Notice> {
    let change = PasswordChange {
        current: fields.raw("now").to_owned(),
        new: fields.raw("new").to_owned(),
        repeated: fields.raw("again").to_owned(),
    };
    let hash = access.hash_new_password(who, principal, change).await?;
    let text = "Set admin.password or BTY_ADMIN_PASSWORD to this value, and restart the server:";
    Ok(Notice { secret: Some(hash), ..Notice::success(text) })
}
