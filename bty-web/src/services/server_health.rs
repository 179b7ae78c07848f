//! The server's health and metrics.

use crate::domain::error::Result;
use crate::services::app::App;
use crate::store::{events, machines};

/// Returns why the server cannot change its state; `None` if it can.
///
/// # Errors
/// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when it cannot read its state
/// either.
pub async fn shortage(app: &App) -> Result<Option<String>> {
    app.db.read(machines::count).await?;
    if app.db.is_full() {
        // an operator may have freed space since the last change failed
        let _ = app.db.try_write().await;
    }
    Ok(app.shortage())
}

/// Renders all metrics in the OpenMetrics text format.
///
/// # Errors
/// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when the database fails.
pub async fn metrics(app: &App) -> Result<String> {
    let read = app.db.read(|conn| Ok((machines::count(conn)?, events::tripwire(conn)?)));
    let (machines, failures) = read.await?;
    if let Some(cache) = &app.cache {
        app.metrics.cache(cache);
    }
    if let Some(tftp) = app.tftp.get() {
        app.metrics.tftp(&tftp.counters);
    }
    Ok(app.metrics.render(machines, failures))
}
