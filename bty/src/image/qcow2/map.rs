//! The map of a qcow2 image: which bytes of the file hold which bytes of the disk.
//!
//! ```text
//! L1 entry   bits 9..56 offset of an L2 table, 0 = nothing there | the rest does not matter to a reader
//! L2 entry   bit 62 clear: bits 9..56 offset of the cluster, 0 = nothing there | bit 0 reads as zeros
//!            bit 62 set:   compressed; with x = 70 - cluster bits, bits 0..x are its offset, unaligned,
//!                          and bits x..62 the number of further 512-byte sectors it touches
//! extended   8 more bytes: bits 0..32 which 32nds of the cluster are there | bits 32..64 which read as zeros
//! ```

use super::Qcow2;
use super::header::{DAMAGED, Header, refuse, truncated};
use crate::source::{ByteSource, Source};
use crate::{CancelToken, Error, ErrorKind, Result};

/// Most entries of either list of a [`Window`]; bounds its memory to 48 MiB.
pub(super) const RUNS_MAX: usize = 1 << 20;
/// What one cluster can add to a window: its 32nds, alternating.
const RUNS_PER_CLUSTER: usize = 32;
/// Most that is read of the tables at once.
const TABLE_READ_BYTES: u64 = 1 << 20;
/// Between two tables, this much is read rather than asking twice.
const TABLE_GAP_BYTES: u64 = 64 << 10;
/// Most table reads whose content is remembered.
const CHECKS_MAX: usize = 1 << 18;

const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

/// A piece of the disk that is kept in one piece of the file. Offsets and lengths are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Where it starts in the file.
    pub(super) host: u64,
    /// Where it belongs on the disk.
    pub(super) guest: u64,
    /// How much of the disk it is: any number of clusters, or one compressed cluster.
    pub(super) len: u64,
    /// How much of the file its compressed form may take, 0 for plain clusters.
    pub(super) packed: u32,
}

impl Run {
    /// Where it ends in the file; may lie behind the file's end, from where on plain clusters are
    /// zero.
    pub(super) fn host_end(&self) -> u64 {
        self.host + if self.packed == 0 { self.len } else { u64::from(self.packed) }
    }
}

/// A part of the map.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) runs: Vec<Run>,
    /// Offset and length of what is zero.
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

/// What a part of the file was when it was read.
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

/// Walks the map in the order of the disk. Holds one read of the tables at a time.
pub(super) struct Walker<'a> {
    header: Header,
    l1: &'a [u64],
    file_bytes: u64,
    runs_max: usize,
    input: &'a dyn ByteSource,
    cancel: &'a CancelToken,
    /// The next cluster of the disk, and the one to stop at.
    next: u64,
    end: u64,
    /// A part of the file that has tables in it.
    read: Vec<u8>,
    read_at: u64,
    /// What was read so far, or `None` when nobody wants to know or it was too much.
    checks: Option<Vec<Check>>,
}

impl<'a> Walker<'a> {
    /// Walks the clusters `range` of the disk.
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
            input: &*source.bytes,
            cancel,
            next: range.start,
            end: range.end.min(image.header.clusters()),
            read: Vec::new(),
            read_at: 0,
            checks: None,
        }
    }

    /// Starts to remember what is read of the tables, beginning with what was read before.
    pub(super) fn remember(&mut self, before: &[Check]) {
        self.checks = Some(before.to_vec());
    }

    /// What was read of the tables since [`remember`](Self::remember), by offset; `None` when it is
    /// too much, or parts overlap.
    pub(super) fn take_checks(&mut self) -> Option<Vec<Check>> {
        let mut checks = self.checks.take()?;
        checks.sort_unstable_by_key(|check| check.offset);
        checks.is_sorted_by(|a, b| a.offset + a.len <= b.offset).then_some(checks)
    }

    pub(super) fn is_done(&self) -> bool {
        self.next >= self.end
    }

    /// Fills `window`, which is empty, until it is full or the walk is done.
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

    /// The offset of an L2 table, checked.
    fn table(&self, l1_index: u64) -> Result<Option<u64>> {
        let offset = self.l1[l1_index as usize] & OFFSET;
        if !offset.is_multiple_of(self.header.cluster_bytes()) {
            return Err(
                refuse(format!("no L2 table can be at offset {offset}"), DAMAGED).at_offset(offset)
            );
        }
        if offset != 0 && offset + self.header.cluster_bytes() > self.file_bytes {
            return Err(truncated("an L2 table", offset, self.file_bytes));
        }
        Ok((offset != 0).then_some(offset))
    }

    /// Entry `index` of the L2 table at `table`, of which `wanted` entries from there on are
    /// needed.
    fn entry(&mut self, table: u64, index: u64, wanted: u64) -> Result<(u64, u64)> {
        let size = self.header.entry_bytes();
        let at = table + index * size;
        let held = self.read_at..self.read_at + self.read.len() as u64;
        let fresh = !held.contains(&at);
        if fresh {
            self.load(at, at + wanted * size)?;
        }
        let start = (at - self.read_at) as usize;
        if let Some(checks) = self.checks.as_mut().filter(|_| fresh || index == 0) {
            let end = self.read.len().min(start + (wanted * size) as usize);
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

    /// Reads entries from `start` to `end`, and whole tables that follow closely.
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
        if self.input.read_at(&mut self.read, start, self.cancel)? < len {
            return Err(changed(start));
        }
        Ok(())
    }

    /// Adds the next cluster, which `entry` describes.
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
                refuse(format!("no cluster can be at offset {host}"), DAMAGED).at_offset(host)
            );
        }
        if self.header.extended_l2 {
            return self.add_subclusters(window, host, guest, len, bitmap);
        }
        let reads_as_zero = entry & ZERO != 0;
        if reads_as_zero && self.header.version < 3 {
            return Err(refuse(
                format!("the cluster for offset {guest} has a mark that version 2 does not know"),
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
                format!("the cluster for offset {guest} contradicts itself"),
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
        // whole sectors are counted, so the last one may pass the end of the file
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

/// The error that the file is not what it was.
pub(super) fn changed(offset: u64) -> Error {
    Error::new(
        ErrorKind::Source,
        format!("the image changed while it was read, at offset {offset}"),
    )
    .at_offset(offset)
    .hint("wait until nothing writes to it, then start again")
}
