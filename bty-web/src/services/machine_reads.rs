//! Read access to machines for pages and the API.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Event;
use crate::domain::mac::Mac;
use crate::domain::machine::Machine;
use crate::domain::machine::architecture::mismatch;
use crate::domain::machine::search::MachineSearch;
use crate::domain::machine::silence::SilenceLimit;
use crate::domain::time::Time;
use crate::services::snapshot::Snapshots;
use crate::store::Database;
use crate::store::catalog::Stored;
use crate::store::events::Filter;
use crate::store::{catalog, events, machines, search};

pub use crate::store::machines::Brief;

/// Reads machines.
#[derive(Clone)]
pub struct MachineReads {
    pub(super) db: Database,
    snapshots: Arc<Snapshots>,
}

impl MachineReads {
    pub(crate) fn new(db: Database, snapshots: Arc<Snapshots>) -> Self {
        Self { db, snapshots }
    }

    /// How long live environments may be silent. Machines that exceed it are returned as stalled,
    /// before anything has recorded that they are.
    pub(super) fn silence_limit(&self) -> SilenceLimit {
        self.snapshots.current().silence_limit(Time::now())
    }

    /// Parses the text of a search.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when it is too long.
    pub fn search(&self, text: &str) -> Result<MachineSearch> {
        MachineSearch::parse(text, &self.snapshots.current().names)
    }

    /// Returns what is odd about the assignment of a machine, one sentence each.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails.
    pub async fn warnings(&self, machine: &Machine) -> Result<Vec<String>> {
        let (name, this) = (machine.name.clone(), machine.clone());
        let others =
            self.db.read(move |conn| search::namesakes(conn, &this, NAMESAKES_SHOWN)).await?;
        let warning = format!("other machines have the name {name} too: {}", others.join(", "));
        Ok(self
            .mismatch(machine)
            .into_iter()
            .chain((!others.is_empty()).then_some(warning))
            .collect())
    }

    /// Returns why the image of `machine` does not start on it, according to the last inventory.
    fn mismatch(&self, machine: &Machine) -> Option<String> {
        let snapshot = self.snapshots.current();
        let catalog = bty::catalog::Catalog::parse(snapshot.catalog.as_bytes()).unwrap_or_default();
        let image = catalog.by_ref(&machine.image_ref.as_ref()?.parse().ok()?)?;
        mismatch(image.arch.as_deref(), &machine.hardware)
    }

    /// Returns the machine with this address; `None` if it is unknown.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails.
    pub async fn find(&self, mac: &Mac) -> Result<Option<Machine>> {
        let mac = mac.clone();
        let mut machine = self.db.read(move |conn| machines::find(conn, &mac)).await?;
        mark_stalled(machine.as_mut(), &self.silence_limit());
        Ok(machine)
    }

    /// Returns the machine with this address.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it is unknown.
    pub async fn get(&self, mac: &Mac) -> Result<Machine> {
        self.find(mac).await?.ok_or_else(|| Error::not_found(format!("the machine {mac}")))
    }

    /// Calls `visit` with each machine that `search` finds, sorted by address, until it returns
    /// false. Blocks, and
    /// holds a snapshot of the database from the first call on, so `visit` must not wait for long.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails; otherwise the error of `visit`.
    pub fn visit_blocking(
        &self,
        search: &MachineSearch,
        mut visit: impl FnMut(Machine) -> Result<bool>,
    ) -> Result<()> {
        let limit = self.silence_limit();
        let visit = |mut machine: Machine| {
            mark_stalled(Some(&mut machine), &limit);
            visit(machine)
        };
        self.db.read_blocking(|conn| machines::each(conn, search, visit))
    }

    /// Returns the few columns that long lists show, for all machines that a search finds, sorted
    /// by address, with the number of all machines and the plans that they have.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails.
    pub async fn summaries(&self, search: MachineSearch) -> Result<FleetList> {
        let limit = self.silence_limit();
        let read = move |conn: &_| {
            let plans = machines::count_by_plan(conn)?;
            Ok(FleetList {
                found: machines::briefs(conn, &search, &limit)?,
                total: plans.iter().map(|(_, count)| usize::try_from(*count).unwrap_or(0)).sum(),
                plans: plans.into_iter().map(|(plan, _)| plan).collect(),
            })
        };
        self.db.read(read).await
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
        let read = move |conn: &_| match machines::find(conn, &wanted)? {
            Some(machine) => machines::lshw(conn, &machine.mac),
            None => Ok(None),
        };
        self.db.read(read).await?.ok_or_else(|| no_inventory(mac))
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
        let (mac, limit) = (mac.clone(), self.silence_limit());
        let filter = Filter {
            subject_kind: Some("machine".into()),
            subject_id: Some(mac.to_string()),
            ..Filter::default()
        };
        let read = self.db.read(move |conn| {
            let mut machine = machines::find(conn, &mac)?;
            mark_stalled(machine.as_mut(), &limit);
            Ok(MachineDetails {
                machine,
                lshw: machines::lshw(conn, &mac)?,
                images: catalog::all(conn)?,
                events: events::list(conn, &filter, EVENTS_SHOWN)?,
            })
        });
        read.await
    }
}

/// The machines that a search finds, and what the fleet has besides.
pub struct FleetList {
    /// The machines, sorted by address.
    pub found: Vec<Brief>,
    /// Number of all machines.
    pub total: usize,
    /// Names of the plans that machines have, sorted.
    pub plans: Vec<String>,
}

/// Maximum number of machines of the same name in a warning.
const NAMESAKES_SHOWN: u32 = 5;

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

/// Marks a machine that is stalled but not yet recorded as such.
fn mark_stalled(machine: Option<&mut Machine>, limit: &SilenceLimit) {
    if let Some(machine) = machine {
        machine.mark_stalled(limit);
    }
}

const EVENTS_SHOWN: u32 = 30;

fn no_inventory(mac: &Mac) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("the machine {mac} does not exist, or has posted no inventory"),
    )
}
