//! The GUID partition table: parsing it, checksums included, and moving its backup.
//!
//! ```text
//! header, in LBA 1 and in the last LBA:
//!  0..8  "EFI PART"     8..12 revision          12..16 header size (92 or more)
//! 16..20 CRC-32 of the header with this field zero           20..24 reserved
//! 24..32 own LBA       32..40 LBA of the other header
//! 40..48 first usable  48..56 last usable LBA   56..72 disk GUID
//! 72..80 LBA of the entries      80..84 number of entries
//! 84..88 size of one entry       88..92 CRC-32 of all entries
//!
//! entry: 0..16 type GUID | 16..32 own GUID | 32..40 first LBA | 40..48 last LBA (inclusive)
//!        48..56 attributes | 56..128 name, UTF-16
//! ```
//! All little-endian; UEFI specification 2.10, section 5.3.

use std::fmt;
use std::ops::Range;

use crate::partition_table::Partition;
use crate::partition_table::mbr::{ENTRIES_AT, ENTRY_BYTES, GPT_PROTECTIVE};
use crate::partition_table::{ReadAt, u32_at, u64_at};
use crate::{Error, ErrorKind, Result};

const SIGNATURE: &[u8; 8] = b"EFI PART";
const HEADER_BYTES: usize = 92;
/// Size of the entries in bytes in nearly all tables: 128 entries of 128 bytes.
pub(crate) const ENTRIES_BYTES: u64 = 16 << 10;
/// Tables with larger entries are rejected; nearly all have 16 KiB.
const ENTRIES_BYTES_MAX: u64 = 512 << 10;
/// Type of an EFI system partition.
const ESP_TYPE: Guid = Guid(*b"\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b");

/// A GUID as stored on the disk: its first three fields are little-endian.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guid(pub(crate) [u8; 16]);

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, at) in
            [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15].into_iter().enumerate()
        {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0[at])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guid({self})")
    }
}

/// A table with correct checksums.
#[derive(Debug)]
pub(crate) struct Gpt {
    /// LBA of the header that was parsed.
    pub(crate) own_lba: u64,
    /// LBA of the other header.
    pub(crate) alternate_lba: u64,
    /// LBA of the entries.
    pub(crate) entries_lba: u64,
    /// Size of all entries in bytes.
    pub(crate) entries_bytes: u64,
    /// Used entries, in the order of the table.
    pub(crate) partitions: Vec<GptPartition>,
    header_bytes: usize,
    entry_bytes: usize,
    entries_crc: u32,
}

#[derive(Debug)]
pub(crate) struct GptPartition {
    /// Number of its entry, from 1.
    pub(crate) number: u32,
    pub(crate) type_guid: Guid,
    /// Unique GUID of the partition.
    pub(crate) guid: Guid,
    pub(crate) first_lba: u64,
    /// The last sector that belongs to the partition.
    pub(crate) last_lba: u64,
    pub(crate) name: String,
}

impl GptPartition {
    pub(crate) fn sectors(&self) -> u64 {
        (self.last_lba - self.first_lba).saturating_add(1)
    }

    pub(crate) fn describe(&self, sector: u32) -> Partition {
        Partition {
            path: None,
            number: self.number,
            start_bytes: self.first_lba.saturating_mul(u64::from(sector)),
            size_bytes: self.sectors().saturating_mul(u64::from(sector)),
            type_id: Some(self.type_guid.to_string()),
            name: Some(self.name.clone()).filter(|name| !name.is_empty()),
            content: None,
        }
    }
}

fn damaged(what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Format, format!("reading the partition table: {what}"))
        .hint("the image is damaged: download it again, and check its digest")
}

/// Parses the table in `head`, the first bytes of a disk with logical sectors of `sector` bytes.
/// `None` without a GPT.
///
/// # Errors
/// [`ErrorKind::Format`] when a checksum or a field is wrong, or the entries lie beyond `head`.
pub(crate) fn read(head: &[u8], sector: u32) -> Result<Option<Gpt>> {
    let Some(header) = header_in(head, sector) else { return Ok(None) };
    let mut gpt = parse_header(header, 1)?;
    let entries = entries_in(head, &gpt, sector).ok_or_else(|| {
        damaged(format_args!(
            "its entries, at LBA {}, are not at the start of the disk",
            gpt.entries_lba
        ))
    })?;
    gpt.partitions = parse_entries(entries, &gpt)?;
    Ok(Some(gpt))
}

