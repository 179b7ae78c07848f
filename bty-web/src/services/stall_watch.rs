//! Looks for machines that have fallen silent, and records them.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::machine::silence::apply_silence;
use crate::domain::time::Time;
use crate::services::machines::{MachineView, Machines};
use crate::services::shutdown::Shutdown;
use crate::services::snapshot::Snapshots;
use crate::store::Database;
use crate::store::machines::newly_stalled;

/// Time between two searches. A search reads only machines with an open boot cycle.
const EVERY: Duration = Duration::from_secs(5);

/// Records stalled machines. Lists and pages show them as stalled even before.
pub struct StallWatch {
    db: Database,
    machines: Arc<Machines>,
    snapshots: Arc<Snapshots>,
}

impl StallWatch {
    pub(crate) fn new(db: Database, machines: Arc<Machines>, snapshots: Arc<Snapshots>) -> Self {
        Self { db, machines, snapshots }
    }

    /// Searches until the server stops. Logs a failure, and tries again.
    pub async fn run(self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.stopped() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Err(error) = self.search(Time::now()).await {
                tracing::warn!(%error, "cannot look for stalled machines");
            }
        }
    }

    async fn search(&self, now: Time) -> Result<()> {
        let limit = self.snapshots.current().silence_limit(now);
        if limit.after_ms == 0 {
            return Ok(());
        }
        for mac in self.db.read(move |conn| newly_stalled(conn, &limit)).await? {
            let wanted = mac.clone();
            // under the lock: the machine may have been heard since
            let decide = move |view: &MachineView<'_>| {
                let machine = view.machine.as_ref();
                let machine =
                    machine.ok_or_else(|| Error::not_found(format!("the machine {wanted}")))?;
                Ok(apply_silence(machine, &limit))
            };
            match self.machines.update(&mac, decide, |_, _| Ok(())).await {
                // deleted since
                Err(error) if error.kind == ErrorKind::NotFound => {}
                result => result.map(drop)?,
            }
        }
        Ok(())
    }
}
