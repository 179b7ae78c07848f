//! Partition tables: reading MBR and GPT, and moving the backup GPT to the end of a larger disk.
//!
//! Everything here is pure: it works on bytes in memory, or reads through a function that the
//! caller provides. Formats: UEFI specification 2.10, section 5.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) mod gpt;
pub(crate) mod mbr;

/// Fills the buffer from an offset in bytes; returns false if not all of it can be read.
pub(crate) type ReadAt<'a> = dyn FnMut(u64, &mut [u8]) -> bool + 'a;

/// Kind of partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TableKind {
    /// GUID partition table, at both ends of the disk.
    Gpt,
    /// Partition table of the master boot record.
    Mbr,
}

/// An entry of a partition table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Device node; absent when the kernel has none, as for the partitions of an image.
    #[serde(with = "crate::text::optional_path", default)]
    pub path: Option<PathBuf>,
    /// Number in the table, from 1.
    pub number: u32,
    /// Offset of the first byte on the disk.
    pub start_bytes: u64,
    /// Size of the partition in bytes.
    pub size_bytes: u64,
    /// Type: a GUID in lower case (GPT) or two hexadecimal digits (MBR).
    pub type_id: Option<String>,
    /// Name in the table (GPT only).
    pub name: Option<String>,
    /// File system, RAID or LVM signature in it.
    pub content: Option<Content>,
}

/// The content of a disk or a partition, recognized by its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// `ext4`, `xfs`, `btrfs`, `vfat`, `ntfs`, `exfat`, `iso9660`, `swap`, `luks`, `lvm`, `md`,
    /// `zfs`, `squashfs`, `bcache` …
    pub kind: String,
    /// Its label, if it has one.
    pub label: Option<String>,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        match &self.label {
            Some(label) => write!(f, " {label:?}"),
            None => Ok(()),
        }
    }
}

/// A partition table as read from a disk.
#[derive(Debug)]
pub(crate) struct PartitionTable {
    pub(crate) kind: TableKind,
    /// Sorted by start. `path` and `content` are not filled in: the table does not have them.
    pub(crate) partitions: Vec<Partition>,
}

/// Reads the partition table of a disk of `disk_bytes` with logical sectors of `sector` bytes.
///
/// A protective MBR whose GPT is damaged counts as a GPT without partitions, as it does for the
/// kernel.
pub(crate) fn read(read: &mut ReadAt<'_>, disk_bytes: u64, sector: u32) -> Option<PartitionTable> {
    let mbr = mbr::read(read, sector)?;
    // one protective entry is enough for the kernel to read the GPT, so a hybrid MBR, or one that
    // an old tool rewrote, is treated the same way here
    let (kind, mut partitions): (_, Vec<Partition>) = if mbr.is_protective() {
        let gpt = gpt::find(read, disk_bytes, sector);
        let partitions = gpt.iter().flat_map(|gpt| &gpt.partitions);
        (TableKind::Gpt, partitions.map(|p| p.describe(sector)).collect())
    } else {
        (TableKind::Mbr, mbr.partitions.iter().map(|p| p.describe(sector)).collect())
    };
    partitions.sort_by_key(|p| p.start_bytes);
    Some(PartitionTable { kind, partitions })
}

/// The byte ranges of all partitions on a disk, from the primary table, or from the backup GPT if
/// only that is left. `sector` is the logical sector size of the device in bytes; a GPT that was
/// made for another sector size, as in a disk in a file, is read with its own.
pub(crate) fn ranges(disk: &mut ReadAt<'_>, disk_bytes: u64, sector: u32) -> Vec<Range<u64>> {
    let mut head = [0; 8192];
    let sector =
        if disk(0, &mut head) { gpt::detect_sector_bytes(&head).unwrap_or(sector) } else { sector };
    let range = |p: &Partition| p.start_bytes..p.start_bytes.saturating_add(p.size_bytes);
    if let Some(table) = read(disk, disk_bytes, sector) {
        return table.partitions.iter().map(range).collect();
    }
    // without a protective MBR the kernel ignores a GPT, but the next partitioning tool may not
    let backup = gpt::find(disk, disk_bytes, sector);
    backup.iter().flat_map(|gpt| &gpt.partitions).map(|p| range(&p.describe(sector))).collect()
}

/// Offset in bytes and magic of other structures at the start of a disk: boot sectors, and
/// partition tables that are not parsed here.
const BOOT: &[(usize, &[u8])] = &[
    (510, b"\x55\xaa"),
    // a GPT that lost its protective MBR
    (512, b"EFI PART"),
    (4096, b"EFI PART"),
    // Apple, Sun, SGI, BSD, Amiga
    (512, b"PM\0\0"),
    (2048, b"PM\0\0"),
    (508, b"\xda\xbe"),
    (0, b"\x0b\xe5\xa9\x41"),
    (512, b"\x57\x45\x56\x82"),
    (0, b"RDSK"),
    (512, b"RDSK"),
    // the boot ROMs of Allwinner, Rockchip and i.MX look here
    (8196, b"eGON.BT0"),
    (32768, b"\x3b\x8c\xdc\xfc\xbe\x9f\x9d\x51"),
    (32768, b"RKNS"),
    (1024, b"\xd1\x00\x20\x40"),
    (1024, b"\xd1\x00\x20\x41"),
];

/// True when a disk that begins with `head` has a boot sector, or a partition table of any kind.
pub(crate) fn has_boot_sector(head: &[u8]) -> bool {
    BOOT.iter().any(|(at, magic)| head.get(*at..).is_some_and(|bytes| bytes.starts_with(magic)))
}

/// Four bytes at `at`, little-endian. The caller has checked that they are there.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Eight bytes at `at`, little-endian. The caller has checked that they are there.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// A [`ReadAt`] over bytes in memory.
pub(crate) fn over(bytes: &[u8]) -> impl FnMut(u64, &mut [u8]) -> bool + '_ {
    move |offset, buffer| {
        let range = usize::try_from(offset)
            .ok()
            .and_then(|at| bytes.get(at..at.checked_add(buffer.len())?));
        range.map(|found| buffer.copy_from_slice(found)).is_some()
    }
}