/// Finds the table of a whole disk: the primary one, or the backup at the end if the primary one is
/// damaged.
pub(crate) fn find(read: &mut ReadAt<'_>, disk_bytes: u64, sector: u32) -> Option<Gpt> {
    let last_lba = (disk_bytes / u64::from(sector)).checked_sub(1)?;
    [1, last_lba].into_iter().find_map(|lba| read_copy(read, lba, sector).ok())
}

fn read_copy(read: &mut ReadAt<'_>, lba: u64, sector: u32) -> Result<Gpt> {
    let unreadable = || damaged("it cannot be read");
    let mut header = vec![0; sector as usize];
    if !read(lba.saturating_mul(u64::from(sector)), &mut header) {
        return Err(unreadable());
    }
    let mut gpt = parse_header(&header, lba)?;
    let mut entries = vec![0; usize::try_from(gpt.entries_bytes).map_err(|_| unreadable())?];
    if !read(gpt.entries_lba.saturating_mul(u64::from(sector)), &mut entries) {
        return Err(unreadable());
    }
    gpt.partitions = parse_entries(&entries, &gpt)?;
    Ok(gpt)
}

/// The logical sector size in bytes that a disk image was made for, judged by where its GPT header
/// is.
pub(crate) fn detect_sector_bytes(head: &[u8]) -> Option<u32> {
    [512, 4096]
        .into_iter()
        .find(|&sector| header_in(head, sector).is_some_and(|h| parse_header(h, 1).is_ok()))
}

/// The first EFI system partition.
pub(crate) fn esp(gpt: &Gpt) -> Option<&GptPartition> {
    gpt.partitions.iter().find(|p| p.type_guid == ESP_TYPE)
}

/// The second sector, if it begins with the signature of a header.
fn header_in(head: &[u8], sector: u32) -> Option<&[u8]> {
    let header = head.get(sector as usize..2 * sector as usize)?;
    header.starts_with(SIGNATURE).then_some(header)
}

fn entries_in<'a>(head: &'a [u8], gpt: &Gpt, sector: u32) -> Option<&'a [u8]> {
    let start = usize::try_from(gpt.entries_lba.checked_mul(u64::from(sector))?).ok()?;
    head.get(start..start.checked_add(usize::try_from(gpt.entries_bytes).ok()?)?)
}

/// Parses the header in `sector`, which was read from `lba`. The partitions are not filled in.
fn parse_header(sector: &[u8], lba: u64) -> Result<Gpt> {
    if !sector.starts_with(SIGNATURE) {
        return Err(damaged(format_args!("no header at LBA {lba}")));
    }
    let header_bytes = u32_at(sector, 12) as usize;
    if !(HEADER_BYTES..=sector.len()).contains(&header_bytes) {
        return Err(damaged(format_args!("its header claims {header_bytes} bytes")));
    }
    if header_crc(&sector[..header_bytes]) != u32_at(sector, 16) {
        return Err(damaged("the checksum of its header is wrong"));
    }
    let (entries, entry_bytes) = (u32_at(sector, 80), u32_at(sector, 84));
    let entries_bytes = u64::from(entries) * u64::from(entry_bytes);
    if !entry_bytes.is_power_of_two()
        || entry_bytes < 128
        || entries_bytes == 0
        || entries_bytes > ENTRIES_BYTES_MAX
    {
        return Err(damaged(format_args!("{entries} entries of {entry_bytes} bytes")));
    }
    let gpt = Gpt {
        own_lba: u64_at(sector, 24),
        alternate_lba: u64_at(sector, 32),
        entries_lba: u64_at(sector, 72),
        entries_bytes,
        partitions: Vec::new(),
        header_bytes,
        entry_bytes: entry_bytes as usize,
        entries_crc: u32_at(sector, 88),
    };
    if gpt.own_lba != lba || gpt.entries_lba < 2 {
        return Err(damaged(format_args!(
            "its header at LBA {lba} says LBA {}, entries at {}",
            gpt.own_lba, gpt.entries_lba
        )));
    }
    Ok(gpt)
}

