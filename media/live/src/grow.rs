//! Lets the partition for images reach the end of its disk, and its file system with it. Nothing is
//! copied: the files stay where they are.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Command;

use crate::exfat::{ExFat, sync, write};
use crate::stick::LABEL;

/// A partition table of this kind counts in them.
const SECTOR: u64 = 512;
/// Room that is not worth it.
const LITTLE: u64 = 4 << 20;
/// Number of sectors in such a table.
const SECTORS_MAX: u64 = u32::MAX as u64;

/// What was done.
#[derive(Debug, PartialEq)]
pub(crate) enum Grown {
    /// There was nothing to do.
    Already,
    /// The partition has these many bytes now.
    To(u64),
}

impl fmt::Display for Grown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Already => f.write_str("the partition reaches the end of the disk already"),
            Self::To(bytes) => write!(f, "the partition has been grown to {} MiB", bytes >> 20),
        }
    }
}

/// Grows the partition with the label `BTY_IMAGES`, if it is the last one of `disk`. `sys` is where
/// sysfs is.
pub(crate) fn disk(disk: &Path, sys: &Path) -> Result<Grown, String> {
    let at = |e: std::io::Error| format!("{}: {e}", disk.display());
    let mut file = OpenOptions::new().read(true).write(true).open(disk).map_err(at)?;
    let disk_bytes = file.seek(SeekFrom::End(0)).map_err(at)?;
    let mut table = [0; 512];
    file.rewind().and_then(|()| file.read_exact(&mut table)).map_err(at)?;
    let number = last_partition(&table)
        .ok_or("the disk has no partition table of the kind that sticks of bty have")?;
    let entry = 446 + 16 * number;
    let field = |at: usize| {
        u64::from(u32::from_le_bytes([table[at], table[at + 1], table[at + 2], table[at + 3]]))
    };
    let start = field(entry + 8) * SECTOR;
    let mut system = ExFat::open(&file, start)?;
    if system.label()? != LABEL {
        return Err(format!("the last partition is not {LABEL}"));
    }
    // whole MiB, as the partition began
    let room = disk_bytes.min(SECTORS_MAX * SECTOR).saturating_sub(start) >> 20 << 20;
    let new = room.min(system.bytes_max());
    // what was interrupted has a partition that is larger already, or a boot region that is half
    // written
    if new < system.bytes() + LITTLE && !system.is_copy {
        return Ok(Grown::Already);
    }
    // the table first: a file system that is smaller than its partition is whole
    table[entry + 12..entry + 16]
        .copy_from_slice(&u32::try_from(new / SECTOR).map_err(|e| e.to_string())?.to_le_bytes());
    write(&file, 0, &table).and_then(|()| sync(&file))?;
    system.fit(new)?;
    tell_kernel(disk, number + 1, new, sys)?;
    Ok(Grown::To(new))
}

/// Index of the partition that begins last, when the disk has a table.
fn last_partition(table: &[u8; 512]) -> Option<usize> {
    let start = |number: usize| {
        let at = 446 + 16 * number;
        u32::from_le_bytes([table[at + 8], table[at + 9], table[at + 10], table[at + 11]])
    };
    let is_there = |number: &usize| start(*number) > 0 && table[446 + 16 * number + 4] != 0xee;
    (table[510..] == [0x55, 0xaa])
        .then(|| (0..4).filter(is_there).max_by_key(|number| start(*number)))?
}

/// Lets the kernel read the table again, when the disk is one and not a file.
fn tell_kernel(disk: &Path, number: usize, bytes: u64, sys: &Path) -> Result<(), String> {
    let name = disk.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let dir = sys.join("class/block").join(&name);
    if !dir.exists() {
        return Ok(());
    }
    let _ = Command::new("/sbin/blockdev").arg("--rereadpt").arg(disk).status();
    let infix = if name.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    let size =
        fs::read_to_string(dir.join(format!("{name}{infix}{number}/size"))).unwrap_or_default();
    let is_known = size.trim().parse::<u64>().is_ok_and(|sectors| sectors * SECTOR == bytes);
    if is_known {
        Ok(())
    } else {
        Err("the kernel still has the old partition table: start the machine again".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exfat::tests::{MIB, interrupt_after, made, tool};

    /// A stick of 200 MiB, whose partition for images has 32 MiB.
    fn stick() -> tempfile::NamedTempFile {
        let (file, part) = (tempfile::NamedTempFile::new().unwrap(), made(32 * MIB));
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
    fn interrupted_at_any_write_it_is_complete_after_the_next_start() {
        let sys = tempfile::tempdir().unwrap();
        let mut interruptions = 0;
        loop {
            let stick = stick();
            interrupt_after(Some(interruptions));
            let first = disk(stick.path(), sys.path());
            interrupt_after(None);
            if first.is_ok() {
                break check(stick.path());
            }
            disk(stick.path(), sys.path()).unwrap();
            check(stick.path());
            assert_eq!(disk(stick.path(), sys.path()).unwrap(), Grown::Already);
            interruptions += 1;
        }
        assert!(interruptions >= 5, "table, bitmap, its entry, copy, boot region: {interruptions}");
    }
}
