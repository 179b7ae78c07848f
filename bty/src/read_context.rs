//! The context that every way of reading an image needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::CancelToken;
use crate::extent::Pool;
use crate::size::MIB;

pub(crate) const DECODER_BYTES: u64 = 192 * MIB;

/// Buffers, limits, counters and the cancel token of one pass over an image.
#[derive(Clone)]
pub(crate) struct ReadContext {
    /// The pool that buffers are taken from.
    pub(crate) pool: Arc<Pool>,
    /// Number of threads for decoding, at least 1.
    pub(crate) threads: usize,
    /// Memory for decoders in bytes, in addition to the pool.
    pub(crate) memory_bytes: u64,
    /// Extents are read in the order of the disk, even where the order of the file is faster.
    pub(crate) in_disk_order: bool,
    pub(crate) counts: Arc<ReadCounts>,
    pub(crate) cancel: CancelToken,
    /// Read all of a qcow2 file and compute its digest, even if none is expected.
    pub(crate) needs_digest: bool,
}

impl ReadContext {
    /// Creates a context with a pool of `buffers` buffers. It decodes on all cores.
    pub(crate) fn new(buffers: usize, cancel: &CancelToken) -> Self {
        Self {
            pool: Arc::new(Pool::new(buffers)),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: DECODER_BYTES,
            in_disk_order: false,
            counts: Arc::default(),
            cancel: cancel.clone(),
            needs_digest: false,
        }
    }

    pub(crate) fn in_disk_order(mut self) -> Self {
        self.in_disk_order = true;
        self
    }
}

/// Bytes read so far. Readers add to it, progress displays read it.
#[derive(Debug, Default)]
pub(crate) struct ReadCounts {
    /// Read from the source.
    pub(crate) source_bytes: AtomicU64,
    /// Decoded so far, zeros included.
    pub(crate) decoded_bytes: AtomicU64,
}

impl ReadCounts {
    /// Resets both counts, for another pass over the same image.
    pub(crate) fn reset(&self) {
        self.source_bytes.store(0, Ordering::Relaxed);
        self.decoded_bytes.store(0, Ordering::Relaxed);
    }
}