fn parse_entries(entries: &[u8], gpt: &Gpt) -> Result<Vec<GptPartition>> {
    if crc32fast::hash(entries) != gpt.entries_crc {
        return Err(damaged("the checksum of its entries is wrong"));
    }
    let guid = |entry: &[u8], at: usize| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&entry[at..at + 16]);
        Guid(bytes)
    };
    let mut partitions = Vec::new();
    for (entry, number) in entries.chunks_exact(gpt.entry_bytes).zip(1..) {
        let (first_lba, last_lba) = (u64_at(entry, 32), u64_at(entry, 40));
        if entry[..16] == [0; 16] {
            continue;
        }
        if first_lba > last_lba {
            return Err(damaged(format_args!("partition {number} ends before it begins")));
        }
        let units: Vec<u16> =
            entry[56..128].chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).collect();
        let name =
            String::from_utf16_lossy(units.split(|&unit| unit == 0).next().unwrap_or_default());
        let (type_guid, guid) = (guid(entry, 0), guid(entry, 16));
        partitions.push(GptPartition { number, type_guid, guid, first_lba, last_lba, name });
    }
    Ok(partitions)
}

fn header_crc(header: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..16]);
    crc.update(&[0; 4]);
    crc.update(&header[20..]);
    crc.finalize()
}

/// A backup table for its new place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RelocatedBackup {
    /// Offset on the disk in bytes. The backup ends with the last whole sector.
    pub(crate) backup_offset: u64,
    /// Entries and header, in whole sectors.
    pub(crate) backup: Vec<u8>,
}

/// Adapts the table in `head`, the first MiB of an image, to a disk of `disk_bytes`: changes the
/// primary header and the protective MBR in `head`, and returns the backup to write at the end of
/// the disk. `None`, with `head` unchanged, if there is no GPT, or its backup is at the end of
/// `disk` already.
///
/// # Errors
/// - [`ErrorKind::Format`]: the table is damaged.
/// - [`ErrorKind::Refused`]: a partition or the backup does not fit on the disk.
pub(crate) fn relocate_backup(
    head: &mut [u8],
    disk: &mut ReadAt<'_>,
    disk_bytes: u64,
    sector: u32,
) -> Result<Option<RelocatedBackup>> {
    let Some(gpt) = read(head, sector)? else { return Ok(None) };
    // an image that fills the disk is left as it is, even if a partition reaches into the space
    // that a backup would need
    if is_backup_at_end(&gpt, disk, disk_bytes, sector) {
        return Ok(None);
    }
    relocated(head, &gpt, disk_bytes, sector).map(Some)
}

/// The backup that [`relocate_backup`] wrote to `disk`, for a comparison with the image that begins
/// with `head`; changes `head` in the same way. `None` if nothing was moved: the backup at the end
/// of the disk is that of the image.
///
/// # Errors
/// - [`ErrorKind::Format`]: the table in `head` is damaged.
/// - [`ErrorKind::Refused`]: a partition or the backup does not fit on the disk.
pub(crate) fn expected_backup(
    head: &mut [u8],
    disk: &mut ReadAt<'_>,
    disk_bytes: u64,
    sector: u32,
) -> Result<Option<RelocatedBackup>> {
    let Some(gpt) = read(head, sector)? else { return Ok(None) };
    let is_of_image = is_backup_at_end(&gpt, disk, disk_bytes, sector);
    let mut patched = head.to_vec();
    let made = match relocated(&mut patched, &gpt, disk_bytes, sector) {
        Err(_) if is_of_image => return Ok(None),
        made => made?,
    };
    let mut found = vec![0; made.backup.len()];
    let is_made = disk(made.backup_offset, &mut found) && found == made.backup;
    if is_of_image && !is_made {
        return Ok(None);
    }
    head.copy_from_slice(&patched);
    Ok(Some(made))
}

