//! Resizes an exFAT file system in place, without moving any file.
//!
//! That works because the allocation table and the bitmap have room for the largest size:
//! `media/build` formats a file system of that size and truncates it. The structures are in
//! Microsoft's "exFAT file system specification", sections 3 and 7.1.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Sectors of the boot region. The last one holds the checksum; a copy of the region follows.
const BOOT_SECTORS: usize = 12;
/// Bytes of the root directory that are searched. The entries of label and bitmap are at its start.
const ROOT_BYTES_MAX: usize = 4096;
/// Types of entries in the root directory.
const BITMAP: u8 = 0x81;
const LABEL: u8 = 0x83;
const PERCENT_UNKNOWN: u8 = 0xff;

// offsets of fields in the boot region
/// 64 bits: size of the file system, in sectors.
const VOLUME_LENGTH: usize = 72;
/// 32 bits: size of the allocation table, in sectors.
const TABLE_LENGTH: usize = 84;
/// 32 bits: first sector of the clusters.
const HEAP_OFFSET: usize = 88;
/// 32 bits: number of clusters.
const CLUSTER_COUNT: usize = 92;
/// 32 bits: first cluster of the root directory.
const ROOT_CLUSTER: usize = 96;
/// 32 bits.
const SERIAL_NUMBER: usize = 100;
/// 16 bits; they change while the volume is mounted.
const VOLUME_FLAGS: usize = 106;
/// 8 bits: binary logarithm of the bytes of a sector.
const SECTOR_SHIFT: usize = 108;
/// 8 bits: binary logarithm of the sectors of a cluster.
const CLUSTER_SHIFT: usize = 109;
/// 8 bits: number of allocation tables.
const TABLES: usize = 110;
/// 8 bits: percentage of the clusters in use.
const PERCENT_IN_USE: usize = 112;

/// An exFAT file system in a file or a disk.
pub(crate) struct ExFat<'a> {
    file: &'a File,
    /// Offset of the file system, in bytes.
    start: u64,
    /// The boot region, or its copy.
    boot: Vec<u8>,
    /// Size of a sector, in bytes.
    sector: u64,
    /// The boot region is damaged and `boot` is its copy: a [`ExFat::resize`] was interrupted.
    pub(crate) is_copy: bool,
}

impl<'a> ExFat<'a> {
    /// Reads the boot region of the file system at byte `start`, or its copy if the checksum of the
    /// boot region is wrong.
    pub(crate) fn open(file: &'a File, start: u64) -> Result<Self, String> {
        let mut head = vec![0; 512];
        read(file, start, &mut head)?;
        let shift = u32::from(head[SECTOR_SHIFT]);
        if &head[3..11] != b"EXFAT   "
            || !(9..=12).contains(&shift)
            || u32::from(head[CLUSTER_SHIFT]) > 25 - shift
            || head[TABLES] != 1
        {
            return Err("no exFAT file system found".into());
        }
        let sector = 1u64 << shift;
        let len = BOOT_SECTORS << shift;
        let mut this = Self { file, start, boot: vec![0; len], sector, is_copy: false };
        for (at, is_copy) in [(start, false), (start + len as u64, true)] {
            read(file, at, &mut this.boot)?;
            this.is_copy = is_copy;
            if this.boot[3..11] == head[3..11]
                && this.boot[SECTOR_SHIFT..=TABLES] == head[SECTOR_SHIFT..=TABLES]
                && this.has_valid_checksum()
            {
                return Ok(this);
            }
        }
        Err("the checksum of its boot region is wrong: repair the stick with fsck.exfat or chkdsk"
            .into())
    }

    fn has_valid_checksum(&self) -> bool {
        let last = (BOOT_SECTORS - 1) * self.sector as usize;
        self.boot[last..last + 4] == self.checksum().to_le_bytes()
    }

    /// The 32-bit field at an offset of the boot region.
    fn u32(&self, at: usize) -> u64 {
        u64::from(u32::from_le_bytes([
            self.boot[at],
            self.boot[at + 1],
            self.boot[at + 2],
            self.boot[at + 3],
        ]))
    }

