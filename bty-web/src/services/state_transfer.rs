//! Export and import of the whole state on request of an operator.

use std::sync::Arc;

use crate::domain::error::Result;
use crate::domain::machine::ClientContext;
use crate::services::app::App;
use crate::services::transfer::{self, Bundle, Summary};

/// Exports everything but the audit log, sessions and tokens.
///
/// # Errors
/// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when the database fails.
pub async fn export(app: &App) -> Result<Bundle> {
    app.db.read(transfer::export).await
}

/// Imports an export, or a bundle of the reference. Machines whose plans may write to disks are put
/// on hold: they boot their disks until an operator saves their assignments, unless `is_armed`.
///
/// # Errors
/// The errors of [`transfer::import`]; a failure is also recorded in the audit log.
pub async fn import(
    app: &Arc<App>,
    who: &ClientContext,
    bundle: serde_json::Value,
    is_armed: bool,
) -> Result<Summary> {
    let now = who.now;
    // no machine may change while the import reads and writes it
    let held = app.machines.lock_all().await;
    let imported =
        app.db.write(move |transaction| transfer::import(transaction, bundle, is_armed, now)).await;
    drop(held);
    match imported {
        Ok(summary) => {
            app.snapshots.refresh().await?;
            Ok(summary)
        }
        Err(error) => {
            app.record(transfer::failed(&error)).await?;
            Err(error)
        }
    }
}
