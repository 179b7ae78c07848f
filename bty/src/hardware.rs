//! Hardware: what a machine is made of, as it tells its server.
//!
//! [`Inventory::collect`] reads sysfs, procfs and the firmware's SMBIOS table, without other
//! programs. Its disks look like those of `lsblk`, and its tree like that of `lshw -json`, for the
//! sake of everything that reads those. [`dmi`] is the short answer: who made this machine, and
//! which one it is.
//!
//! What the system does not tell, or tells only to root, is absent and never an error. The names of
//! PCI devices are no part of this: where `lshw` has them from a database, the tree has numbers.
//!
//! ```no_run
//! use bty::SystemHost;
//! use bty::hardware::{HardwareRoots, Inventory};
//!
//! let inventory = Inventory::collect(&SystemHost::new(), &HardwareRoots::default())?;
//! for disk in &inventory.disks {
//!     println!("{} {}", disk.path, disk.size);
//! }
//! # Ok::<(), bty::Error>(())
//! ```

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::disks::{Disk, DiskHost, DiskKind};

pub(crate) mod cpu;
mod dmi;
mod drives;
mod memory;
mod network;
mod node;
mod pci;
pub(crate) mod smbios;
mod tree;

/// What a machine posts about itself. Serialises to the body of `POST /pxe/{mac}/inventory`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Inventory {
    /// Its disks, at most 64, sorted by path.
    pub disks: Vec<InventoryDisk>,
    /// Its hardware as a tree of objects, as `lshw -json` shows it; at most 1 MiB of JSON.
    pub lshw: serde_json::Value,
}

/// A disk in an [`Inventory`]. Serialises to the names of `lsblk`; text is cut to the lengths that
/// a server accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InventoryDisk {
    /// Device node, at most 255 characters.
    pub path: String,
    /// Size for people, as `lsblk` writes it: `465.8G`, `512M`.
    pub size: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Always `disk`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Vendor, at most 64 characters.
    pub vendor: Option<String>,
    /// Model, at most 128 characters.
    pub model: Option<String>,
    /// Serial number, at most 128 characters: what a server tells disks apart by.
    pub serial: Option<String>,
    /// Transport: `nvme`, `sata`, `usb` …
    pub tran: Option<String>,
    /// The medium can be taken out.
    pub removable: bool,
    /// Writes are refused by the kernel.
    pub readonly: bool,
    /// Where it and its partitions are mounted; `[SWAP]` for swap space in use.
    pub mountpoints: Vec<String>,
}

/// Where the system shows its hardware; tests bring trees of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HardwareRoots {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
}

impl HardwareRoots {
    /// Other trees than `/sys` and `/proc`. They need not exist.
    pub fn new(sys: impl Into<PathBuf>, proc: impl Into<PathBuf>) -> Self {
        Self { sys: sys.into(), proc: proc.into() }
    }
}

impl Default for HardwareRoots {
    fn default() -> Self {
        Self::new("/sys", "/proc")
    }
}

/// How the firmware names the machine, from `/sys/class/dmi/id`. What a maker left at a placeholder
/// (`To Be Filled By O.E.M.`) is absent, and so is what only root may read: serial numbers and the
/// UUID.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Dmi {
    /// Who made the machine.
    pub vendor: Option<String>,
    /// What it is called.
    pub product: Option<String>,
    /// The version of that.
    pub version: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its UUID, as the kernel writes it.
    pub uuid: Option<String>,
    /// The number it is ordered by.
    pub sku: Option<String>,
    /// The family of products it belongs to.
    pub family: Option<String>,
    /// The kind of its case, one word: `desktop`, `notebook`, `rackmount`, `server`, `blade` …
    pub chassis: Option<String>,
    /// The serial number of the case.
    pub chassis_serial: Option<String>,
    /// The number its owner has given it.
    pub asset_tag: Option<String>,
    /// Who made the main board.
    pub board_vendor: Option<String>,
    /// What the main board is called.
    pub board_product: Option<String>,
    /// The version of the main board.
    pub board_version: Option<String>,
    /// The serial number of the main board.
    pub board_serial: Option<String>,
    /// Who made the firmware.
    pub bios_vendor: Option<String>,
    /// The version of the firmware.
    pub bios_version: Option<String>,
    /// The date of the firmware, as its maker wrote it: `03/14/2024`.
    pub bios_date: Option<String>,
}

/// Reads how the firmware names the machine. A machine without DMI has none of it.
#[must_use]
pub fn dmi(roots: &HardwareRoots) -> Dmi {
    dmi::read(roots)
}

/// A server refuses a whole inventory that has more.
const DISKS_MAX: usize = 64;

impl Inventory {
    /// An inventory of described disks and of no hardware: for dry runs.
    #[must_use]
    pub fn described(disks: &[Disk]) -> Self {
        Self {
            disks: disks.iter().map(InventoryDisk::from).collect(),
            lshw: serde_json::Value::Null,
        }
    }

    /// Takes stock of the machine that `roots` show, with the disks of `host`. Only whole disks are
    /// listed: no loop devices, no files.
    ///
    /// # Errors
    /// Those of [`DiskHost::list`].
    pub fn collect(host: &dyn DiskHost, roots: &HardwareRoots) -> Result<Self> {
        let mut disks = host.list()?;
        disks.retain(|disk| disk.kind == DiskKind::Disk);
        disks.truncate(DISKS_MAX);
        Ok(Self {
            lshw: tree::lshw(&disks, roots),
            disks: disks.iter().map(InventoryDisk::from).collect(),
        })
    }
}

/// The first `bytes_max` of a file; none when it cannot be read.
fn read_file(path: &Path, bytes_max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(bytes_max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Names in a directory, sorted; none when it cannot be read.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests;