    /// Size of the file system, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let mut value = [0; 8];
        value.copy_from_slice(&self.boot[VOLUME_LENGTH..VOLUME_LENGTH + 8]);
        u64::from_le_bytes(value).saturating_mul(self.sector)
    }

    fn clusters(&self) -> u64 {
        self.u32(CLUSTER_COUNT)
    }

    fn cluster_bytes(&self) -> u64 {
        self.sector << self.boot[CLUSTER_SHIFT]
    }

    /// Offset of a cluster in the file, in bytes. The first cluster has the number 2.
    fn cluster_at(&self, cluster: u64) -> u64 {
        self.start
            + self.u32(HEAP_OFFSET) * self.sector
            + cluster.saturating_sub(2) * self.cluster_bytes()
    }

    /// The first entry of a kind in the root directory, with its offset in the file.
    fn entry(&self, kind: u8) -> Result<Option<(u64, [u8; 32])>, String> {
        let at = self.cluster_at(self.u32(ROOT_CLUSTER));
        let len =
            usize::try_from(self.cluster_bytes()).unwrap_or(ROOT_BYTES_MAX).min(ROOT_BYTES_MAX);
        let mut root = vec![0; len];
        read(self.file, at, &mut root)?;
        let found = root
            .as_chunks::<32>()
            .0
            .iter()
            .zip((at..).step_by(32))
            .find(|(entry, _)| entry[0] == kind);
        Ok(found.map(|(entry, at)| (at, *entry)))
    }

    /// The label of the volume; empty if it has none.
    pub(crate) fn label(&self) -> Result<String, String> {
        let Some((_, entry)) = self.entry(LABEL)? else { return Ok(String::new()) };
        let chars = entry[2..24]
            .as_chunks::<2>()
            .0
            .iter()
            .take(usize::from(entry[1]))
            .map(|pair| u16::from_le_bytes(*pair));
        Ok(char::decode_utf16(chars).map(|c| c.unwrap_or('?')).collect())
    }

    /// The largest size that the allocation table and the bitmap have room for, in bytes.
    pub(crate) fn bytes_max(&self) -> u64 {
        // an entry of the table has 4 bytes, and the first two entries are reserved; the bitmap has
        // one cluster
        let in_table = (self.u32(TABLE_LENGTH) * self.sector / 4).saturating_sub(2);
        let clusters = in_table.min(self.cluster_bytes() * 8);
        self.u32(HEAP_OFFSET) * self.sector + clusters * self.cluster_bytes()
    }

    /// Resizes the file system to `bytes`, rounded down to whole clusters and limited to
    /// [`ExFat::bytes_max`]. Fails if files occupy clusters beyond the new end.
    ///
    /// It can be interrupted at any write: bitmap first, then the copy of the boot region, then the
    /// boot region, so that one of the two is valid at any time. Another call completes it.
    pub(crate) fn resize(&mut self, bytes: u64) -> Result<(), String> {
        let (at, mut entry) = self.entry(BITMAP)?.ok_or("its root directory has no bitmap")?;
        let bitmap = self.cluster_at(u64::from(u32::from_le_bytes([
            entry[20], entry[21], entry[22], entry[23],
        ])));
        let bytes = bytes.min(self.bytes_max());
        let clusters =
            bytes.saturating_sub(self.u32(HEAP_OFFSET) * self.sector) / self.cluster_bytes();
        let (old, new) = (self.clusters(), clusters);
        if new == 0 || old > self.cluster_bytes() * 8 {
            return Err("the tables of the file system have no room for this size".into());
        }
        let (fewer, more) = (old.min(new), old.max(new));
        let mut bits = vec![0; usize::try_from(more.div_ceil(8)).map_err(|e| e.to_string())?];
        read(self.file, bitmap, &mut bits)?;
        let is_used = |cluster: u64| bits[(cluster / 8) as usize] >> (cluster % 8) & 1 == 1;
        if new < old && (new..old).any(is_used) {
            return Err("files occupy space beyond the new end".into());
        }
        // bits of clusters that did not exist have no meaning: clear them
        let kept = bits[(fewer / 8) as usize..]
            .first()
            .map(|byte| byte & ((1u16 << (fewer % 8)) - 1) as u8);
        bits[(fewer / 8) as usize..].fill(0);
        if let Some(kept) = kept {
            bits[(fewer / 8) as usize] = kept;
        }
        write(self.file, bitmap, &bits)?;
        entry[24..32].copy_from_slice(&new.div_ceil(8).to_le_bytes());
        write(self.file, at, &entry)?;
        self.boot[VOLUME_LENGTH..VOLUME_LENGTH + 8]
            .copy_from_slice(&(bytes / self.sector).to_le_bytes());
        self.boot[CLUSTER_COUNT..CLUSTER_COUNT + 4]
            .copy_from_slice(&u32::try_from(new).map_err(|e| e.to_string())?.to_le_bytes());
        self.boot[PERCENT_IN_USE] = PERCENT_UNKNOWN;
        let sum: Vec<u8> = self.checksum().to_le_bytes().repeat(self.sector as usize / 4);
        let last = (BOOT_SECTORS - 1) * self.sector as usize;
        self.boot[last..].copy_from_slice(&sum);
        sync(self.file)?;
        write(self.file, self.start + BOOT_SECTORS as u64 * self.sector, &self.boot)?;
        sync(self.file)?;
        write(self.file, self.start, &self.boot)?;
        sync(self.file)
    }

    /// Checksum of the boot region without its last sector, and without the volume flags and the
    /// percentage in use, which change while the volume is mounted.
    fn checksum(&self) -> u32 {
        let bytes = self.boot[..(BOOT_SECTORS - 1) * self.sector as usize].iter().enumerate();
        let counted =
            bytes.filter(|(at, _)| ![VOLUME_FLAGS, VOLUME_FLAGS + 1, PERCENT_IN_USE].contains(at));
        counted.fold(0, |sum: u32, (_, &byte)| sum.rotate_right(1).wrapping_add(u32::from(byte)))
    }
}

