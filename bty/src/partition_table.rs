//! Partition tables: reading MBR and GPT, and moving the backup GPT to the end of a larger disk.
//!
//! Everything here works on bytes in memory and is pure. Formats: UEFI specification 2.10, section
//! 5.

use std::ops::Range;

use crate::disks::{Partition, TableKind};

pub(crate) mod gpt;
pub(crate) mod mbr;

/// Fills the buffer from an offset in bytes; false when that cannot be read in full.
pub(crate) type ReadAt<'a> = dyn FnMut(u64, &mut [u8]) -> bool + 'a;

/// A partition table as found on a disk, whichever kind it is.
#[derive(Debug)]
pub(crate) struct Table {
    /// Its kind.
    pub(crate) kind: TableKind,
    /// Its partitions, in the order of their start, without what only the kernel or their content
    /// tells.
    pub(crate) partitions: Vec<Partition>,
}

/// Reads the partition table of a disk of `disk_bytes` with logical sectors of `sector` bytes.
///
/// A protective MBR whose GPT is damaged counts as a GPT without partitions, as it does for the
/// kernel.
pub(crate) fn read(read: &mut ReadAt<'_>, disk_bytes: u64, sector: u32) -> Option<Table> {
    let mbr = mbr::read(read, sector);
    // a hybrid MBR, or one that an old tool rewrote, hides nothing from the kernel as long as a GPT
    // entry is in it
    if mbr.as_ref().is_some_and(mbr::Mbr::is_protective) {
        let mut partitions: Vec<Partition> = gpt::find(read, disk_bytes, sector)
            .map(|gpt| gpt.partitions.iter().map(|p| p.describe(sector)).collect())
            .unwrap_or_default();
        partitions.sort_by_key(|p| p.start_bytes);
        return Some(Table { kind: TableKind::Gpt, partitions });
    }
    let mut partitions: Vec<Partition> =
        mbr?.partitions.iter().map(|p| p.describe(sector)).collect();
    partitions.sort_by_key(|p| p.start_bytes);
    Some(Table { kind: TableKind::Mbr, partitions })
}

/// The byte ranges of all partitions on a disk, whichever copy of a table tells them. For a disk
/// with logical sectors of `sector` bytes, which a disk in a file may contradict.
pub(crate) fn ranges(disk: &mut ReadAt<'_>, disk_bytes: u64, sector: u32) -> Vec<Range<u64>> {
    let mut head = [0; 8192];
    let sector =
        if disk(0, &mut head) { gpt::detect_sector_bytes(&head).unwrap_or(sector) } else { sector };
    let range = |p: &Partition| p.start_bytes..p.start_bytes.saturating_add(p.size_bytes);
    if let Some(table) = read(disk, disk_bytes, sector) {
        return table.partitions.iter().map(range).collect();
    }
    // the primary table is lost: the kernel would not look, but the next tool may
    let backup = gpt::find(disk, disk_bytes, sector);
    backup.iter().flat_map(|gpt| &gpt.partitions).map(|p| range(&p.describe(sector))).collect()
}

/// Offset in bytes and magic of what else a disk may begin with: boot sectors, and tables of
/// systems that are not read here.
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

/// A reader over bytes in memory.
pub(crate) fn over(bytes: &[u8]) -> impl FnMut(u64, &mut [u8]) -> bool + '_ {
    move |offset, buffer| {
        let range = usize::try_from(offset)
            .ok()
            .and_then(|at| bytes.get(at..at.checked_add(buffer.len())?));
        range.map(|found| buffer.copy_from_slice(found)).is_some()
    }
}
