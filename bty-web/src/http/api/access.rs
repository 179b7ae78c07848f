//! Tokens of programs, and browser sessions.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use crate::domain::error::Result;
use crate::domain::machine::ClientContext;
use crate::http::error::ErrorBody;
use crate::http::extract::{Json, PathText};
use crate::services::access::{Access, ApiToken, CreatedToken, NewToken};

/// Lists all tokens, including revoked ones, without their secrets.
#[utoipa::path(
    get, path = "/tokens", tag = "access",
    responses(
        (status = 200, body = Vec<ApiToken>), (status = 401, body = ErrorBody),
    ),
)]
pub(crate) async fn tokens(State(access): State<Access>) -> Result<axum::Json<Vec<ApiToken>>> {
    access.tokens().await.map(axum::Json)
}

/// Creates a token.
///
/// Only this response contains the secret; the server stores just a digest of it.
#[utoipa::path(
    post, path = "/tokens", tag = "access", request_body = NewToken,
    responses(
        (status = 201, body = CreatedToken), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn create(
    State(access): State<Access>,
    who: ClientContext,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, axum::Json<CreatedToken>)> {
    let created = access.create_token(&who, new).await?;
    Ok((StatusCode::CREATED, axum::Json(created)))
}

/// Revokes a token.
#[utoipa::path(
    delete, path = "/tokens/{id}", tag = "access", params(("id" = i64, Path)),
    responses(
        (status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub(crate) async fn revoke(
    State(access): State<Access>,
    PathText(id): PathText,
    who: ClientContext,
) -> Result<StatusCode> {
    access.revoke_token(&who, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Number of ended sessions.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct EndedSessions {
    ended: usize,
}

/// Ends all browser sessions.
#[utoipa::path(
    delete, path = "/sessions", tag = "access",
    responses(
        (status = 200, body = EndedSessions), (status = 401, body = ErrorBody),
    ),
)]
pub(crate) async fn end_sessions(
    State(access): State<Access>,
    who: ClientContext,
) -> Result<axum::Json<EndedSessions>> {
    let ended = access.end_sessions(&who, None).await?;
    Ok(axum::Json(EndedSessions { ended }))
}
