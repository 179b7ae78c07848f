//! Read access to machines for pages and the API.

use std::collections::HashMap;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Event;
use crate::domain::mac::Mac;
use crate::domain::machine::Machine;
use crate::domain::time::Time;
use crate::store::Database;
use crate::store::catalog::Stored;
use crate::store::events::Filter;
use crate::store::{catalog, events, machines};

pub use crate::store::machines::Brief;

/// Reads machines.
#[derive(Clone)]
pub struct MachineReads {
    pub(super) db: Database,
}

impl MachineReads {
    pub(crate) fn new(db: Database) -> Self {
        Self { db }
    }

    /// Returns the machine with this address; `None` if it is unknown.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails.
    pub async fn find(&self, mac: &Mac) -> Result<Option<Machine>> {
        let mac = mac.clone();
        self.db.read(move |conn| machines::find(conn, &mac)).await
    }

    /// Returns the machine with this address.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it is unknown.
    pub async fn get(&self, mac: &Mac) -> Result<Machine> {
        self.find(mac).await?.ok_or_else(|| Error::not_found(format!("the machine {mac}")))
    }

    /// Calls `visit` with each machine, sorted by address, until it returns false. Blocks, and
    /// holds a snapshot of the database from the first call on, so `visit` must not wait for long.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails; otherwise the error of `visit`.
    pub fn visit_blocking(&self, visit: impl FnMut(Machine) -> Result<bool>) -> Result<()> {
        self.db.read_blocking(|conn| machines::each(conn, visit))
    }

    /// Returns the few columns that long lists show, for all machines, sorted by address.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails.
    pub async fn summaries(&self) -> Result<Vec<Brief>> {
        self.db.read(machines::briefs).await
    }

    /// Returns the number of machines assigned to each image, by its reference.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails.
    pub async fn counts_by_image(&self) -> Result<HashMap<String, i64>> {
        Ok(self.db.read(machines::count_by_image).await?.into_iter().collect())
    }

    /// Returns the hardware of a machine as `lshw -json` printed it, and when it was posted.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the machine is unknown, or has posted no inventory.
    pub async fn lshw(&self, mac: &Mac) -> Result<(String, Time)> {
        let wanted = mac.clone();
        let found = self.db.read(move |conn| machines::lshw(conn, &wanted)).await?;
        found.ok_or_else(|| no_inventory(mac))
    }

    /// Returns the disks of a machine as posted.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the machine is unknown, or has posted no inventory.
    pub async fn disks(&self, mac: &Mac) -> Result<serde_json::Value> {
        let machine = self.find(mac).await?;
        machine.and_then(|machine| machine.disks).ok_or_else(|| no_inventory(mac))
    }

    /// Returns everything that the page of a machine shows, from one snapshot of the database.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails.
    pub async fn details(&self, mac: &Mac) -> Result<MachineDetails> {
        let mac = mac.clone();
        let filter = Filter {
            subject_kind: Some("machine".into()),
            subject_id: Some(mac.to_string()),
            ..Filter::default()
        };
        let read = self.db.read(move |conn| {
            Ok(MachineDetails {
                machine: machines::find(conn, &mac)?,
                lshw: machines::lshw(conn, &mac)?,
                images: catalog::all(conn)?,
                events: events::list(conn, &filter, EVENTS_SHOWN)?,
            })
        });
        read.await
    }
}

/// A machine, and the other data on its page.
pub struct MachineDetails {
    /// The machine; `None` when it is unknown.
    pub machine: Option<Machine>,
    /// Its hardware as `lshw -json` printed it, and when it was posted.
    pub lshw: Option<(String, Time)>,
    /// The images that can be assigned to it.
    pub images: Vec<Stored>,
    /// Its most recent events, newest first.
    pub events: Vec<Event>,
}

const EVENTS_SHOWN: u32 = 30;

fn no_inventory(mac: &Mac) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("the machine {mac} does not exist, or has posted no inventory"),
    )
}
