//! The operator: password, sessions, tokens of programs.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};

use super::form::Fields;
use super::notice::{Notice, redirect_with_notice, redirect_with_result};
use super::{Frame, render};
use crate::blocking::blocking;
use crate::domain::error::{Error, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::machine::ClientContext;
use crate::http::api::access::{self as api, NewToken};
use crate::http::extract::{Json, PathText};
use crate::http::guard;
use crate::services::app::App;
use crate::services::auth::{Scope, hash_password};
use crate::store::access::{self, ApiToken, OpenSession};

#[derive(Template)]
#[template(path = "account.html")]
struct Account {
    frame: Frame,
    password_origin: String,
    sessions: Vec<OpenSession>,
    /// Digest of the token of this session.
    own: String,
    tokens: Vec<ApiToken>,
    scopes: [Scope; 5],
}

/// The page.
pub async fn page(
    State(app): State<Arc<App>>,
    by: guard::Principal,
    frame: Frame,
) -> Result<Response> {
    let now = frame.now;
    let (sessions, tokens) =
        app.db.read(move |conn| Ok((access::sessions(conn, now)?, access::tokens(conn)?))).await?;
    let own = match by {
        guard::Principal::Session { token_sha256, .. } => token_sha256,
        _ => String::new(),
    };
    let password_origin = app.config.values["admin.password"].1.to_string();
    render(&Account { frame, password_origin, sessions, own, tokens, scopes: Scope::ALL })
}

/// A form of the page.
pub async fn act(
    State(app): State<Arc<App>>,
    who: ClientContext,
    by: guard::Principal,
    fields: Fields,
) -> Response {
    if fields.text("act") == "end-all" {
        return match api::end_sessions(State(Arc::clone(&app)), who).await {
            Ok(_) => Redirect::to("/ui/login").into_response(),
            Err(error) => redirect_with_notice(&app, "/ui/account", error),
        };
    }
    let done = done(&app, who, by, &fields).await;
    redirect_with_result(&app, "/ui/account", done)
}

async fn done(
    app: &Arc<App>,
    who: ClientContext,
    by: guard::Principal,
    fields: &Fields,
) -> Result<Notice> {
    match fields.text("act") {
        "token" => token(app, who, fields).await,
        "revoke" => {
            let id = fields.text("key").to_owned();
            api::revoke(State(Arc::clone(app)), PathText(id), who).await?;
            Ok(Notice::done("The token is revoked: programs that use it are refused from now on."))
        }
        "end" => {
            let sha256 = fields.text("key").to_owned();
            let ended = app
                .db
                .write(move |transaction| {
                    let ended = access::end_sessions(transaction, Some(&sha256))?;
                    let event = NewEvent::new(
                        "auth.sessions.revoked",
                        "sessions",
                        format!("{ended} sessions were ended"),
                    );
                    transaction.record(&event.by(Actor::Operator, who.ip.as_deref()))?;
                    Ok(ended)
                })
                .await?;
            Ok(Notice::done(format!("{ended} sessions were ended.")))
        }
        "hash" => hash(app, &who, by, fields).await,
        _ => Err(Error::invalid("there is no such act")),
    }
}

async fn token(app: &Arc<App>, who: ClientContext, fields: &Fields) -> Result<Notice> {
    let scopes: Vec<Scope> = Scope::ALL
        .into_iter()
        .filter(|scope| fields.all("scope").any(|s| s == scope.as_str()))
        .collect();
    let days = match fields.maybe("days") {
        Some(text) => Some(text.parse().map_err(|_| Error::invalid("days is a whole number"))?),
        None => None,
    };
    let new = NewToken { name: fields.text("name").to_owned(), scopes, days };
    let (_, axum::Json(made)) = api::create(State(Arc::clone(app)), who, Json(new)).await?;
    let text = format!("The token for {} is made.", fields.text("name"));
    Ok(Notice { secret: Some(made.token), ..Notice::done(text) })
}

/// A new password as it can stand in the configuration. The server does not write its own
/// configuration.
async fn hash(
    app: &Arc<App>,
    who: &ClientContext,
    by: guard::Principal,
    fields: &Fields,
) -> Result<Notice> {
    let (now, new, again) = (
        fields.raw("now").to_owned(),
        fields.raw("new").to_owned(),
        fields.raw("again").to_owned(),
    );
    if new.chars().count() < 8 {
        return Err(Error::invalid("a password has at least 8 characters"));
    }
    if new != again {
        return Err(Error::invalid("the two new passwords are not the same"));
    }
    let needs_proof = matches!(by, guard::Principal::Session { .. });
    if needs_proof && !app.auth.check_password(who.address(), now).await? {
        return Err(Error::invalid("that is not the current password"));
    }
    let secret = blocking(move || hash_password(&new)).await??;
    let text = "Put this into admin.password of the configuration, or into BTY_ADMIN_PASSWORD, and start the server again:";
    Ok(Notice { secret: Some(secret), ..Notice::done(text) })
}
