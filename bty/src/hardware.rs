//! The hardware of a machine: the inventory that the machine posts to its server.
//!
//! [`Inventory::collect`] reads sysfs, procfs and the SMBIOS table of the firmware, without running
//! other programs. The disks have the format of `lsblk`, and the tree has that of `lshw -json`, so
//! that tools for those can read it. [`dmi`] is a summary: vendor, model and serial number of the
//! machine.
//!
//! Values that the system does not report, or reports only to root, are absent and never an error.
//! PCI devices are shown by their numbers, where `lshw` takes their names from a database.
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

/// The inventory that a machine posts. Serializes to the body of `POST /pxe/{mac}/inventory`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Inventory {
    /// Its disks, at most 256, sorted by path.
    pub disks: Vec<InventoryDisk>,
    /// Its hardware as a tree of objects, as `lshw -json` shows it; at most 1 MiB of JSON.
    pub lshw: serde_json::Value,
}

/// A disk in an [`Inventory`]. Serializes with the field names of `lsblk`; text is cut to the
/// lengths that a server accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InventoryDisk {
    /// Device node, at most 255 characters.
    pub path: String,
    /// Size in the notation of `lsblk`: `465.8G`, `512M`.
    pub size: String,
    /// Size of the whole disk in bytes.
    pub size_bytes: u64,
    /// Always `disk`, as `lsblk` calls whole disks.
    #[serde(rename = "type")]
    pub type_: String,
    /// Vendor, at most 64 characters.
    pub vendor: Option<String>,
    /// Model, at most 128 characters.
    pub model: Option<String>,
    /// Serial number, at most 128 characters, by which a server identifies the disk.
    pub serial: Option<String>,
    /// World-wide name, at most 255 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// Where it is attached, at most 255 characters; see [`Disk::by_path`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_path: Option<String>,
    /// Transport: `nvme`, `sata`, `usb` …
    pub tran: Option<String>,
    /// True when the medium is removable.
    pub removable: bool,
    /// True when the kernel refuses writes.
    pub readonly: bool,
    /// Mount points of the disk and its partitions; `[SWAP]` for active swap space.
    pub mountpoints: Vec<String>,
}

/// The directories through which the kernel describes the hardware. Tests use their own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HardwareRoots {
    /// The directory that is read in place of `/sys`.
    pub sys: PathBuf,
    /// The directory that is read in place of `/proc`.
    pub proc: PathBuf,
}

impl HardwareRoots {
    /// Reads the given directories instead of `/sys` and `/proc`. They need not exist.
    pub fn new(sys: impl Into<PathBuf>, proc: impl Into<PathBuf>) -> Self {
        Self { sys: sys.into(), proc: proc.into() }
    }
}

impl Default for HardwareRoots {
    fn default() -> Self {
        Self::new("/sys", "/proc")
    }
}

/// Identification of the machine by its firmware, from `/sys/class/dmi/id`. A placeholder of the
/// vendor (`To Be Filled By O.E.M.`) counts as absent. Serial numbers and the UUID are absent
/// unless read by root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Dmi {
    /// Vendor of the machine.
    pub vendor: Option<String>,
    /// Product name of the machine.
    pub product: Option<String>,
    /// Version of the product.
    pub version: Option<String>,
    /// Serial number of the machine.
    pub serial: Option<String>,
    /// UUID of the machine, as the kernel writes it.
    pub uuid: Option<String>,
    /// Stock keeping unit: the order number.
    pub sku: Option<String>,
    /// Product family of the machine.
    pub family: Option<String>,
    /// Type of the chassis, one word: `desktop`, `notebook`, `rackmount`, `server`, `blade` …
    pub chassis: Option<String>,
    /// Serial number of the chassis.
    pub chassis_serial: Option<String>,
    /// Asset tag, assigned by the owner.
    pub asset_tag: Option<String>,
    /// Vendor of the main board.
    pub board_vendor: Option<String>,
    /// Product name of the main board.
    pub board_product: Option<String>,
    /// Version of the main board.
    pub board_version: Option<String>,
    /// Serial number of the main board.
    pub board_serial: Option<String>,
    /// Vendor of the firmware.
    pub bios_vendor: Option<String>,
    /// Version of the firmware.
    pub bios_version: Option<String>,
    /// Release date of the firmware, as its vendor wrote it: `03/14/2024`.
    pub bios_date: Option<String>,
}

/// True if a field of the firmware has no value, but what vendors leave in fields that they do not
/// fill: `To Be Filled By O.E.M.`, zeros, or nothing.
#[must_use]
pub fn is_placeholder(field: &str) -> bool {
    dmi::is_placeholder(field.trim())
}

/// Reads the identification of the machine. All fields are absent on a machine without DMI.
#[must_use]
pub fn dmi(roots: &HardwareRoots) -> Dmi {
    dmi::read(roots)
}

/// A server keeps no more disks.
const DISKS_MAX: usize = 256;

impl Inventory {
    /// Creates an inventory of these disks without other hardware, for dry runs.
    #[must_use]
    pub fn dry_run(disks: &[Disk]) -> Self {
        Self {
            disks: disks.iter().map(InventoryDisk::from).collect(),
            lshw: serde_json::Value::Null,
        }
    }

    /// Collects the disks of `host`, and the hardware that `roots` describe. Only whole disks are
    /// included: no loop devices, no files.
    ///
    /// # Errors
    /// [`ErrorKind::Host`](crate::ErrorKind::Host) when the disks cannot be listed.
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

/// Reads the first `bytes_max` bytes of a file; `None` when it cannot be read.
fn read_file(path: &Path, bytes_max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(bytes_max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The names in a directory, sorted; empty when it cannot be read.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests;