/// For `media/build`: resizes the file system in a file, and the file. Sets a constant serial
/// number too, so that builds are reproducible: mkfs derives it from the time.
pub(crate) fn resize_file(path: &Path, bytes: &str) -> Result<(), String> {
    let bytes = bytes.parse().map_err(|_| format!("{bytes:?} is not a number of bytes"))?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|e| format!("{}: {e}", path.display()))?;
    let mut system = ExFat::open(&file, 0)?;
    system.boot[SERIAL_NUMBER..SERIAL_NUMBER + 4].copy_from_slice(b"BTY1");
    system.resize(bytes)?;
    file.set_len(bytes).map_err(|e| e.to_string())
}

fn read(mut file: &File, at: u64, bytes: &mut [u8]) -> Result<(), String> {
    file.seek(SeekFrom::Start(at))
        .and_then(|_| file.read_exact(bytes))
        .map_err(|e| format!("cannot read it: {e}"))
}

pub(crate) fn write(mut file: &File, at: u64, bytes: &[u8]) -> Result<(), String> {
    #[cfg(test)]
    tests::simulate_power_cut(file, at, bytes)?;
    file.seek(SeekFrom::Start(at))
        .and_then(|_| file.write_all(bytes))
        .map_err(|e| format!("cannot write it: {e}"))
}

