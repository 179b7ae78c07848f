//! The ledger: what was written where, so that it can be read back and compared without the source.

use std::sync::Mutex;

/// Bytes that share one hash. Data at rest costs 8 bytes of memory a grain: 32 MiB for 1 TiB.
pub(super) const GRAIN_BYTES: usize = 256 << 10;

/// One run of data and the hashes of its grains, or one run of zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) len: u64,
    /// `None` for zeros.
    pub(super) hashes: Option<Box<[u64]>>,
}

/// What a lane has written. Filled by its workers in any order.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Vec<Entry>>);

impl Ledger {
    /// Notes that `bytes` were written at `offset`.
    pub(super) fn data(&self, offset: u64, bytes: &[u8]) {
        let hashes = Some(bytes.chunks(GRAIN_BYTES).map(hash).collect());
        self.entries().push(Entry { offset, len: bytes.len() as u64, hashes });
    }

    /// Notes that `len` bytes from `offset` were made zero.
    pub(super) fn zeros(&self, offset: u64, len: u64) {
        let mut entries = self.entries();
        match entries.last_mut() {
            Some(last) if last.hashes.is_none() && last.offset + last.len == offset => {
                last.len += len;
            }
            _ => entries.push(Entry { offset, len, hashes: None }),
        }
    }

    /// All entries in the order of their offsets.
    pub(super) fn take_sorted(&self) -> Vec<Entry> {
        let mut entries = std::mem::take(&mut *self.entries());
        entries.sort_unstable_by_key(|e| e.offset);
        entries
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0.lock().expect("nobody panics holding it")
    }
}

/// 64 bits of BLAKE3: enough against chance and faulty hardware, which is all that stands between a
/// write and its read-back.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    let (first, _) = hash.as_bytes().split_at(8);
    u64::from_le_bytes(first.try_into().expect("eight bytes"))
}
