//! The plans.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::{Frame, render};
use crate::domain::error::Result;
use crate::domain::plan::Summary;
use crate::http::api;
use crate::services::app::App;

#[derive(Template)]
#[template(path = "plans.html")]
struct Plans {
    frame: Frame,
    plans: Vec<Summary>,
    /// The plan of machines that are not known.
    default: String,
}

/// The page.
pub async fn page(State(app): State<Arc<App>>, frame: Frame) -> Result<Response> {
    let axum::Json(plans) = api::plans::list(State(Arc::clone(&app))).await?;
    let default = app.snapshot().settings.get("plans.default").to_owned();
    render(&Plans { frame, plans, default })
}
