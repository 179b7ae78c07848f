//! Writes a qcow2 image: version 3, clusters of 64 KiB, zero clusters left unallocated. The reader
//! in `image/qcow2.rs` describes the format.
//!
//! ```text
//! header | data clusters, an L2 table behind each 512 MiB of the disk | L1 table
//!        | refcount table | refcount blocks
//! refcount block: a u16 for each cluster of the file, all 1       all numbers are big-endian
//! ```
//! The header is written last: an incomplete file is not a valid image.

use super::Sink;
use super::part::PartFile;
use crate::Result;

const CLUSTER_BITS: u32 = 16;
const CLUSTER_BYTES: u64 = 1 << CLUSTER_BITS;
/// Table entries in a cluster, of eight bytes each.
const ENTRIES: u64 = CLUSTER_BYTES / 8;
/// Refcounts in a cluster, of two bytes each.
const REFCOUNTS: u64 = CLUSTER_BYTES / 2;
/// Flag of an entry whose cluster has a refcount of 1, and may be overwritten in place.
const COPIED: u64 = 1 << 63;

pub(super) struct Qcow2Sink<'a> {
    part: &'a PartFile,
    bytes: u64,
    /// Number of allocated clusters in the file.
    clusters: u64,
    /// Offsets of the L2 tables; 0 for a range that is all zero.
    l1: Vec<u64>,
    /// The L2 table that is being filled, and its index in the L1 table.
    l2: Vec<u64>,
    l2_number: u64,
}

impl<'a> Qcow2Sink<'a> {
    pub(super) fn start(part: &'a PartFile, bytes: u64) -> Self {
        // the first cluster is for the header
        Self { part, bytes, clusters: 1, l1: Vec::new(), l2: Vec::new(), l2_number: 0 }
    }

    /// Allocates `count` clusters, and returns the offset of the first.
    fn allocate(&mut self, count: u64) -> u64 {
        let offset = self.clusters * CLUSTER_BYTES;
        self.clusters += count;
        offset
    }

    fn map(&mut self, cluster: u64, offset: u64) -> Result<()> {
        let number = cluster / ENTRIES;
        if number != self.l2_number {
            self.end_l2()?;
            self.l2_number = number;
        }
        self.l2.resize(index(ENTRIES), 0);
        self.l2[index(cluster % ENTRIES)] = offset | COPIED;
        Ok(())
    }

    fn end_l2(&mut self) -> Result<()> {
        let table = std::mem::take(&mut self.l2);
        if table.is_empty() {
            return Ok(());
        }
        let offset = self.allocate(1);
        self.l1.resize(index(self.l2_number), 0);
        self.l1.push(offset | COPIED);
        self.write_table(&table, offset)
    }

    /// Writes `table`, padded with zeros to whole clusters.
    fn write_table(&self, table: &[u64], offset: u64) -> Result<()> {
        let mut bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        bytes.resize(bytes.len().next_multiple_of(index(CLUSTER_BYTES)), 0);
        self.part.write_at(&bytes, offset)
    }

    /// Writes the refcounts of all clusters, including those of the refcounts themselves. Returns
    /// the offset of the refcount table and its length in clusters.
    fn write_refcounts(&mut self) -> Result<(u64, u64)> {
        let (mut blocks, mut tables) = (0, 0);
        while self.clusters + tables + blocks > blocks * REFCOUNTS || blocks > tables * ENTRIES {
            blocks = (self.clusters + tables + blocks).div_ceil(REFCOUNTS);
            tables = blocks.div_ceil(ENTRIES);
        }
        let table_at = self.allocate(tables);
        let blocks_at = self.allocate(blocks);
        let table: Vec<u64> = (0..blocks).map(|i| blocks_at + i * CLUSTER_BYTES).collect();
        self.write_table(&table, table_at)?;
        for i in 0..blocks {
            let used = index((self.clusters - i * REFCOUNTS).min(REFCOUNTS));
            let mut block = [0, 1].repeat(used);
            block.resize(index(CLUSTER_BYTES), 0);
            self.part.write_at(&block, blocks_at + i * CLUSTER_BYTES)?;
        }
        Ok((table_at, tables))
    }

    fn header(&self, l1_at: u64, refcounts_at: u64, refcount_clusters: u64) -> Vec<u8> {
        let mut header = Vec::new();
        let l1_entries = u32::try_from(self.l1.len()).expect("fits for disks of up to 2 PiB");
        let refcount_clusters =
            u32::try_from(refcount_clusters).expect("fits for disks of up to 2 PiB");
        header.extend(b"QFI\xfb");
        header.extend(3u32.to_be_bytes());
        header.extend([0; 12]); // no backing file
        header.extend(CLUSTER_BITS.to_be_bytes());
        header.extend(self.bytes.to_be_bytes());
        header.extend([0; 4]); // not encrypted
        header.extend(l1_entries.to_be_bytes());
        header.extend(l1_at.to_be_bytes());
        header.extend(refcounts_at.to_be_bytes());
        header.extend(refcount_clusters.to_be_bytes());
        header.extend([0; 12]); // no snapshots
        header.extend([0; 24]); // no features
        header.extend(4u32.to_be_bytes()); // refcounts of 16 bits
        header.extend(104u32.to_be_bytes());
        header.resize(index(CLUSTER_BYTES), 0); // no extensions
        header
    }
}

impl Sink for Qcow2Sink<'_> {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        debug_assert!(
            offset.is_multiple_of(CLUSTER_BYTES),
            "zeros are looked for cluster by cluster"
        );
        let count = (bytes.len() as u64).div_ceil(CLUSTER_BYTES);
        let at = self.allocate(count);
        self.part.write_at(bytes, at)?;
        let rest = count * CLUSTER_BYTES - bytes.len() as u64;
        self.part.write_at(&vec![0; index(rest)], at + bytes.len() as u64)?;
        (0..count).try_for_each(|i| self.map(offset / CLUSTER_BYTES + i, at + i * CLUSTER_BYTES))
    }

    fn zeros(&mut self, _offset: u64, _len: u64) -> Result<()> {
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.end_l2()?;
        let entries = self.bytes.div_ceil(CLUSTER_BYTES * ENTRIES);
        self.l1.resize(index(entries), 0);
        let l1_at = self.allocate(entries.div_ceil(ENTRIES));
        self.write_table(&self.l1, l1_at)?;
        let (refcounts_at, refcount_clusters) = self.write_refcounts()?;
        let header = self.header(l1_at, refcounts_at, refcount_clusters);
        self.part.write_at(&header, 0)
    }
}

/// Converts a size of something in memory to an index.
fn index(n: u64) -> usize {
    usize::try_from(n).expect("it is in memory")
}
