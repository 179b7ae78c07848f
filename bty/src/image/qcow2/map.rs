//! The map of a qcow2 image: where the file holds the bytes of the disk.
//!
//! ```text
//! L1 entry   bits 9..56 offset of an L2 table, 0 = unallocated | other bits: not needed to read
//! L2 entry   bit 62 clear: bits 9..56 offset of the cluster, 0 = unallocated | bit 0 all zeros
//!            bit 62 set:   compressed; with x = 70 - cluster bits, bits 0..x are its unaligned
//!                          offset, bits x..62 the number of further 512-byte sectors
//! extended   8 more bytes: bits 0..32 allocated subclusters | bits 32..64 zero subclusters
//! ```

use super::Qcow2;
use super::header::{DAMAGED, Header, refuse, truncated};
use crate::source::{ByteSource, Source};
use crate::{CancelToken, Error, ErrorKind, Result};

/// Maximum length of each list of a [`Window`]. Bounds its memory to 48 MiB.
pub(super) const RUNS_MAX: usize = 1 << 20;
/// Maximum number of entries that one cluster adds to a window: alternating subclusters.
const RUNS_PER_CLUSTER: usize = 32;
/// Maximum size of one read of the tables, in bytes.
const TABLE_READ_BYTES: u64 = 1 << 20;
/// Maximum gap between two tables that are read together, in bytes.
const TABLE_GAP_BYTES: u64 = 64 << 10;
/// Maximum number of table reads whose hashes are kept.
const CHECKS_MAX: usize = 1 << 18;

const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

/// A contiguous piece of the disk that is contiguous in the file. Offsets and lengths are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Offset in the file.
    pub(super) host: u64,
    /// Offset on the disk.
    pub(super) guest: u64,
    /// Length on the disk: any number of clusters, or one compressed cluster.
    pub(super) len: u64,
    /// Maximum length of the compressed form in the file; 0 for uncompressed clusters.
    pub(super) packed: u32,
}

impl Run {
    /// End in the file. May lie beyond the end of the file, where uncompressed clusters are zero.
    pub(super) fn host_end(&self) -> u64 {
        self.host + if self.packed == 0 { self.len } else { u64::from(self.packed) }
    }
}

/// A part of the map.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) runs: Vec<Run>,
    /// Offset and length of zero ranges on the disk.
    pub(super) zeros: Vec<(u64, u64)>,
}

impl Window {
    fn add_zeros(&mut self, guest: u64, len: u64) {
        match self.zeros.last_mut() {
            Some((start, zeros)) if *start + *zeros == guest => *zeros += len,
            _ => self.zeros.push((guest, len)),
        }
    }

    fn add_plain(&mut self, host: u64, guest: u64, len: u64) {
        match self.runs.last_mut() {
            Some(run)
                if run.packed == 0 && run.host_end() == host && run.guest + run.len == guest =>
            {
                run.len += len;
            }
            _ => self.runs.push(Run { host, guest, len, packed: 0 }),
        }
    }

    fn is_full(&self, runs_max: usize) -> bool {
        self.runs.len().max(self.zeros.len()) + RUNS_PER_CLUSTER > runs_max
    }
}

/// Hash of a part of the file when it was first read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) hash: blake3::Hash,
}

impl Check {
    pub(super) fn new(offset: u64, bytes: &[u8]) -> Self {
        Self { offset, len: bytes.len() as u64, hash: blake3::hash(bytes) }
    }
}

/// Walks the map in the order of the disk. Keeps one read of the tables in memory.
pub(super) struct Walker<'a> {
    header: Header,
    l1: &'a [u64],
    file_bytes: u64,
    runs_max: usize,
    bytes: &'a dyn ByteSource,
    cancel: &'a CancelToken,
    /// The next cluster of the disk, and the end of the walk.
    next: u64,
    end: u64,
    /// The part of the file at `read_at`, which has tables in it.
    read: Vec<u8>,
    read_at: u64,
    /// Hashes of the tables read; `None` if they are not needed or too many.
    checks: Option<Vec<Check>>,
}

