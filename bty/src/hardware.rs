//! The machine around the disks: what the firmware says about it, and the inventory that it posts to its server.
//!
//! Everything is read from sysfs, procfs and the SMBIOS table, without other programs. What the system does not tell is absent, and no error.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Result;
use crate::disks::{Disk, DiskKind, Host, SystemRoots, Use};

mod network;
mod processor;
mod read;
pub(crate) mod smbios;
mod tree;

/// What a machine posts about itself: the body of `POST /pxe/{mac}/inventory`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Inventory {
    /// Whole disks.
    pub disks: Vec<InventoryDisk>,
    /// The hardware as a tree, in the shape of `lshw -json`.
    pub lshw: Value,
}

/// A disk in an [`Inventory`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InventoryDisk {
    /// Device node, at most 255 characters.
    pub path: String,
    /// Size as people read it: `465.8G`.
    pub size: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Always `disk`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Vendor.
    pub vendor: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Serial number, at most 128 characters.
    pub serial: Option<String>,
    /// `nvme`, `sata`, `usb` …
    pub tran: Option<String>,
    /// The medium can be taken out.
    pub removable: bool,
    /// Writes are refused by the kernel.
    pub readonly: bool,
    /// Where it or one of its partitions is mounted.
    pub mountpoints: Vec<String>,
}

impl From<&Disk> for InventoryDisk {
    fn from(disk: &Disk) -> Self {
        let mounted = disk.uses.iter().filter_map(|usage| match usage {
            Use::Mounted { mountpoint, .. } => Some(mountpoint.display().to_string()),
            _ => None,
        });
        Self {
            path: disk.path.display().to_string().chars().take(255).collect(),
            size: short_size(disk.size_bytes),
            size_bytes: disk.size_bytes,
            kind: "disk".into(),
            vendor: disk.vendor.clone(),
            model: disk.model.clone(),
            serial: disk.serial.as_ref().map(|serial| serial.chars().take(128).collect()),
            tran: disk.transport.clone(),
            removable: disk.is_removable,
            readonly: disk.is_read_only,
            mountpoints: mounted.collect(),
        }
    }
}

/// `465.8 GiB` as `lsblk` writes it: `465.8G`.
fn short_size(bytes: u64) -> String {
    let human = crate::size::human(bytes);
    let (number, unit) = human.split_once(' ').unwrap_or((&human, ""));
    format!("{}{}", number.strip_suffix(".0").unwrap_or(number), unit.chars().next().unwrap_or('B'))
}

impl Inventory {
    /// An inventory of described disks and of no hardware: for dry runs.
    #[must_use]
    pub fn described(disks: &[Disk]) -> Self {
        Self { disks: disks.iter().map(InventoryDisk::from).collect(), lshw: Value::Null }
    }

    /// Looks at the disks of `host` and at the machine below `roots`.
    ///
    /// # Errors
    /// As of [`Host::list`].
    pub fn collect(host: &dyn Host, roots: &SystemRoots) -> Result<Self> {
        let disks = host.list()?;
        let whole: Vec<&Disk> = disks.iter().filter(|disk| disk.kind == DiskKind::Disk).collect();
        let lshw = tree::of(roots, &whole);
        Ok(Self { disks: whole.into_iter().map(InventoryDisk::from).collect(), lshw })
    }
}

/// What the firmware says about the machine; absent for what it does not say, or says with a placeholder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Dmi {
    /// Who made it.
    pub vendor: Option<String>,
    /// What it is.
    pub product: Option<String>,
    /// Which version of it.
    pub version: Option<String>,
    /// Its serial number; readable by root only.
    pub serial: Option<String>,
    /// Its UUID; readable by root only.
    pub uuid: Option<String>,
    /// Who made the board.
    pub board_vendor: Option<String>,
    /// What the board is.
    pub board_product: Option<String>,
    /// The serial number of the board; readable by root only.
    pub board_serial: Option<String>,
    /// Who made the firmware.
    pub bios_vendor: Option<String>,
    /// Its version.
    pub bios_version: Option<String>,
    /// Its date, as the firmware writes it.
    pub bios_date: Option<String>,
}

/// What the firmware below `roots` says.
#[must_use]
pub fn dmi(roots: &SystemRoots) -> Dmi {
    let dir = roots.sys.join("class/dmi/id");
    let field = |name: &str| read::text(&dir.join(name)).filter(|text| !is_placeholder(text));
    Dmi {
        vendor: field("sys_vendor"),
        product: field("product_name"),
        version: field("product_version"),
        serial: field("product_serial"),
        uuid: field("product_uuid"),
        board_vendor: field("board_vendor"),
        board_product: field("board_name"),
        board_serial: field("board_serial"),
        bios_vendor: field("bios_vendor"),
        bios_version: field("bios_version"),
        bios_date: field("bios_date"),
    }
}

/// What makers leave in fields that they did not fill in.
fn is_placeholder(text: &str) -> bool {
    const PLACEHOLDERS: [&str; 12] = [
        "to be filled by o.e.m.",
        "to be filled by oem",
        "default string",
        "system manufacturer",
        "system product name",
        "system version",
        "system serial number",
        "not specified",
        "not available",
        "not applicable",
        "none",
        "unknown",
    ];
    let text = text.trim().to_ascii_lowercase();
    PLACEHOLDERS.contains(&text.as_str()) || text.chars().all(|c| matches!(c, '0' | '.' | '-' | 'x' | ' '))
}

/// The name that this machine has, from `/proc/sys/kernel/hostname`.
fn hostname(proc: &Path) -> String {
    read::text(&proc.join("sys/kernel/hostname")).unwrap_or_else(|| "computer".into())
}

#[cfg(test)]
mod tests;
