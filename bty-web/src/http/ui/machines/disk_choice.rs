//! The disks of machines: which can be chosen, and what is on them.

use std::collections::HashMap;

use bty_script::AssignedDisk;

use crate::domain::error::Result;
use crate::domain::mac::Mac;
use crate::domain::machine::Machine;
use crate::http::ui::hardware::{Disk, Hardware, disks};
use crate::services::machine_reads::{ListedMachine, MachineReads};

/// Maximum number of machines whose volumes are read: the description of the hardware of a machine
/// can be large.
const VOLUMES_MAX: usize = 20;

/// Machines, with the hardware of the first ones.
pub(super) struct MachineDisks {
    machines: HashMap<String, ListedMachine>,
    hardware: HashMap<String, Hardware>,
}

/// A disk that can be chosen.
pub(super) struct DiskChoice {
    /// By what it is assigned.
    pub(super) selector: String,
    /// Path, model, size and transport.
    pub(super) about: String,
    /// What is on it.
    pub(super) content: String,
    /// Why it cannot be chosen.
    pub(super) why_not: Option<&'static str>,
    pub(super) size_bytes: Option<u64>,
    pub(super) is_removable: bool,
    pub(super) is_chosen: bool,
}

impl MachineDisks {
    pub(super) async fn read(reads: &MachineReads, macs: &[Mac]) -> Result<Self> {
        let machines = reads.listed(macs.to_vec()).await?;
        let mut hardware = HashMap::new();
        for mac in macs.iter().take(VOLUMES_MAX) {
            if let Ok((text, _)) = reads.lshw(mac).await {
                hardware.insert(mac.to_string(), Hardware::read(Some(&text), mac));
            }
        }
        Ok(Self { machines, hardware })
    }

    /// Returns the machine with this address; `None` if it is unknown.
    pub(super) fn machine(&self, mac: &str) -> Option<&Machine> {
        self.machines.get(mac).map(|listed| &listed.machine)
    }

    fn disks(&self, mac: &str, names: &HashMap<String, String>) -> Vec<Disk> {
        let none = Hardware::default();
        let hardware = self.hardware.get(mac).unwrap_or(&none);
        self.machine(mac).map(|machine| disks(machine, hardware, names)).unwrap_or_default()
    }

    /// Returns the disks of a machine to choose from. `chosen` is what the operator has chosen, if
    /// anything; otherwise the assigned disk is chosen, or the only one that can be written and
    /// stays in the machine.
    pub(super) fn choices(
        &self,
        mac: &str,
        names: &HashMap<String, String>,
        chosen: Option<&str>,
    ) -> Vec<DiskChoice> {
        let disks = self.disks(mac, names);
        let preset = preset(&disks);
        let chosen = chosen.or(preset);
        let choice = |disk: &Disk| DiskChoice {
            about: disk.about(),
            content: disk.content(),
            why_not: why_not(disk),
            size_bytes: disk.size_bytes,
            is_removable: disk.is_removable,
            is_chosen: !disk.selector.is_empty() && chosen == Some(disk.selector.as_str()),
            selector: disk.selector.clone(),
        };
        disks.iter().map(choice).collect()
    }

    /// Returns what is known about the disk of a machine that `serial` names, and what is on it.
    pub(super) fn describe(
        &self,
        mac: &str,
        serial: &str,
        names: &HashMap<String, String>,
    ) -> String {
        let listed = self.machine(mac).and_then(|machine| machine.disks.as_ref()?.as_array());
        let place = AssignedDisk::parse(serial).ok().and_then(|assigned| {
            listed.and_then(|listed| listed.iter().position(|disk| assigned.matches(disk)))
        });
        let disks = self.disks(mac, names);
        match place.and_then(|at| disks.get(at)) {
            Some(disk) => format!("{}; on it: {}", disk.about(), disk.content()),
            None => "not in the inventory".into(),
        }
    }
}

fn why_not(disk: &Disk) -> Option<&'static str> {
    match (disk.is_readonly, disk.selector.is_empty()) {
        (true, _) => Some("read-only"),
        (_, true) => Some("nothing tells it from the other disks"),
        _ => None,
    }
}

/// Returns the disk to choose if the operator has not chosen any.
fn preset(disks: &[Disk]) -> Option<&str> {
    let mut fixed = disks.iter().filter(|disk| disk.is_fixed());
    let assigned = disks.iter().find(|disk| disk.is_target && why_not(disk).is_none());
    let only = match (fixed.next(), fixed.next()) {
        (Some(disk), None) => Some(disk),
        _ => None,
    };
    assigned.or(only).map(|disk| disk.selector.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::time::Time;

    fn chosen(disks: Value, target: Option<&str>, given: Option<&str>) -> Vec<String> {
        let mac: Mac = "52:54:00:00:00:01".parse().unwrap();
        let machine = Machine {
            disks: Some(disks),
            target_serial: target.map(str::to_owned),
            ..Machine::new(mac.clone(), "ipxe-exit", Time(1))
        };
        let listed = ListedMachine { machine, has_failures: false };
        let machines = HashMap::from([(mac.to_string(), listed)]);
        let all = MachineDisks { machines, hardware: HashMap::new() };
        let choices = all.choices(mac.as_str(), &HashMap::new(), given);
        choices.into_iter().filter(|disk| disk.is_chosen).map(|disk| disk.selector).collect()
    }

    #[test]
    fn the_only_disk_that_can_be_written_and_stays_is_chosen() {
        let nvme = json!({ "path": "/dev/nvme0n1", "serial": "N", "size_bytes": 9 });
        let stick = json!({ "path": "/dev/sda", "serial": "U", "removable": true });
        let cd = json!({ "path": "/dev/sr0", "serial": "C", "readonly": true });
        let second = json!({ "path": "/dev/sdb", "serial": "S" });
        assert_eq!(chosen(json!([stick, nvme, cd]), None, None), ["N"]);
        assert_eq!(chosen(json!([nvme, second]), None, None), [""; 0], "a person must choose");
        assert_eq!(chosen(json!([nvme, second]), Some("S"), None), ["S"], "it is assigned");
        assert_eq!(chosen(json!([nvme, second]), Some("S"), Some("N")), ["N"]);
        assert_eq!(chosen(json!([stick]), None, None), [""; 0]);
        assert_eq!(chosen(json!([{ "path": "/dev/sda" }]), None, None), [""; 0], "it has no name");
    }
}
