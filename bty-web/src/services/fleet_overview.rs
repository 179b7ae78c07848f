//! An overview of the fleet, for the dashboard and for metrics.

use crate::domain::error::Result;
use crate::domain::event::Event;
use crate::domain::machine::search::MachineSearch;
use crate::domain::machine::{Machine, Phase};
use crate::services::machine_reads::MachineReads;
use crate::store::catalog;
use crate::store::events::{self, Filter};
use crate::store::machines::{self, Brief};

/// The fleet at one moment.
pub struct FleetOverview {
    /// All machines, sorted by address.
    pub machines: Vec<Brief>,
    /// The first machines whose live environment is working.
    pub working: Vec<Machine>,
    /// Number of images in the catalog.
    pub images: usize,
    /// The most recent events, newest first.
    pub events: Vec<Event>,
    /// True once any machine has booted from the network.
    pub has_contact: bool,
    /// True once any machine has been flashed.
    pub has_flash: bool,
}

impl FleetOverview {
    /// Returns the number of machines in trouble, and how many of them are stalled.
    #[must_use]
    pub fn troubled(&self) -> (usize, usize) {
        let is_troubled = |machine: &&Brief| machine.status().phase() == Phase::Trouble;
        let troubled: Vec<&Brief> = self.machines.iter().filter(is_troubled).collect();
        let stalled = troubled.iter().filter(|machine| machine.status().is_stalled()).count();
        (troubled.len(), stalled)
    }
}

const EVENTS_SHOWN: u32 = 10;

impl MachineReads {
    /// Reads an overview of the fleet, with at most `working_max` working machines.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when the database fails.
    pub async fn overview(&self, working_max: usize) -> Result<FleetOverview> {
        let limit = self.silence_limit();
        let read = move |conn: &_| {
            let briefs = machines::briefs(conn, &MachineSearch::default(), &limit)?;
            let working = briefs
                .iter()
                .filter(|machine| machine.status().phase() == Phase::Working)
                .take(working_max)
                .filter_map(|machine| machines::get(conn, &machine.mac.parse().ok()?).transpose())
                .collect::<Result<_>>()?;
            Ok(FleetOverview {
                working,
                images: catalog::all(conn)?.len(),
                events: events::list(conn, &Filter::default(), EVENTS_SHOWN)?,
                has_contact: events::has_kind(conn, "machine.discovered")?
                    || events::has_kind(conn, "netboot.pxe.offered")?,
                has_flash: events::has_kind(conn, "machine.flashed")?,
                machines: briefs,
            })
        };
        self.db.read(read).await
    }
}
