//! Grows the images partition of a stick, and its file system, to the end of the disk. No file is
//! moved.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Command;

use crate::exfat::{ExFat, sync, write};

/// Label of the images partition.
pub(crate) const LABEL: &str = "BTY_IMAGES";
/// Unit of an MBR partition table, in bytes.
const SECTOR: u64 = 512;
/// The partition is not grown by less than this, in bytes.
const GROWTH_MIN: u64 = 4 << 20;
/// Largest size that an MBR partition table can express, in sectors.
const SECTORS_MAX: u64 = u32::MAX as u64;

#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The partition reaches the end of the disk already.
    Unchanged,
    /// The partition has been grown to this many bytes.
    Grown(u64),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unchanged => f.write_str("the partition reaches the end of the disk already"),
            Self::Grown(bytes) => write!(f, "the partition has been grown to {} MiB", bytes >> 20),
        }
    }
}

/// Grows the last partition of `disk`, whose label must be `BTY_IMAGES`. `sys` is the mount point
/// of sysfs.
///
/// The partition table is written before the file system, because a file system that is smaller
/// than its partition is valid. Another call completes what was interrupted.
pub(crate) fn grow_partition(disk: &Path, sys: &Path) -> Result<Outcome, String> {
    let at = |e: std::io::Error| format!("{}: {e}", disk.display());
    let mut file = OpenOptions::new().read(true).write(true).open(disk).map_err(at)?;
    let disk_bytes = file.seek(SeekFrom::End(0)).map_err(at)?;
    let mut table = [0; 512];
    file.rewind().and_then(|()| file.read_exact(&mut table)).map_err(at)?;
    let number = last_partition(&table)
        .ok_or("the disk has no MBR partition table, which every bty stick has")?;
    let entry = 446 + 16 * number;
    let field = |at: usize| {
        u64::from(u32::from_le_bytes([table[at], table[at + 1], table[at + 2], table[at + 3]]))
    };
    let start = field(entry + 8) * SECTOR;
    let mut system = ExFat::open(&file, start)?;
    if system.label()? != LABEL {
        return Err(format!("the label of the last partition is not {LABEL}"));
    }
    // whole MiB, like the start of the partition
    let room = disk_bytes.min(SECTORS_MAX * SECTOR).saturating_sub(start) >> 20 << 20;
    let new = room.min(system.bytes_max());
    // compared with the file system and not with the partition: after an interruption the partition
    // may have its new size already, or only the copy of the boot region is valid
    if new < system.bytes() + GROWTH_MIN && !system.is_copy {
        return Ok(Outcome::Unchanged);
    }
    table[entry + 12..entry + 16]
        .copy_from_slice(&u32::try_from(new / SECTOR).map_err(|e| e.to_string())?.to_le_bytes());
    write(&file, 0, &table).and_then(|()| sync(&file))?;
    system.resize(new)?;
    reread_table(disk, number + 1, new, sys)?;
    Ok(Outcome::Grown(new))
}

/// Index of the partition that begins last; none if there is no MBR partition table, or only the
/// protective one of a GPT.
fn last_partition(table: &[u8; 512]) -> Option<usize> {
    let start = |number: usize| {
        let at = 446 + 16 * number;
        u32::from_le_bytes([table[at + 8], table[at + 9], table[at + 10], table[at + 11]])
    };
    let is_used = |number: &usize| start(*number) > 0 && table[446 + 16 * number + 4] != 0xee;
    (table[510..] == [0x55, 0xaa])
        .then(|| (0..4).filter(is_used).max_by_key(|number| start(*number)))?
}

/// Has the kernel reread the partition table, unless `disk` is a file and not a block device.
fn reread_table(disk: &Path, number: usize, bytes: u64, sys: &Path) -> Result<(), String> {
    let name = disk.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let dir = sys.join("class/block").join(&name);
    if !dir.exists() {
        return Ok(());
    }
    let _ = Command::new("/sbin/blockdev").arg("--rereadpt").arg(disk).status();
    let infix = if name.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    let size =
        fs::read_to_string(dir.join(format!("{name}{infix}{number}/size"))).unwrap_or_default();
    if size.trim().parse::<u64>().is_ok_and(|sectors| sectors * SECTOR == bytes) {
        Ok(())
    } else {
        Err("the kernel still uses the old partition table: restart the machine".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exfat::tests::{MIB, formatted, interrupt_after, tool};

    /// A stick of 200 MiB with an images partition of 32 MiB.
    fn stick() -> tempfile::NamedTempFile {
        let (file, part) = (tempfile::NamedTempFile::new().unwrap(), formatted(32 * MIB));
        file.as_file().set_len(200 * MIB).unwrap();
        let mut table = [0; 512];
        table[450] = 7;
        table[454..458].copy_from_slice(&2048u32.to_le_bytes());
        table[458..462].copy_from_slice(&65536u32.to_le_bytes());
        table[510..].copy_from_slice(&[0x55, 0xaa]);
        write(file.as_file(), 0, &table).unwrap();
        write(file.as_file(), MIB, &fs::read(part.path()).unwrap()).unwrap();
        file
    }

    fn check(stick: &Path) {
        let part = tempfile::NamedTempFile::new().unwrap();
        let bytes = fs::read(stick).unwrap();
        assert_eq!(bytes[458..462], (199u32 * 2048).to_le_bytes());
        fs::write(part.path(), &bytes[1 << 20..]).unwrap();
        tool(&["fsck.exfat", "-n", part.path().to_str().unwrap()]);
        let system = ExFat::open(part.as_file(), 0).unwrap();
        assert_eq!((system.bytes(), system.is_copy), (199 * MIB, false));
    }

    #[test]
    fn a_growth_that_is_interrupted_at_any_write_is_completed_by_the_next_start() {
        let sys = tempfile::tempdir().unwrap();
        let mut interruptions = 0;
        loop {
            let stick = stick();
            interrupt_after(Some(interruptions));
            let first = grow_partition(stick.path(), sys.path());
            interrupt_after(None);
            if first.is_ok() {
                break check(stick.path());
            }
            grow_partition(stick.path(), sys.path()).unwrap();
            check(stick.path());
            assert_eq!(grow_partition(stick.path(), sys.path()).unwrap(), Outcome::Unchanged);
            interruptions += 1;
        }
        assert!(interruptions >= 5, "table, bitmap, its entry, copy, boot region: {interruptions}");
    }
}
