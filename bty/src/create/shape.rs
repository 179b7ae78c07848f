//! The part of a disk that an image covers, and the bytes that intentionally differ from the disk.

use crate::disks::Disk;
use crate::partition_table::gpt;
use crate::size::{MIB, align_up};
use crate::{Error, ErrorKind, Remedy, Result};

/// Size of an image in bytes, and patches over what the disk holds: a GPT backup at its new place,
/// and the primary GPT that points to it.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) bytes: u64,
    patches: Vec<(u64, Vec<u8>)>,
}

impl Shape {
    /// An image of the whole disk, unchanged.
    pub(super) fn whole(bytes: u64) -> Self {
        Self { bytes, patches: Vec::new() }
    }

    /// The disk up to `end`, rounded up to a MiB.
    pub(super) fn cut(end: u64, disk_bytes: u64) -> Self {
        Self::whole(align_up(end.max(1), MIB).min(disk_bytes))
    }

    /// The disk up to `end`, with a backup GPT after it. `head` is at least the first MiB of the
    /// disk.
    pub(super) fn cut_gpt(head: &[u8], end: u64, disk: &Disk) -> Result<Self> {
        let damaged = || {
            Error::new(
                ErrorKind::Refused,
                format!("the GPT of {} is damaged, and cannot be moved", disk.path.display()),
            )
            .with_path(disk.path.display())
            .hint("do not shrink the image, or repair the table first (sgdisk --verify)")
            .with_remedy(Remedy::NoShrink)
        };
        let sector = u64::from(disk.logical_sector_bytes);
        let table =
            gpt::read(head, disk.logical_sector_bytes).ok().flatten().ok_or_else(damaged)?;
        let backup_bytes = align_up(table.entries_bytes, sector) + sector;
        // the backup must come after the first MiB, which is written unchanged when flashing
        let shape = Self::cut(end.max(MIB) + backup_bytes, disk.size_bytes);
        if shape.bytes == disk.size_bytes {
            return Ok(shape);
        }
        let mut head = head[..head.len().min(1 << 20)].to_vec();
        // a new image has no old backup at its end
        let moved = gpt::relocate_backup(
            &mut head,
            &mut |_, _| false,
            shape.bytes,
            disk.logical_sector_bytes,
        )?;
        let patches = moved
            .map_or_else(Vec::new, |backup| vec![(0, head), (backup.backup_offset, backup.backup)]);
        Ok(Self { patches, ..shape })
    }

    /// Applies the patches to `bytes`, which were read from the disk at `offset`.
    pub(super) fn apply(&self, offset: u64, bytes: &mut [u8]) {
        for (at, new) in &self.patches {
            let start = offset.max(*at);
            let end = (offset + bytes.len() as u64).min(at + new.len() as u64);
            if start < end {
                let index =
                    |from: u64, to: u64| usize::try_from(to - from).expect("both are in memory");
                let len = index(start, end);
                bytes[index(offset, start)..][..len]
                    .copy_from_slice(&new[index(*at, start)..][..len]);
            }
        }
    }
}
