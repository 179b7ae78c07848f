//! Disks: what is there, what is on it, who uses it, and how to name one so that it cannot be
//! another.
//!
//! A [`DiskHost`] lists and opens disks. [`SystemHost`] is the machine itself, read from sysfs and
//! procfs, without other programs. Simulated hosts serve tests and dry runs. Nothing here writes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::device::Device;

mod holders;
mod host;
mod selector;
pub(crate) mod sysfs;

pub use crate::partition_table::{Content, Partition, TableKind};
pub use host::SystemHost;
pub use selector::Selector;
pub use sysfs::SystemRoots;

/// What kind of target a [`Disk`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DiskKind {
    /// A whole disk.
    Disk,
    /// A loop device.
    Loop,
    /// A partition of a disk.
    Partition,
    /// A regular file: the disk of a virtual machine.
    File,
    /// Another block device: device-mapper, MD, a RAM disk, an optical drive.
    Other,
}

/// A disk as found. Serialises to the object of `bty disks --json`; sizes and offsets are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Device node or file: `/dev/nvme0n1`.
    #[serde(with = "crate::text::path")]
    pub path: PathBuf,
    /// What kind of target it is.
    pub kind: DiskKind,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical sector size in bytes: the unit of partition tables and of writes.
    pub logical_sector_bytes: u32,
    /// Physical sector size in bytes.
    pub physical_sector_bytes: u32,
    /// Vendor, trimmed; absent when the disk does not tell.
    pub vendor: Option<String>,
    /// Model, trimmed.
    pub model: Option<String>,
    /// Serial number, trimmed; half of a disk's identity.
    pub serial: Option<String>,
    /// World-wide name, lower case (`eui.…`, `naa.…`, `0x…`); the other half.
    pub wwn: Option<String>,
    /// `nvme`, `sata`, `usb`, `virtio`, `scsi`, `mmc`, `loop`, `file` …
    pub transport: Option<String>,
    /// The medium can be taken out.
    pub is_removable: bool,
    /// Writes are refused by the kernel.
    pub is_read_only: bool,
    /// A spinning disk; unknown for files.
    pub is_rotational: Option<bool>,
    /// Number the kernel gives each newly appeared disk; changes when another takes the same name.
    pub diskseq: Option<u64>,
    /// Kind of partition table.
    pub table: Option<TableKind>,
    /// File system, RAID or LVM signature on the whole device.
    pub content: Option<Content>,
    /// Partitions, in the order of their start.
    pub partitions: Vec<Partition>,
    /// Who uses it or one of its partitions: any entry forbids writing.
    pub uses: Vec<Use>,
    /// What a regular file holds that bty has not made a disk of: `a qcow2 image`, `gzip data`,
    /// `a disk image`. Absent for devices, for files of zeros, and for files that bty has written
    /// an image to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_holds: Option<String>,
}

/// Something that uses a disk. Its text names the device, the user and the way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "use", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Use {
    /// A file system on it is mounted.
    Mounted {
        /// The disk or partition.
        #[serde(with = "crate::text::path")]
        device: PathBuf,
        /// Where.
        #[serde(with = "crate::text::path")]
        mountpoint: PathBuf,
    },
    /// It is swap space in use.
    Swap {
        /// The disk or partition.
        #[serde(with = "crate::text::path")]
        device: PathBuf,
    },
    /// Another block device is built on it: device-mapper, LVM, MD, bcache.
    Held {
        /// The disk or partition.
        #[serde(with = "crate::text::path")]
        device: PathBuf,
        /// The device built on it, with its name where it has one: `dm-0 (vg0-root)`.
        holder: String,
    },
    /// A loop device is attached to it.
    Loop {
        /// The file or disk.
        #[serde(with = "crate::text::path")]
        device: PathBuf,
        /// The loop device.
        #[serde(with = "crate::text::path")]
        holder: PathBuf,
    },
    /// A member of an active ZFS pool (known only by its signature and the kernel's refusal to open
    /// it).
    Busy {
        /// The disk or partition.
        #[serde(with = "crate::text::path")]
        device: PathBuf,
        /// What its signature says.
        hint: Option<String>,
    },
    /// The running system was started from it.
    System {
        /// The disk or partition.
        #[serde(with = "crate::text::path")]
        device: PathBuf,
    },
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted { device, mountpoint } => {
                write!(
                    f,
                    "{} is mounted on {} (unmount it)",
                    device.display(),
                    mountpoint.display()
                )
            }
            Self::Swap { device } => {
                write!(f, "{} is swap in use (run swapoff on it)", device.display())
            }
            Self::Held { device, holder } => {
                write!(f, "{} is held by {holder} (stop that device first)", device.display())
            }
            Self::Loop { device, holder } => {
                write!(
                    f,
                    "{0} is attached to {1} (write to {1}, or detach it)",
                    device.display(),
                    holder.display()
                )
            }
            Self::Busy { device, hint } => {
                write!(f, "{} is in use by the kernel", device.display())?;
                match hint {
                    Some(hint) => write!(f, " and carries a {hint} signature (export or stop it)"),
                    None => f.write_str(" (find out by what: lsof, dmsetup, zpool status)"),
                }
            }
            Self::System { device } => {
                write!(
                    f,
                    "the running system was started from {} (boot something else to rewrite it)",
                    device.display()
                )
            }
        }
    }
}

