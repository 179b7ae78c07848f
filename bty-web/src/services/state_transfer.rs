//! Export and import of the whole state on request of an operator.

use std::sync::Arc;

use crate::domain::error::Result;
use crate::domain::machine::ClientContext;
use crate::services::event_log::EventLog;
use crate::services::machines::Machines;
use crate::services::snapshot::Snapshots;
use crate::services::transfer::{self, Bundle, ImportRules, ImportSummary};
use crate::store::Database;

/// Exports and imports the whole state.
#[derive(Clone)]
pub struct StateTransfer {
    db: Database,
    machines: Arc<Machines>,
    snapshots: Arc<Snapshots>,
    events: EventLog,
}

impl StateTransfer {
    pub(crate) fn new(
        db: Database,
        machines: Arc<Machines>,
        snapshots: Arc<Snapshots>,
        events: EventLog,
    ) -> Self {
        Self { db, machines, snapshots, events }
    }

    /// Exports everything but the audit log, sessions and tokens.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when the database fails.
    pub async fn export(&self) -> Result<Bundle> {
        self.db.read(transfer::export).await
    }

    /// Imports an export, or a bundle of the reference. Machines whose plans may write to disks are
    /// put on hold: they boot their disks until an operator saves them, unless `rules` arm them.
    ///
    /// # Errors
    /// The errors of [`transfer::import`]; a failure is also recorded in the audit log.
    pub async fn import(
        &self,
        who: &ClientContext,
        bundle: serde_json::Value,
        rules: ImportRules,
    ) -> Result<ImportSummary> {
        let (author, now) = (who.author(), who.now);
        // no machine may change while the import reads and writes it
        let held = self.machines.lock_all().await;
        let imported = self
            .db
            .write(move |transaction| transfer::import(transaction, bundle, rules, &author, now))
            .await;
        drop(held);
        match imported {
            Ok(summary) => {
                self.snapshots.refresh().await?;
                Ok(summary)
            }
            Err(error) => {
                self.events.record(transfer::failed(&error, &who.author())).await?;
                Err(error)
            }
        }
    }
}
