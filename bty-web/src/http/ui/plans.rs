//! The list of plans.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::frame::Frame;
use super::render::render;
use crate::domain::error::Result;
use crate::domain::plan::Summary;
use crate::services::app::App;
use crate::services::plan_edits;

#[derive(Template)]
#[template(path = "plans.html")]
struct Plans {
    frame: Frame,
    plans: Vec<Summary>,
    /// The default plan of unknown machines.
    default: String,
}

/// Shows the list.
pub async fn page(State(app): State<Arc<App>>, frame: Frame) -> Result<Response> {
    let plans = plan_edits::list(&app).await?;
    let default = app.snapshot().settings.get("plans.default").to_owned();
    render(&Plans { frame, plans, default })
}
