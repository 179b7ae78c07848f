//! Finds the disks of a machine, their contents and their users, and selects exactly one of them.
//!
//! A [`DiskHost`] lists and opens disks. [`SystemHost`] is the local machine, examined through
//! sysfs and procfs without running other programs; simulated hosts serve tests and dry runs. A
//! [`Selector`] names one disk.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::device::Device;
use crate::device::system::FILE_SECTOR;

mod attachment;
mod holders;
mod host;
mod selector;
pub(crate) mod sysfs;

pub use crate::partition_table::{Content, Partition, TableKind};
pub use host::SystemHost;
#[cfg(feature = "testing")]
pub(crate) use host::read_contents;
pub use selector::Selector;
pub use sysfs::SystemRoots;

/// The kind of target that a [`Disk`] is.
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
    /// A regular file, for example the disk of a virtual machine.
    File,
    /// Another block device, such as device-mapper, MD, a RAM disk or an optical drive.
    Other,
}

/// A disk, as probed by a [`DiskHost`]. Sizes and offsets are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Disk {
    /// The device node (`/dev/nvme0n1`), or the file.
    #[serde(with = "crate::text::path")]
    pub path: PathBuf,
    /// Whole disk, partition, loop device, file or something else.
    pub kind: DiskKind,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical sector size in bytes: the unit of partition tables and of writes.
    pub logical_sector_bytes: u32,
    /// Physical sector size in bytes.
    pub physical_sector_bytes: u32,
    /// Vendor, trimmed; absent when the disk does not report one.
    pub vendor: Option<String>,
    /// Model, trimmed.
    pub model: Option<String>,
    /// Serial number, trimmed. With `wwn` it identifies the disk.
    pub serial: Option<String>,
    /// World-wide name, in lower case (`eui.…`, `naa.…`, `0x…`).
    pub wwn: Option<String>,
    /// Where it is attached, in the notation of udev's `/dev/disk/by-path`, such as
    /// `pci-0000:00:1f.2-ata-1`. Another disk in the same place has the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_path: Option<String>,
    /// How it is attached: `nvme`, `sata`, `usb`, `virtio`, `scsi`, `mmc`, `loop`, `file` …
    pub transport: Option<String>,
    /// True when the medium is removable.
    pub is_removable: bool,
    /// True when the kernel refuses writes.
    pub is_read_only: bool,
    /// True for a spinning disk; absent for files.
    pub is_rotational: Option<bool>,
    /// Sequence number that the kernel assigns to a disk when it appears. It changes when another
    /// disk takes the same device name.
    pub diskseq: Option<u64>,
    /// Kind of the partition table; absent without one.
    pub table: Option<TableKind>,
    /// File system, RAID or LVM signature on the whole device.
    pub content: Option<Content>,
    /// Partitions, sorted by their start.
    pub partitions: Vec<Partition>,
    /// Holders of the disk or of one of its partitions. Any entry forbids writing.
    pub uses: Vec<Use>,
    /// The content of a regular file that a flash would destroy, such as `a qcow2 image` or `gzip
    /// data`. Absent for devices, for files of zeros, and for files that bty wrote as disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_holds: Option<String>,
}