impl Disk {
    /// A regular file of `size_bytes` that is to become a disk: for plans and dry runs. Looks at
    /// nothing.
    #[must_use]
    pub fn planned_file(path: &Path, size_bytes: u64) -> Self {
        host::planned_file(path.to_owned(), size_bytes)
    }

    /// One line for people: path, size, model, serial.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut line = format!("{} {}", self.path.display(), crate::size::human(self.size_bytes));
        for part in [&self.vendor, &self.model].into_iter().flatten() {
            line.push(' ');
            line.push_str(part);
        }
        if let Some(serial) = &self.serial {
            line.push_str(" serial ");
            line.push_str(serial);
        }
        line
    }

    /// One line for people: what is on it now, and would be lost.
    #[must_use]
    pub fn contents(&self) -> String {
        let table = match self.table {
            Some(TableKind::Gpt) => "GPT",
            Some(TableKind::Mbr) => "MBR",
            None => match &self.content {
                Some(content) => return content.to_string(),
                None => return "no partition table or file system was recognized".into(),
            },
        };
        let partitions = self.partitions.iter().map(|p| {
            let content =
                p.content.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
            format!("{}: {content}, {}", p.number, crate::size::human(p.size_bytes))
        });
        let partitions: Vec<String> = partitions.collect();
        format!(
            "{table}, {}",
            if partitions.is_empty() { "no partitions".into() } else { partitions.join("; ") }
        )
    }

    /// True when `other`, probed later at the same path, is the same piece of hardware in the same
    /// state of attachment.
    #[must_use]
    pub fn is_same_disk(&self, other: &Self) -> bool {
        self.path == other.path
            && self.kind == other.kind
            && self.size_bytes == other.size_bytes
            && self.logical_sector_bytes == other.logical_sector_bytes
            && self.serial == other.serial
            && self.wwn == other.wwn
            && self.diskseq == other.diskseq
    }
}

/// A machine's disks. [`SystemHost`] is the real one.
pub trait DiskHost: Send + Sync {
    /// All disks a person might mean, sorted by path: whole disks and attached loop devices; no
    /// partitions, RAM disks or optical drives.
    ///
    /// # Errors
    /// [`ErrorKind::Host`](crate::ErrorKind::Host) when the system does not tell.
    fn list(&self) -> Result<Vec<Disk>>;

    /// The one at `path`: a disk, partition, loop device or regular file. Symbolic links
    /// (`/dev/disk/by-id/…`) are followed.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) when there is nothing at `path`, or
    /// something that cannot be written like a disk.
    fn probe(&self, path: &Path) -> Result<Disk>;

    /// Opens `disk` for writing, exclusively.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) when somebody else holds it;
    /// [`ErrorKind::Target`](crate::ErrorKind::Target) when it cannot be opened.
    fn open(&self, disk: &Disk) -> Result<Arc<dyn Device>>;

    /// Opens `disk` for reading only (`bty verify`); [`Device`]'s writing methods then fail.
    ///
    /// # Errors
    /// As [`open`](Self::open), but a disk in use is not refused.
    fn open_read_only(&self, disk: &Disk) -> Result<Arc<dyn Device>>;

    /// Creates the regular file `path` of `size_bytes`, all zero, to be used as a disk.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) when something is there already;
    /// [`ErrorKind::Target`](crate::ErrorKind::Target) when it cannot be made.
    fn create(&self, path: &Path, size_bytes: u64) -> Result<()>;
}