/// True when the last sector of `disk` is where the backup of `gpt` belongs, and holds it.
fn is_backup_at_end(gpt: &Gpt, disk: &mut ReadAt<'_>, disk_bytes: u64, sector: u32) -> bool {
    let last_lba = (disk_bytes / u64::from(sector)).checked_sub(1);
    last_lba == Some(gpt.alternate_lba)
        && read_copy(disk, gpt.alternate_lba, sector)
            .is_ok_and(|backup| backup.alternate_lba == 1 && backup.entries_crc == gpt.entries_crc)
}

/// Changes `head`, whose table is `gpt`, and creates the backup.
fn relocated(head: &mut [u8], gpt: &Gpt, disk_bytes: u64, sector: u32) -> Result<RelocatedBackup> {
    let bytes = u64::from(sector);
    let too_small = |what: String| {
        Error::new(ErrorKind::Refused, format!("moving the backup partition table: {what}"))
            .hint("use a larger disk, or an image made for a smaller one")
    };
    let entries_sectors = gpt.entries_bytes.div_ceil(bytes);
    let disk_sectors = disk_bytes / bytes;
    let backup_lba = disk_sectors.saturating_sub(1 + entries_sectors);
    // the backup is written before the head, which would overwrite it
    if backup_lba.saturating_mul(bytes) < head.len() as u64
        || backup_lba < gpt.entries_lba + entries_sectors
    {
        return Err(too_small(format!("no room on a disk of {disk_bytes} bytes")));
    }
    let last_lba = disk_sectors - 1;
    if let Some(partition) = gpt.partitions.iter().find(|p| p.last_lba >= backup_lba) {
        return Err(too_small(format!(
            "partition {} ends at LBA {}, the disk has room up to LBA {}",
            partition.number,
            partition.last_lba,
            backup_lba - 1
        )));
    }
    let entries = entries_in(head, gpt, sector).map(<[u8]>::to_vec).unwrap_or_default();
    let (header_at, header_bytes) = (sector as usize, gpt.header_bytes);
    let primary = &mut head[header_at..header_at + header_bytes];
    primary[32..40].copy_from_slice(&last_lba.to_le_bytes());
    primary[48..56].copy_from_slice(&(backup_lba - 1).to_le_bytes());
    seal(primary);
    let mut header = primary.to_vec();
    header[24..32].copy_from_slice(&last_lba.to_le_bytes());
    header[32..40].copy_from_slice(&1u64.to_le_bytes());
    header[72..80].copy_from_slice(&backup_lba.to_le_bytes());
    seal(&mut header);

    let mut backup = entries;
    backup.resize((entries_sectors * bytes) as usize, 0);
    backup.extend_from_slice(&header);
    backup.resize(((entries_sectors + 1) * bytes) as usize, 0);
    resize_protective_mbr(head, disk_sectors);
    Ok(RelocatedBackup { backup_offset: backup_lba * bytes, backup })
}

/// The range in bytes of the image's own backup, for the image that begins with `head`.
pub(crate) fn backup_range(head: &[u8]) -> Option<Range<u64>> {
    let sector = detect_sector_bytes(head)?;
    let gpt = read(head, sector).ok()??;
    let sector = u64::from(sector);
    let end = gpt.alternate_lba.checked_add(1)?.checked_mul(sector)?;
    let start = end.checked_sub(sector + gpt.entries_bytes.div_ceil(sector) * sector)?;
    Some(start..end)
}

/// Stores the checksum of `header` in it.
fn seal(header: &mut [u8]) {
    let crc = header_crc(header);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
}

/// Makes the only entry of a protective MBR span the disk. A hybrid MBR, which somebody made by
/// hand for special firmware, is not changed.
fn resize_protective_mbr(head: &mut [u8], disk_sectors: u64) {
    let entries = &mut head[ENTRIES_AT..ENTRIES_AT + 4 * ENTRY_BYTES];
    let used: Vec<usize> =
        (0..4).map(|i| i * ENTRY_BYTES).filter(|&at| entries[at + 4] != 0).collect();
    if let [at] = used[..]
        && entries[at + 4] == GPT_PROTECTIVE
        && u32_at(entries, at + 8) == 1
    {
        let sectors = u32::try_from(disk_sectors - 1).unwrap_or(u32::MAX);
        entries[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    }
}

#[cfg(test)]
mod tests;
