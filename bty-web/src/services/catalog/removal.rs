//! Deleting images, with their users in mind.

use serde_json::json;

use super::CatalogEdits;
use crate::domain::catalog_image::ImageNames;
use crate::domain::error::{Error, ErrorKind, Problem, Result};
use crate::domain::event::NewEvent;
use crate::domain::machine::search::MachineSearch;
use crate::domain::machine::{ClientContext, Machine};
use crate::services::snapshot::Snapshot;
use crate::store::{self, Connection, catalog::Stored};

/// Maximum number of users that an error lists.
const USERS_SHOWN: usize = 50;

const SRC_CHARS_SHOWN: usize = 512;

/// Who uses an image, and how, as one sentence each.
#[derive(Default)]
struct ImageUsers {
    machines: Vec<(Machine, String)>,
    plans: Vec<(String, String)>,
}

impl CatalogEdits {
    /// Deletes an entry. Later imports do not restore it. With `is_forced`, deletes it even if it
    /// is used, and puts the machines that use it on hold.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`] when it is not in the catalog.
    /// - [`ErrorKind::Conflict`] with all users, when machines or plans use it.
    pub async fn delete(&self, caller: &ClientContext, src: String, is_forced: bool) -> Result<()> {
        // no machine may be assigned the image meanwhile
        let _held = self.machines.lock_all().await;
        let (author, now) = (caller.author(), caller.now);
        let snapshot = self.snapshots.current();
        self.db
            .write(move |transaction| {
                let entry = match store::catalog::by_src(transaction, &src)? {
                    Some((entry, false)) if entry.src == src => entry,
                    _ => {
                        let shown: String = src.chars().take(SRC_CHARS_SHOWN).collect();
                        return Err(Error::not_found(format!("the image {shown}")));
                    }
                };
                let users = ImageUsers::find(transaction, &snapshot, &entry)?;
                if !is_forced {
                    users.refuse_if_any(&entry)?;
                }
                store::catalog::delete(transaction, &src, now)?;
                let macs: Vec<_> = users.machines.iter().map(|(machine, _)| &machine.mac).collect();
                let details = json!({ "name": entry.name, "machines": macs });
                let event =
                    NewEvent::new("catalog.entry.deleted", src.clone(), format!("deleted {src}"));
                transaction.record(&event.caused_by(&author).with(details))?;
                let reason = format!("its image {} was deleted from the catalog", entry.name);
                for (machine, _) in users.machines {
                    let event = hold(transaction, machine, &reason)?;
                    transaction.record(&event.caused_by(&author))?;
                }
                Ok(())
            })
            .await?;
        self.snapshots.refresh().await
    }
}

/// Puts a machine on hold. Returns the event that records it.
fn hold(conn: &Connection, mut machine: Machine, reason: &str) -> Result<NewEvent> {
    machine.put_on_hold(reason);
    store::machines::put(conn, &machine)?;
    let summary = format!("{}: on hold: {reason}", machine.mac);
    let event = NewEvent::new("machine.upserted", machine.mac.as_str(), summary);
    Ok(event.with(json!({ "boot_mode": machine.plan, "hold": reason })))
}

impl ImageUsers {
    fn find(conn: &Connection, snapshot: &Snapshot, entry: &Stored) -> Result<Self> {
        let names = ImageNames { name: &entry.name, image_ref: &entry.bty_image_ref };
        let mut users = Self::default();
        store::machines::each(conn, &MachineSearch::default(), |machine| {
            let how = names.used_by_machine(&machine, snapshot.plan(&machine.plan));
            users.machines.extend(how.map(|how| (machine, how)));
            Ok(true)
        })?;
        let own = snapshot.plans.values();
        users.plans =
            own.filter_map(|plan| Some((plan.name.clone(), names.used_by_plan(plan)?))).collect();
        users.plans.sort();
        Ok(users)
    }

    fn refuse_if_any(&self, entry: &Stored) -> Result<()> {
        if self.machines.is_empty() && self.plans.is_empty() {
            return Ok(());
        }
        let count = |n, what: &str| (n > 0).then(|| bty::text::count(n, what));
        let counts = [count(self.machines.len(), "machine"), count(self.plans.len(), "plan")];
        let detail = format!(
            "{} is used by {}; assign another image first, or delete it by force (force=true, \
             bty-web image delete --force), which puts the machines on hold",
            entry.name,
            counts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
        );
        let plans = self.plans.iter().map(|(plan, how)| (format!("plan {plan}"), how));
        let machines = self.machines.iter().map(|(machine, how)| (machine.mac.to_string(), how));
        let problems = plans.chain(machines).map(|(at, how)| Problem::new(at, how));
        let problems = problems.take(USERS_SHOWN).collect();
        Err(Error::new(ErrorKind::Conflict, detail).with_problems(problems))
    }
}
