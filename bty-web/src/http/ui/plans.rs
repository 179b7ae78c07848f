//! The list of plans.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::frame::Frame;
use super::render::render;
use crate::domain::error::Result;
use crate::domain::plan::PlanSummary;
use crate::services::plan_edits::PlanEdits;
use crate::services::snapshot::Snapshots;

#[derive(Template)]
#[template(path = "plans.html")]
struct Plans {
    frame: Frame,
    plans: Vec<PlanSummary>,
    /// The default plan of unknown machines.
    default: String,
}

/// Shows the list.
pub async fn page(
    State(plans): State<PlanEdits>,
    State(snapshots): State<Arc<Snapshots>>,
    frame: Frame,
) -> Result<Response> {
    let plans = plans.list().await?;
    let default = snapshots.current().settings.get("plans.default").to_owned();
    render(&Plans { frame, plans, default })
}
