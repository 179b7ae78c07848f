//! Tokens of programs, and the end of sessions.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::machine::ClientContext;
use crate::domain::time::Time;
use crate::http::error::ErrorBody;
use crate::http::extract::{Json, PathText};
use crate::services::app::App;
use crate::services::auth::{Scope, digest, secret};
use crate::store::access::{self, ApiToken};

/// All tokens, without what they are.
#[utoipa::path(get, path = "/tokens", tag = "access", responses((status = 200, body = Vec<ApiToken>), (status = 401, body = ErrorBody)))]
pub(crate) async fn tokens(State(app): State<Arc<App>>) -> Result<axum::Json<Vec<ApiToken>>> {
    app.db.read(access::tokens).await.map(axum::Json)
}

/// A token that is to be made.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// What it is for.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) scopes: Vec<Scope>,
    /// It ends after so many days.
    #[serde(default)]
    pub(crate) days: Option<u32>,
}

/// A token, shown this once.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Made {
    pub(crate) id: i64,
    /// For `Authorization: Bearer …`.
    pub(crate) token: String,
}

const NAME_CHARS_MAX: usize = 128;
const DAY_MS: i64 = 24 * 3600 * 1000;

/// Makes a token. It is shown once, and only its digest is kept.
#[utoipa::path(post, path = "/tokens", tag = "access", request_body = NewToken,
    responses((status = 201, body = Made), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    who: ClientContext,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, axum::Json<Made>)> {
    let name = new.name.trim().to_owned();
    if name.is_empty()
        || name.chars().count() > NAME_CHARS_MAX
        || name.chars().any(char::is_control)
    {
        return Err(Error::invalid(format!(
            "name is one line of 1 to {NAME_CHARS_MAX} characters"
        )));
    }
    if new.scopes.is_empty() {
        let all: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        return Err(Error::invalid(format!("scopes are some of {}", all.join(", "))));
    }
    let scopes: Vec<String> = new.scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
    let expires_at = new.days.map(|days| who.now.plus_ms(i64::from(days) * DAY_MS));
    let token = secret();
    let (sha256, ip) = (digest(&token), who.ip);
    let id = app
        .db
        .write(move |transaction| {
            let id = access::put_token(transaction, &name, &sha256, &scopes, who.now, expires_at)?;
            let event = NewEvent::new(
                "auth.token.created",
                id.to_string(),
                format!("a token for {name} was made"),
            );
            let details = json!({ "name": name, "scopes": scopes, "expires_at": expires_at });
            transaction.record(&event.by(Actor::Operator, ip.as_deref()).with(details))?;
            Ok(id)
        })
        .await?;
    Ok((StatusCode::CREATED, axum::Json(Made { id, token })))
}

/// Revokes a token.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "access", params(("id" = i64, Path)),
    responses((status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    PathText(id): PathText,
    who: ClientContext,
) -> Result<StatusCode> {
    let id: i64 =
        id.parse().map_err(|_| Error::new(ErrorKind::Malformed, "a token has a number"))?;
    app.db
        .write(move |transaction| {
            if !access::revoke_token(transaction, id, who.now)? {
                return Err(Error::not_found(format!("token {id}")));
            }
            let event = NewEvent::new(
                "auth.token.revoked",
                id.to_string(),
                format!("token {id} was revoked"),
            );
            transaction.record(&event.by(Actor::Operator, who.ip.as_deref())).map(drop)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How many sessions were ended.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct EndedSessions {
    pub(crate) ended: usize,
}

/// Ends all sessions of browsers.
#[utoipa::path(delete, path = "/sessions", tag = "access", responses((status = 200, body = EndedSessions), (status = 401, body = ErrorBody)))]
pub(crate) async fn end_sessions(
    State(app): State<Arc<App>>,
    who: ClientContext,
) -> Result<axum::Json<EndedSessions>> {
    let ended = app
        .db
        .write(move |transaction| {
            let ended = access::end_sessions(transaction, None)?;
            let event = NewEvent::new(
                "auth.sessions.revoked",
                "sessions",
                format!("{ended} sessions were ended"),
            );
            transaction.record(&event.by(Actor::Operator, who.ip.as_deref()))?;
            Ok(ended)
        })
        .await?;
    Ok(axum::Json(EndedSessions { ended }))
}

/// Keeps a session; gives its token.
pub(crate) async fn open_session(app: &App, ip: Option<String>, now: Time) -> Result<String> {
    let token = secret();
    let sha256 = digest(&token);
    let session = access::Session {
        csrf: secret(),
        expires_at: now.plus_ms(crate::services::auth::SESSION_MS),
    };
    app.db
        .write(move |transaction| {
            access::put_session(transaction, &sha256, &session, now, ip.as_deref())?;
            let event = NewEvent::new("auth.login.succeeded", "admin", "somebody logged in");
            transaction.record(&event.by(Actor::Operator, ip.as_deref())).map(drop)
        })
        .await?;
    Ok(token)
}
