//! Records what was written where, so that it can be read back and compared without the source.

use std::sync::{Mutex, MutexGuard};

/// Number of bytes that share one hash. A hash has 8 bytes, so the hashes of 1 TiB of data take 32
/// MiB of memory.
pub(super) const GRAIN_BYTES: usize = 256 << 10;

/// A run of data with the hashes of its grains, or a run of zeros. Offset and length are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LedgerEntry {
    pub(super) offset: u64,
    pub(super) len: u64,
    /// `None` for zeros.
    pub(super) hashes: Option<Box<[u64]>>,
}

/// The ranges written to one target. The workers add to it in any order.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Vec<LedgerEntry>>);

impl Ledger {
    /// Records that `bytes` were written at `offset`.
    pub(super) fn record_data(&self, offset: u64, bytes: &[u8]) {
        // hashed before the lock is taken: hashing is slow
        let hashes = Some(bytes.chunks(GRAIN_BYTES).map(hash).collect());
        self.entries().push(LedgerEntry { offset, len: bytes.len() as u64, hashes });
    }

    /// Records that `len` bytes from `offset` were zeroed.
    pub(super) fn record_zeros(&self, offset: u64, len: u64) {
        let mut entries = self.entries();
        match entries.last_mut() {
            Some(last) if last.hashes.is_none() && last.offset + last.len == offset => {
                last.len += len;
            }
            _ => entries.push(LedgerEntry { offset, len, hashes: None }),
        }
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
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    let (first, _) = hash.as_bytes().split_at(8);
    u64::from_le_bytes(first.try_into().expect("eight bytes"))
}