/// A holder of a disk. Its text names the device, the holder and, in parentheses, how to release
/// the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "use", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Use {
    /// A file system on it is mounted.
    Mounted {
        /// The disk or partition.
        #[serde(with = "crate::text::path")]
        device: PathBuf,
        /// Mount point.
        #[serde(with = "crate::text::path")]
        mountpoint: PathBuf,
    },
    /// It is active swap space.
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
        /// The device built on it, with its descriptive name if it has one: `dm-0 (vg0-root)`.
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
    /// The kernel refuses to open it exclusively, but sysfs does not show why: a member of an
    /// active ZFS pool, for example.
    Busy {
        /// The disk or partition.
        #[serde(with = "crate::text::path")]
        device: PathBuf,
        /// Kind of the signature on it that may explain the use: `zfs`, `lvm` …
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
                write!(f, "{} is active swap (run swapoff on it)", device.display())
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
                    None => f.write_str(" (find out what uses it: lsof, dmsetup, zpool status)"),
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
    /// Describes an empty disk with sectors of 512 bytes, for simulated hosts and tests. Set the
    /// other fields as needed. `size_bytes` is a multiple of the sector size.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, kind: DiskKind, size_bytes: u64) -> Self {
        Self {
            path: path.into(),
            kind,
            size_bytes,
            logical_sector_bytes: FILE_SECTOR,
            physical_sector_bytes: 4096,
            vendor: None,
            model: None,
            serial: None,
            wwn: None,
            by_path: None,
            transport: None,
            is_removable: false,
            is_read_only: false,
            is_rotational: None,
            diskseq: None,
            table: None,
            content: None,
            partitions: Vec::new(),
            uses: Vec::new(),
            file_holds: None,
        }
    }

    /// Describes a regular file of `size_bytes` that is yet to be created, for plans and dry runs.
    /// Does not access the file system.
    #[must_use]
    pub fn planned_file(path: &Path, size_bytes: u64) -> Self {
        host::planned_file(path.to_owned(), size_bytes)
    }

    /// One line for display: path, size, vendor, model and serial number.
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

    /// One line for display: the current contents, which a flash destroys.
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

    /// True when `other`, probed later at the same path, is the same disk, and was not unplugged in
    /// between.
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

/// The disks of a machine. [`SystemHost`] implements it for the local machine.
pub trait DiskHost: Send + Sync {
    /// Lists the disks that can be targets, sorted by path: whole disks and attached loop devices,
    /// but no partitions, RAM disks or optical drives. Each is described as by
    /// [`probe`](Self::probe), with the same [`uses`](Disk::uses).
    ///
    /// # Errors
    /// [`ErrorKind::Host`](crate::ErrorKind::Host) when the machine cannot be examined, for example
    /// without sysfs.
    fn list(&self) -> Result<Vec<Disk>>;

    /// Examines the disk, partition, loop device or regular file at `path`. Follows symbolic links
    /// (`/dev/disk/by-id/…`).
    ///
    /// # Errors
    /// - [`ErrorKind::Refused`](crate::ErrorKind::Refused): `path` does not exist, or is
    ///   something that cannot be written like a disk.
    /// - [`ErrorKind::Host`](crate::ErrorKind::Host): the machine cannot be examined.
    fn probe(&self, path: &Path) -> Result<Disk>;

    /// Opens `disk` for writing, exclusively.
    ///
    /// # Errors
    /// - [`ErrorKind::Refused`](crate::ErrorKind::Refused): something else holds it open, or it is
    ///   no longer the disk that was probed.
    /// - [`ErrorKind::Target`](crate::ErrorKind::Target): it cannot be opened.
    fn open(&self, disk: &Disk) -> Result<Arc<dyn Device>>;

    /// Opens `disk` for reading, even if it is in use. Writing to the returned [`Device`] fails.
    ///
    /// # Errors
    /// - [`ErrorKind::Refused`](crate::ErrorKind::Refused): it is no longer the disk that was
    ///   probed.
    /// - [`ErrorKind::Target`](crate::ErrorKind::Target): it cannot be opened.
    fn open_read_only(&self, disk: &Disk) -> Result<Arc<dyn Device>>;

    /// Creates a regular file of `size_bytes` zeros at `path`, to be used as a disk.
    ///
    /// # Errors
    /// - [`ErrorKind::Refused`](crate::ErrorKind::Refused): there is something at `path` already.
    /// - [`ErrorKind::Target`](crate::ErrorKind::Target): the file cannot be created.
    fn create(&self, path: &Path, size_bytes: u64) -> Result<()>;
}

impl<T: DiskHost + ?Sized> DiskHost for Arc<T> {
    fn list(&self) -> Result<Vec<Disk>> {
        (**self).list()
    }

    fn probe(&self, path: &Path) -> Result<Disk> {
        (**self).probe(path)
    }

    fn open(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        (**self).open(disk)
    }

    fn open_read_only(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        (**self).open_read_only(disk)
    }

    fn create(&self, path: &Path, size_bytes: u64) -> Result<()> {
        (**self).create(path, size_bytes)
    }
}
