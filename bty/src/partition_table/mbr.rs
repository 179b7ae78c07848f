//! The master boot record, with the logical partitions inside an extended one.
//!
//! ```text
//! 0..440 boot code | 440..444 disk signature | 446..510 four entries of 16 bytes | 510..512 55 aa
//! entry: 0 status (00, 80 bootable) | 1..4 CHS start | 4 type | 5..8 CHS end
//!        8..12 first LBA | 12..16 number of sectors
//! ```
//! All little-endian; UEFI specification 2.10, section 5.2.1.

use crate::partition_table::Partition;
use crate::partition_table::{ReadAt, u32_at};

/// Offset of the first entry in bytes.
pub(crate) const ENTRIES_AT: usize = 446;
/// Size of an entry in bytes.
pub(crate) const ENTRY_BYTES: usize = 16;
/// Type of the entry that protects a GPT from tools that do not know it.
pub(crate) const GPT_PROTECTIVE: u8 = 0xee;
/// Maximum number of logical partitions; a longer chain is damaged or malicious.
const LOGICAL_MAX: u32 = 128;

/// A master boot record that describes at least one partition.
#[derive(Debug)]
pub(crate) struct Mbr {
    /// Primary partitions, numbered 1 to 4, then logical ones, numbered from 5.
    pub(crate) partitions: Vec<MbrPartition>,
}

/// An entry that is in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MbrPartition {
    /// Number, as the kernel assigns it.
    pub(crate) number: u32,
    /// Type byte of the entry, such as 0x83 for Linux.
    pub(crate) kind: u8,
    /// First sector, from the start of the disk.
    pub(crate) first_lba: u64,
    pub(crate) sectors: u64,
}

impl Mbr {
    /// True when an entry protects a GPT.
    pub(crate) fn is_protective(&self) -> bool {
        self.partitions.iter().any(|p| p.kind == GPT_PROTECTIVE)
    }
}

impl MbrPartition {
    /// True for the three types that contain logical partitions.
    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    pub(crate) fn describe(&self, sector: u32) -> Partition {
        Partition {
            path: None,
            number: self.number,
            start_bytes: self.first_lba * u64::from(sector),
            size_bytes: self.sectors * u64::from(sector),
            type_id: Some(format!("{:02x}", self.kind)),
            name: None,
            content: None,
        }
    }
}

/// Reads the table in the first sector, and the logical partitions in the first extended one.
pub(crate) fn read(read: &mut ReadAt<'_>, sector: u32) -> Option<Mbr> {
    let mut first = [0; 512];
    if !read(0, &mut first) {
        return None;
    }
    let entries = entries(&first)?;
    let mut partitions: Vec<MbrPartition> = entries.into_iter().flatten().collect();
    if partitions.is_empty() {
        return None;
    }
    if let Some(extended) = partitions.iter().copied().find(MbrPartition::is_extended) {
        partitions.extend(logical(read, extended, sector));
    }
    Some(Mbr { partitions })
}

/// Parses the four entries; unused ones are `None`. The result is `None` if this is no partition
/// table: a FAT or NTFS boot sector has the same signature, but code where the status bytes are.
fn entries(sector: &[u8; 512]) -> Option<[Option<MbrPartition>; 4]> {
    if sector[510..] != [0x55, 0xaa] {
        return None;
    }
    let mut found = [None; 4];
    for (slot, number) in found.iter_mut().zip(1..) {
        let at = ENTRIES_AT + (number as usize - 1) * ENTRY_BYTES;
        let entry = &sector[at..at + ENTRY_BYTES];
        if entry[0] & 0x7f != 0 {
            return None;
        }
        let (kind, first_lba, sectors) = (entry[4], u32_at(entry, 8), u32_at(entry, 12));
        if kind != 0 && sectors != 0 {
            let (first_lba, sectors) = (u64::from(first_lba), u64::from(sectors));
            *slot = Some(MbrPartition { number, kind, first_lba, sectors });
        }
    }
    Some(found)
}

/// Follows the chain of extended boot records: entry 1 is a partition relative to its record, entry
/// 2 the next record relative to the extended partition.
fn logical(read: &mut ReadAt<'_>, extended: MbrPartition, sector: u32) -> Vec<MbrPartition> {
    let mut found = Vec::new();
    let mut record = extended.first_lba;
    for _ in 0..LOGICAL_MAX {
        let mut bytes = [0; 512];
        if !read(record * u64::from(sector), &mut bytes) {
            break;
        }
        let Some([data, next, ..]) = entries(&bytes) else { break };
        if let Some(data) = data {
            let number = 5 + u32::try_from(found.len()).unwrap_or(LOGICAL_MAX);
            found.push(MbrPartition { number, first_lba: record + data.first_lba, ..data });
        }
        match next {
            // a chain that does not go forward could loop
            Some(next) if extended.first_lba + next.first_lba > record => {
                record = extended.first_lba + next.first_lba;
            }
            _ => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition_table::over;
    use proptest::prelude::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn sfdisk(script: &str, bytes: u64) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        let mut tool = Command::new("sfdisk")
            .arg("-q")
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .expect("sfdisk (package fdisk)");
        tool.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(tool.wait().unwrap().success());
        std::fs::read(path).unwrap()
    }

    #[test]
    fn reads_primary_and_logical_partitions_as_sfdisk_made_them() {
        let disk = sfdisk(
            "label: dos\nstart=2048,size=2048,type=c\nstart=4096,size=20480,type=5\n\
             start=6144,size=2048,type=83\nstart=10240,size=1024,type=82\n",
            16 << 20,
        );
        let mbr = read(&mut over(&disk), 512).unwrap();
        let seen: Vec<_> =
            mbr.partitions.iter().map(|p| (p.number, p.kind, p.first_lba, p.sectors)).collect();
        assert_eq!(
            seen,
            [
                (1, 0x0c, 2048, 2048),
                (2, 5, 4096, 20480),
                (5, 0x83, 6144, 2048),
                (6, 0x82, 10240, 1024)
            ]
        );
        assert!(!mbr.is_protective());
    }

    #[test]
    fn ends_a_chain_that_points_to_itself() {
        let mut disk = vec![0; 8192];
        for (at, kind, first, sectors) in [(0, 5, 4, 8), (2048 + 16, 5, 0, 4)] {
            let entry = ENTRIES_AT + at;
            disk[entry + 4] = kind;
            disk[entry + 8] = first;
            disk[entry + 12] = sectors;
        }
        for record in [0, 2048] {
            disk[record + 510..record + 512].copy_from_slice(&[0x55, 0xaa]);
        }
        assert_eq!(read(&mut over(&disk), 512).unwrap().partitions.len(), 1);
    }

    #[test]
    fn does_not_take_a_fat_boot_sector_for_a_table() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fat");
        std::fs::File::create(&path).unwrap().set_len(4 << 20).unwrap();
        let made =
            Command::new("mkfs.vfat").arg(&path).output().expect("mkfs.vfat (package dosfstools)");
        assert!(made.status.success());
        assert!(read(&mut over(&std::fs::read(path).unwrap()), 512).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn survives_any_bytes(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..4096),
            signed in any::<bool>(),
        ) {
            if signed && bytes.len() >= 512 {
                bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
                for entry in 0..4 {
                    bytes[ENTRIES_AT + entry * ENTRY_BYTES] = 0;
                    bytes[ENTRIES_AT + entry * ENTRY_BYTES + 4] = 5;
                }
            }
            let _ = read(&mut over(&bytes), 512);
            let _ = crate::partition_table::read(&mut over(&bytes), bytes.len() as u64, 512);
        }
    }
}
