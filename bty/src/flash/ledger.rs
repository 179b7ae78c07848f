//! Records what was written where, so that it can be read back and compared without the source.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::extent::is_zero;
use crate::pack::PackIndex;

/// Number of bytes that share one hash. A hash has 8 bytes, so the hashes of 1 TiB of data take 32
/// MiB of memory.
pub(super) const GRAIN_BYTES: usize = 256 << 10;

/// A range of the disk, in bytes, and what it must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LedgerEntry {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) expected: Expected,
}

/// What a range of the disk must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Zeros,
    /// Data with these hashes, one for each grain.
    Written(Box<[u64]>),
    /// Data frames of a packed image, each of the same length, except for the last one.
    Frames {
        index: Arc<PackIndex>,
        frames: Range<usize>,
    },
}

impl LedgerEntry {
    /// Number of bytes that share one hash. The last grain of an entry may be shorter.
    pub(super) fn grain_bytes(&self) -> usize {
        match &self.expected {
            Expected::Zeros | Expected::Written(_) => GRAIN_BYTES,
            Expected::Frames { index, frames } => index.frames()[frames.start].disk_bytes as usize,
        }
    }

    /// True if grain number `grain` of the entry has the content `bytes`.
    pub(super) fn is_right(&self, grain: usize, bytes: &[u8]) -> bool {
        match &self.expected {
            Expected::Zeros => is_zero(bytes),
            Expected::Written(hashes) => hashes[grain] == hash(bytes),
            Expected::Frames { index, frames } => {
                let frame = &index.frames()[frames.start + grain];
                frame.blake3 == Some(*blake3::hash(bytes).as_bytes())
            }
        }
    }
}

/// The ranges written to one target. The workers add to it in any order.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Vec<LedgerEntry>>);

impl Ledger {
    /// Records that `bytes` were written at `offset`.
    pub(super) fn record_data(&self, offset: u64, bytes: &[u8]) {
        // hashed before the lock is taken: hashing is slow
        let expected = Expected::Written(bytes.chunks(GRAIN_BYTES).map(hash).collect());
        self.entries().push(LedgerEntry { offset, len: bytes.len() as u64, expected });
    }

    /// Records that `len` bytes from `offset` were zeroed.
    pub(super) fn record_zeros(&self, offset: u64, len: u64) {
        let mut entries = self.entries();
        match entries.last_mut() {
            Some(last) if last.expected == Expected::Zeros && last.offset + last.len == offset => {
                last.len += len;
            }
            _ => entries.push(LedgerEntry { offset, len, expected: Expected::Zeros }),
        }
    }

    /// Replaces what was recorded by `entries`.
    pub(super) fn replace(&self, entries: Vec<LedgerEntry>) {
        *self.entries() = entries;
    }

    /// Takes all entries, sorted by offset.
    pub(super) fn take_sorted(&self) -> Vec<LedgerEntry> {
        let mut entries = std::mem::take(&mut *self.entries());
        entries.sort_unstable_by_key(|e| e.offset);
        entries
    }

    fn entries(&self) -> MutexGuard<'_, Vec<LedgerEntry>> {
        self.0.lock().expect("nobody panics holding it")
    }
}

/// 64 bits of BLAKE3. That is enough against chance and faulty hardware; nobody forges a disk
/// between a write and its read-back.
fn hash(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    let (first, _) = hash.as_bytes().split_at(8);
    u64::from_le_bytes(first.try_into().expect("eight bytes"))
}
