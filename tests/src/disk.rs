//! Disks in memory that hold old data.

use std::sync::Arc;

use bty::testing::{Faults, MemoryDisk};

/// A disk of `size` bytes, full of old data.
#[must_use]
pub fn faulty_disk(size: usize, sector_bytes: u32, faults: Faults) -> Arc<MemoryDisk> {
    Arc::new(used_disk(size, sector_bytes).with_faults(faults))
}

/// Like [`faulty_disk`], without faults, for more settings.
#[must_use]
pub fn used_disk(size: usize, sector_bytes: u32) -> MemoryDisk {
    // old data differs from sector to sector, as real data does
    let mut old = vec![0xa5; size];
    for (i, sector) in old.chunks_mut(sector_bytes as usize).enumerate() {
        let number = (i as u64).to_le_bytes();
        sector[..8].copy_from_slice(&number);
    }
    MemoryDisk::with_content(old).with_sector_bytes(sector_bytes)
}