impl<'a> Walker<'a> {
    /// Starts a walk over a range of clusters of the disk.
    pub(super) fn new(
        image: &'a Qcow2,
        source: &'a Source,
        range: std::ops::Range<u64>,
        cancel: &'a CancelToken,
    ) -> Self {
        Self {
            header: image.header,
            l1: &image.l1,
            file_bytes: image.file_bytes,
            runs_max: image.runs_max,
            bytes: &*source.bytes,
            cancel,
            next: range.start,
            end: range.end.min(image.header.clusters()),
            read: Vec::new(),
            read_at: 0,
            checks: None,
        }
    }

    /// Starts collecting hashes of the tables read, in addition to `before`.
    pub(super) fn collect_checks(&mut self, before: &[Check]) {
        self.checks = Some(before.to_vec());
    }

    /// The hashes since [`collect_checks`](Self::collect_checks), sorted by offset. `None` if there
    /// are too many, or parts overlap.
    pub(super) fn take_checks(&mut self) -> Option<Vec<Check>> {
        let mut checks = self.checks.take()?;
        checks.sort_unstable_by_key(|check| check.offset);
        checks.is_sorted_by(|a, b| a.offset + a.len <= b.offset).then_some(checks)
    }

    pub(super) fn is_done(&self) -> bool {
        self.next >= self.end
    }

    /// Fills the empty `window` until it is full or the walk is done.
    pub(super) fn fill(&mut self, window: &mut Window) -> Result<()> {
        let (cluster, per_table) = (self.header.cluster_bytes(), self.header.entries_per_table());
        while !self.is_done() && !window.is_full(self.runs_max) {
            let l1_index = self.next / per_table;
            let table_end = self.end.min((l1_index + 1) * per_table);
            let Some(table) = self.table(l1_index)? else {
                let guest = self.next * cluster;
                window
                    .add_zeros(guest, (table_end * cluster).min(self.header.virtual_bytes) - guest);
                self.next = table_end;
                continue;
            };
            self.cancel.check()?;
            while self.next < table_end && !window.is_full(self.runs_max) {
                let (entry, bitmap) =
                    self.entry(table, self.next % per_table, table_end - self.next)?;
                self.add(window, entry, bitmap)?;
                self.next += 1;
            }
        }
        Ok(())
    }

    /// The offset of an L2 table, or `None` if it is unallocated.
    fn table(&self, l1_index: u64) -> Result<Option<u64>> {
        let offset = self.l1[l1_index as usize] & OFFSET;
        if !offset.is_multiple_of(self.header.cluster_bytes()) {
            return Err(refuse(format!("an L2 table cannot be at offset {offset}"), DAMAGED)
                .at_offset(offset));
        }
        if offset != 0 && offset + self.header.cluster_bytes() > self.file_bytes {
            return Err(truncated("an L2 table", offset, self.file_bytes));
        }
        Ok((offset != 0).then_some(offset))
    }

    /// Entry `index` of the L2 table at `table`. `count` entries from there on will be needed, and
    /// are read at once.
    fn entry(&mut self, table: u64, index: u64, count: u64) -> Result<(u64, u64)> {
        let size = self.header.entry_bytes();
        let at = table + index * size;
        let loaded = self.read_at..self.read_at + self.read.len() as u64;
        let fresh = !loaded.contains(&at);
        if fresh {
            self.load(at, at + count * size)?;
        }
        let start = (at - self.read_at) as usize;
        if let Some(checks) = self.checks.as_mut().filter(|_| fresh || index == 0) {
            let end = self.read.len().min(start + (count * size) as usize);
            checks.push(Check::new(at, &self.read[start..end]));
            if checks.len() > CHECKS_MAX {
                self.checks = None;
            }
        }
        let number = |at: usize| {
            self.read
                .get(at..)
                .and_then(<[u8]>::first_chunk)
                .map(|bytes| u64::from_be_bytes(*bytes))
        };
        let entry = number(start).ok_or_else(|| changed(at))?;
        let bitmap = if self.header.extended_l2 {
            number(start + 8).ok_or_else(|| changed(at))?
        } else {
            0
        };
        Ok((entry, bitmap))
    }

