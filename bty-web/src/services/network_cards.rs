//! Several network cards of one machine: docks, adapters, second cards.

use std::sync::Arc;

use serde_json::json;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Author, NewEvent};
use crate::domain::mac::Mac;
use crate::domain::machine::firmware::{FirmwareId, best_match};
use crate::domain::machine::{ClientContext, Machine};
use crate::domain::time::Time;
use crate::services::machines::Machines;
use crate::services::metrics::Metrics;
use crate::services::snapshot::Snapshots;
use crate::store::{self, Connection, Database};

/// Maximum number of further network cards of one machine.
const CARDS_MAX: usize = 16;

/// Adds network cards to machines, and removes them.
#[derive(Clone)]
pub struct NetworkCards {
    pub(super) machines: Arc<Machines>,
    db: Database,
    snapshots: Arc<Snapshots>,
    metrics: Arc<Metrics>,
}

impl NetworkCards {
    pub(crate) fn new(
        machines: Arc<Machines>,
        db: Database,
        snapshots: Arc<Snapshots>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { machines, db, snapshots, metrics }
    }

    /// Returns the only machine with the firmware identity `id`, and the fields that are the same;
    /// `None` if the network card `mac` is known already.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database cannot be read.
    pub async fn match_unknown(
        &self,
        mac: &Mac,
        id: &FirmwareId,
    ) -> Result<Option<(Mac, Vec<&'static str>)>> {
        let (mac, id) = (mac.clone(), id.clone());
        let similar = move |conn: &_| {
            if store::machines::find(conn, &mac)?.is_some() {
                return Ok(None);
            }
            let candidates = store::machines::similar(conn, &mac, &id)?;
            Ok(best_match(&id, &candidates).map(|(owner, equal)| (owner.clone(), equal)))
        };
        self.db.read(similar).await
    }

    /// Adds the network card `card` to the machine `mac`, on request of an operator. If the card was
    /// a machine of its own, that machine and its assignment end.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`] when the machine is unknown.
    /// - [`ErrorKind::Conflict`] when the card belongs to another machine, or is at work.
    /// - [`ErrorKind::Invalid`] when it is the machine's own first card, or one too many.
    pub async fn add(&self, who: &ClientContext, mac: &Mac, card: &Mac) -> Result<Machine> {
        self.merge(who.author(), who.now, mac, card, "by an operator").await
    }

    /// Adds a network card, as [`add`](Self::add) does. `why` becomes a part of the event.
    ///
    /// # Errors
    /// Those of [`add`](Self::add).
    pub(super) async fn merge(
        &self,
        author: Author,
        now: Time,
        mac: &Mac,
        card: &Mac,
        why: &str,
    ) -> Result<Machine> {
        // neither machine may change meanwhile, and a contact must not write the old one back
        let _held = self.machines.lock_all().await;
        let (mac, card, why) = (mac.clone(), card.clone(), why.to_owned());
        let merged = self
            .db
            .write(move |transaction| {
                let mut machine = known(transaction, &mac)?;
                if machine.macs.contains(&card) {
                    return Ok((machine, false));
                }
                let gone = take_card(transaction, &machine, &card)?;
                let further = gone.iter().flat_map(|gone| gone.macs.iter().cloned());
                machine.macs.extend(further.chain([card.clone()]));
                machine.macs.sort();
                if machine.macs.len() > CARDS_MAX {
                    return Err(Error::invalid(format!(
                        "{mac} would have more than {CARDS_MAX} further network cards"
                    )));
                }
                machine.updated_at = now;
                store::machines::put(transaction, &machine)?;
                let summary =
                    format!("{}: {card} is another network card of it, {why}", machine.mac);
                let event = NewEvent::new("machine.merged", machine.mac.as_str(), summary);
                let plan = gone.map(|gone| gone.plan);
                let details = json!({ "card": card, "reason": why, "plan_of_card": plan });
                transaction.record(&event.caused_by(&author).with(details))?;
                Ok((machine, true))
            })
            .await?;
        self.finish(merged, "machine.merged").await
    }

    /// Removes the network card `card` from the machine `mac`. At its next boot, the server treats
    /// it as a new machine.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the machine is unknown, or has no such card.
    pub async fn remove(&self, who: &ClientContext, mac: &Mac, card: &Mac) -> Result<Machine> {
        let _held = self.machines.lock_all().await;
        let (mac, card, author, now) = (mac.clone(), card.clone(), who.author(), who.now);
        let split = self
            .db
            .write(move |transaction| {
                let mut machine = known(transaction, &mac)?;
                let before = machine.macs.len();
                machine.macs.retain(|known| *known != card);
                if machine.macs.len() == before {
                    return Err(Error::not_found(format!(
                        "the network card {card} of the machine {}",
                        machine.mac
                    )));
                }
                machine.updated_at = now;
                store::machines::put(transaction, &machine)?;
                let summary = format!("{}: {card} is no longer a network card of it", machine.mac);
                let event = NewEvent::new("machine.split", machine.mac.as_str(), summary);
                let details = json!({ "card": card });
                transaction.record(&event.caused_by(&author).with(details))?;
                Ok((machine, true))
            })
            .await?;
        self.finish(split, "machine.split").await
    }

    async fn finish(&self, changed: (Machine, bool), kind: &'static str) -> Result<Machine> {
        let (machine, has_changed) = changed;
        if has_changed {
            self.metrics.event(kind);
            self.snapshots.refresh().await?;
        }
        Ok(machine)
    }
}

fn known(conn: &Connection, mac: &Mac) -> Result<Machine> {
    let machine = store::machines::find(conn, mac)?;
    machine.ok_or_else(|| Error::not_found(format!("the machine {mac}")))
}

/// Deletes the machine of its own that `card` is, and returns it; `None` if the card is unknown.
fn take_card(conn: &Connection, machine: &Machine, card: &Mac) -> Result<Option<Machine>> {
    if machine.mac == *card {
        return Err(Error::invalid(format!("{card} is the machine itself")));
    }
    let conflict = |why: String| Err(Error::new(ErrorKind::Conflict, why));
    let Some(gone) = store::machines::find(conn, card)? else { return Ok(None) };
    if gone.mac != *card {
        return conflict(format!(
            "{card} is a network card of {}; remove it from that machine first",
            gone.mac
        ));
    }
    if gone.open_cycle().is_some() {
        return conflict(format!("{card} is at work; try again when its boot cycle has ended"));
    }
    store::machines::delete(conn, card)?;
    Ok(Some(gone))
}