pub(crate) fn sync(file: &File) -> Result<(), String> {
    file.sync_all().map_err(|e| format!("cannot write it: {e}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;
    use std::process::Command;

    use super::*;

    pub(crate) const MIB: u64 = 1 << 20;

    thread_local! {
        /// Number of writes that succeed before one is interrupted; none if all of them do.
        static WRITES_LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    pub(crate) fn interrupt_after(writes: Option<u32>) {
        WRITES_LEFT.set(writes);
    }

    /// Interrupts a write after half of its sectors, if no more writes are left.
    pub(super) fn simulate_power_cut(mut file: &File, at: u64, bytes: &[u8]) -> Result<(), String> {
        match WRITES_LEFT.get() {
            None => Ok(()),
            Some(0) => {
                file.seek(SeekFrom::Start(at)).unwrap();
                file.write_all(&bytes[..bytes.len() / 1024 * 512]).unwrap();
                Err("no power".into())
            }
            Some(left) => {
                WRITES_LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }

    pub(crate) fn tool(command: &[&str]) -> String {
        let output = Command::new(command[0])
            .args(&command[1..])
            .output()
            .expect("the Debian package exfatprogs is installed");
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A file system of this size, with tables for 64 GiB.
    pub(crate) fn formatted(bytes: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 << 30).unwrap();
        let path = file.path().to_str().unwrap();
        tool(&["mkfs.exfat", "-c", "512K", "-L", "BTY_IMAGES", path]);
        resize_file(file.path(), &bytes.to_string()).unwrap();
        file
    }

    #[test]
    fn a_resized_file_system_has_the_size_and_no_errors() {
        let file = formatted(32 * MIB);
        let path = file.path().to_str().unwrap();
        for mib in [32, 33, 100, 4096, 65536, 40] {
            resize_file(file.path(), &(mib * MIB).to_string()).unwrap();
            tool(&["fsck.exfat", "-n", path]);
            let system = ExFat::open(file.as_file(), 0).unwrap();
            assert_eq!(
                (system.bytes(), system.label().unwrap()),
                (mib * MIB, "BTY_IMAGES".to_owned())
            );
        }
    }

    #[test]
    fn tables_limit_the_largest_size_and_files_the_smallest() {
        let file = formatted(32 * MIB);
        let mut system = ExFat::open(file.as_file(), 0).unwrap();
        file.as_file().set_len(1 << 40).unwrap();
        system.resize(1 << 40).unwrap();
        let system = ExFat::open(file.as_file(), 0).unwrap();
        assert_eq!(system.bytes(), system.bytes_max());
        assert!((64 << 30..65 << 30).contains(&system.bytes()), "{}", system.bytes());
        tool(&["fsck.exfat", "-n", file.path().to_str().unwrap()]);
        // the file system itself occupies three clusters
        let mut system = ExFat::open(file.as_file(), 0).unwrap();
        let heap = system.cluster_at(2);
        assert_eq!(system.resize(heap + MIB).unwrap_err(), "files occupy space beyond the new end");
        assert!(system.resize(MIB).is_err());
    }

    #[test]
    fn damaged_and_foreign_file_systems_are_refused() {
        let file = formatted(32 * MIB);
        write(file.as_file(), 200, b"x").unwrap();
        assert!(ExFat::open(file.as_file(), 0).is_ok_and(|system| system.is_copy));
        write(file.as_file(), 12 * 512 + 200, b"x").unwrap();
        assert!(ExFat::open(file.as_file(), 0).is_err_and(|why| why.contains("checksum")));
        write(file.as_file(), 3, b"NTFS    ").unwrap();
        assert!(ExFat::open(file.as_file(), 0).is_err());
        assert!(ExFat::open(file.as_file(), 1 << 40).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(
            head in proptest::collection::vec(proptest::num::u8::ANY, 512),
            shift in 8u8..14,
            size in 0u64..1 << 40,
        ) {
            let file = tempfile::tempfile().unwrap();
            file.set_len(4 << 20).unwrap();
            let mut head = head;
            head[3..11].copy_from_slice(b"EXFAT   ");
            (head[SECTOR_SHIFT], head[TABLES]) = (shift, 1);
            head[CLUSTER_SHIFT] %= 26;
            write(&file, 0, &head).unwrap();
            // fix the checksum, so that the rest is parsed too
            if let Err(why) = ExFat::open(&file, 0) && why.contains("checksum") {
                let sector = 1usize << shift;
                let mut boot = vec![0; BOOT_SECTORS * sector];
                read(&file, 0, &mut boot).unwrap();
                let sector = sector as u64;
                let system = ExFat { file: &file, start: 0, boot, sector, is_copy: false };
                write(&file, 11 * sector, &system.checksum().to_le_bytes()).unwrap();
            }
            if let Ok(mut system) = ExFat::open(&file, 0) {
                let _ = (system.label(), system.bytes(), system.bytes_max());
                let _ = system.resize(size);
            }
        }
    }
}