    /// Reads the entries from `start` to `end`, and whole tables that follow closely.
    fn load(&mut self, start: u64, end: u64) -> Result<()> {
        self.cancel.check()?;
        let (cluster, per_table) = (self.header.cluster_bytes(), self.header.entries_per_table());
        let mut end = end;
        for l1_index in self.next / per_table + 1..self.end / per_table {
            let Ok(Some(table)) = self.table(l1_index) else { break };
            let follows = table >= end && table - end <= TABLE_GAP_BYTES;
            if !follows || table + cluster - start > TABLE_READ_BYTES {
                break;
            }
            end = table + cluster;
        }
        // a table of 2 MiB is read in two parts
        let len = (end - start).min(TABLE_READ_BYTES) as usize;
        self.read.resize(len, 0);
        self.read_at = start;
        if self.bytes.read_at(&mut self.read, start, self.cancel)? < len {
            return Err(changed(start));
        }
        Ok(())
    }

    /// Adds the next cluster, described by `entry`, to the window.
    fn add(&self, window: &mut Window, entry: u64, bitmap: u64) -> Result<()> {
        let cluster = self.header.cluster_bytes();
        let guest = self.next * cluster;
        let len = cluster.min(self.header.virtual_bytes - guest);
        if entry & COMPRESSED != 0 {
            window.runs.push(self.compressed(entry, guest, len)?);
            return Ok(());
        }
        let host = entry & OFFSET;
        if !host.is_multiple_of(cluster) {
            return Err(
                refuse(format!("a cluster cannot be at offset {host}"), DAMAGED).at_offset(host)
            );
        }
        if self.header.extended_l2 {
            return self.add_subclusters(window, host, guest, len, bitmap);
        }
        let reads_as_zero = entry & ZERO != 0;
        if reads_as_zero && self.header.version < 3 {
            return Err(refuse(
                format!("the cluster for offset {guest} has a flag that version 2 does not have"),
                DAMAGED,
            ));
        }
        if host == 0 || reads_as_zero {
            window.add_zeros(guest, len);
            return Ok(());
        }
        self.check_host(host, guest)?;
        window.add_plain(host, guest, len);
        Ok(())
    }

    fn add_subclusters(
        &self,
        window: &mut Window,
        host: u64,
        guest: u64,
        len: u64,
        bitmap: u64,
    ) -> Result<()> {
        let (present, zero) = (bitmap as u32, (bitmap >> 32) as u32);
        if present & zero != 0 || (host == 0 && present != 0) {
            return Err(refuse(
                format!("the cluster for offset {guest} has contradictory flags"),
                DAMAGED,
            ));
        }
        let size = self.header.cluster_bytes() / 32;
        for (index, at) in (0..len).step_by(size as usize).enumerate() {
            let part = size.min(len - at);
            if present >> index & 1 == 0 {
                window.add_zeros(guest + at, part);
            } else {
                self.check_host(host + at, guest)?;
                window.add_plain(host + at, guest + at, part);
            }
        }
        Ok(())
    }

    fn compressed(&self, entry: u64, guest: u64, len: u64) -> Result<Run> {
        let shift = 70 - self.header.cluster_bits;
        let host = entry & ((1 << shift) - 1);
        let sectors = (entry & (COMPRESSED - 1)) >> shift;
        self.check_host(host, guest)?;
        // the length is in whole sectors, so the last one may exceed the file
        let packed = ((sectors + 1) * 512 - host % 512).min(self.file_bytes - host);
        Ok(Run { host, guest, len, packed: packed as u32 })
    }

    fn check_host(&self, host: u64, guest: u64) -> Result<()> {
        if host < self.file_bytes {
            return Ok(());
        }
        Err(truncated(
            &format!("the cluster for offset {guest} of the disk"),
            host,
            self.file_bytes,
        ))
    }
}

/// The error for a file that has changed since it was opened.
pub(super) fn changed(offset: u64) -> Error {
    Error::new(
        ErrorKind::Source,
        format!("the image changed while it was read, at offset {offset}"),
    )
    .at_offset(offset)
    .hint("wait until it is complete, then start again")
}
