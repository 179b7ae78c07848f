//! Limits how many machines are in the live environment at once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::error::Result;
use crate::domain::mac::Mac;
use crate::domain::time::Time;
use crate::store::{self, Database};

/// Time in milliseconds after which a machine that sends nothing no longer counts: it was switched
/// off, or waits for a person.
const SILENT_MS: i64 = 60 * 60 * 1000;

/// The machines that are about to enter the live environment: their boot cycles are not written
/// yet. Clones share them.
#[derive(Clone)]
pub(crate) struct BootSlots {
    db: Database,
    reserved: Arc<Mutex<HashSet<Mac>>>,
}

/// The place of a machine. Keep it until the boot cycle of the machine is written.
pub(crate) struct BootSlot {
    mac: Mac,
    reserved: Arc<Mutex<HashSet<Mac>>>,
}

impl BootSlots {
    pub(crate) fn new(db: Database) -> Self {
        Self { db, reserved: Arc::default() }
    }

    /// Returns a place for `mac`; `None` if `max` other machines are in the live environment.
    /// Blocks.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when the database cannot
    /// be read.
    pub(crate) fn take(&self, mac: &Mac, max: usize, now: Time) -> Result<Option<BootSlot>> {
        // read with the lock held: a slot that is given up meanwhile is in the database
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.plus_ms(-SILENT_MS);
        let working = self.db.read_blocking(|conn| store::search::working(conn, since))?;
        let mut others: HashSet<&str> = working.iter().map(String::as_str).collect();
        others.extend(reserved.iter().map(Mac::as_str));
        others.remove(mac.as_str());
        if others.len() >= max {
            return Ok(None);
        }
        reserved.insert(mac.clone());
        Ok(Some(BootSlot { mac: mac.clone(), reserved: Arc::clone(&self.reserved) }))
    }
}

impl Drop for BootSlot {
    fn drop(&mut self) {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.mac);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::machine::{Cycle, Machine, Stage};

    fn mac(n: u8) -> Mac {
        format!("52:54:00:00:00:{n:02x}").parse().unwrap()
    }

    fn working(n: u8, heard_at: Time) -> Machine {
        let cycle = Cycle {
            token: String::new(),
            opened_at: heard_at,
            opened_by: None,
            stage: Stage::Working,
            is_tokenless: false,
            fallback: None,
            has_inventory: false,
            is_inventory_unreadable: false,
            order: None,
            progress: None,
            heard_at,
            stalled_at: None,
            is_past: false,
            silent_before: 0,
        };
        Machine { cycle: Some(cycle), ..Machine::new(mac(n), "bty-flash-once", Time(1)) }
    }

    #[test]
    fn machines_at_work_and_those_about_to_be_count() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("state.db"), ()).unwrap();
        let now = Time(10 * SILENT_MS);
        db.write_blocking(move |t| {
            store::machines::put(t, &working(1, now))?;
            // switched off long ago
            store::machines::put(t, &working(2, Time(SILENT_MS)))?;
            store::machines::put(t, &Machine::new(mac(3), "bty-flash-once", Time(1)))
        })
        .unwrap();
        let slots = BootSlots::new(db);
        let take = |n, max| slots.take(&mac(n), max, now).unwrap();
        assert!(take(4, 1).is_none());
        assert!(take(1, 1).is_some(), "its own place");
        let third = take(4, 2);
        assert!(third.is_some() && take(5, 2).is_none());
        drop(third);
        assert!(take(5, 2).is_some());
    }
}
