//! Lets the partition for images reach the end of its disk, and its file system with it. Nothing is copied: the files stay where they are.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

use crate::exfat::ExFat;
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

/// Grows the partition with the label `BTY_IMAGES`, if it is the last one of `disk`. `sys` is where sysfs is.
pub(crate) fn disk(disk: &Path, sys: &Path) -> Result<Grown, String> {
    let at = |e: std::io::Error| format!("{}: {e}", disk.display());
    let mut file = OpenOptions::new().read(true).write(true).open(disk).map_err(at)?;
    let disk_bytes = file.seek(SeekFrom::End(0)).map_err(at)?;
    let mut table = [0; 512];
    file.rewind().and_then(|()| file.read_exact(&mut table)).map_err(at)?;
    let number = last_partition(&table).ok_or("the disk has no partition table of the kind that sticks of bty have")?;
    let entry = 446 + 16 * number;
    let field = |at: usize| u64::from(u32::from_le_bytes([table[at], table[at + 1], table[at + 2], table[at + 3]]));
    let (start, old) = (field(entry + 8) * SECTOR, field(entry + 12) * SECTOR);
    let mut system = ExFat::open(&file, start)?;
    if system.label()? != LABEL {
        return Err(format!("the last partition is not {LABEL}"));
    }
    // whole MiB, as the partition began
    let room = disk_bytes.min(SECTORS_MAX * SECTOR).saturating_sub(start) >> 20 << 20;
    let new = room.min(system.bytes_max());
    if new < old.max(system.bytes()) + LITTLE {
        return Ok(Grown::Already);
    }
    // the table first: a file system that is smaller than its partition is whole
    table[entry + 12..entry + 16]
        .copy_from_slice(&u32::try_from(new / SECTOR).map_err(|e| e.to_string())?.to_le_bytes());
    write(&file, &table).map_err(at)?;
    system.fit(new)?;
    tell_kernel(disk, number + 1, new, sys)?;
    Ok(Grown::To(new))
}

fn write(mut file: &File, table: &[u8]) -> std::io::Result<()> {
    file.rewind()?;
    file.write_all(table)?;
    file.sync_all()
}

/// Index of the partition that begins last, when the disk has a table.
fn last_partition(table: &[u8; 512]) -> Option<usize> {
    let start = |number: usize| {
        let at = 446 + 16 * number;
        u32::from_le_bytes([table[at + 8], table[at + 9], table[at + 10], table[at + 11]])
    };
    let is_there = |number: &usize| start(*number) > 0 && table[446 + 16 * number + 4] != 0xee;
    (table[510..] == [0x55, 0xaa]).then(|| (0..4).filter(is_there).max_by_key(|number| start(*number)))?
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
    let size = fs::read_to_string(dir.join(format!("{name}{infix}{number}/size"))).unwrap_or_default();
    let is_known = size.trim().parse::<u64>().is_ok_and(|sectors| sectors * SECTOR == bytes);
    if is_known { Ok(()) } else { Err("the kernel still has the old partition table: start the machine again".into()) }
}
