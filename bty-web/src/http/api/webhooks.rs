//! Webhooks: their state, and tests of them. The configuration file defines them.

use axum::extract::State;

use crate::domain::error::Result;
use crate::http::error::ErrorBody;
use crate::http::extract::PathText;
use crate::services::webhooks::{WebhookStatus, WebhookTest, Webhooks};

/// Lists the webhooks of the configuration, and how far each one has come in the log of events.
#[utoipa::path(
    get, path = "/webhooks", tag = "webhooks",
    responses((status = 200, body = Vec<WebhookStatus>), (status = 401, body = ErrorBody)),
)]
pub(crate) async fn list(
    State(webhooks): State<Webhooks>,
) -> Result<axum::Json<Vec<WebhookStatus>>> {
    webhooks.list().await.map(axum::Json)
}

/// Sends a message of the type `webhook.test` to a webhook.
///
/// It is sent at once, even while events wait for delivery.
#[utoipa::path(
    post, path = "/webhooks/{name}/test", tag = "webhooks", params(("name" = String, Path)),
    responses(
        (status = 200, body = WebhookTest), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 502, body = ErrorBody),
    ),
)]
pub(crate) async fn test(
    State(webhooks): State<Webhooks>,
    PathText(name): PathText,
) -> Result<axum::Json<WebhookTest>> {
    webhooks.test(&name).await.map(axum::Json)
}
