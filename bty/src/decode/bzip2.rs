//! bzip2: streams one after another, blocks decoded on all cores.
//!
//! Memory: a block of at most 900 kB may stand for 46 MB of output, since five bytes can stand for
//! 259 equal ones, and a disk image has such runs. So the number of blocks in flight is what fits
//! when every block is like that.

use std::io::{self, Read};

use mibz2::{BzReader, ErrorKind as BzErrorKind, Kernels};

use super::{Compression, DecodeOptions, Trailer, damaged, refused, trailing, truncated};
use crate::size::MIB;
use crate::{extent, threads};

/// What one block in flight may take: 46 MB of output, its symbols, a worker's tables.
const BLOCK_BYTES: u64 = 56 * MIB;
/// What the input queue and the block being delivered may take.
const OVERHEAD_BYTES: u64 = 64 * MIB;

/// Addresses that the C library sets aside for each thread that allocates.
const ARENA_BYTES: u64 = 64 * MIB;

/// Decodes bzip2.
pub(super) struct Bzip2 {
    reader: BzReader<Box<dyn Read + Send>>,
    trailer: Trailer,
}

impl Bzip2 {
    pub(super) fn new(
        wire: Box<dyn Read + Send>,
        options: DecodeOptions,
        trailer: &Trailer,
    ) -> Self {
        let fitting = options.memory_bytes.saturating_sub(OVERHEAD_BYTES) / BLOCK_BYTES;
        let slots = usize::try_from(fitting).unwrap_or(usize::MAX).clamp(1, 2 * options.threads);
        // it starts two more to read and to look for blocks, and panics when one is refused
        let threads = threads::available(options.threads.min(slots) + 2).saturating_sub(2);
        // it aborts when it is refused memory; one block at a time needs little
        let wanted = OVERHEAD_BYTES + slots as u64 * BLOCK_BYTES + threads as u64 * ARENA_BYTES;
        let threads = if extent::has_memory(wanted) { threads } else { 0 };
        let reader = match threads {
            0 => BzReader::with_kernels(wire, Kernels::detect()),
            threads => BzReader::parallel_with(wire, threads, slots, Kernels::detect()),
        };
        Self { reader, trailer: trailer.clone() }
    }
}

impl Read for Bzip2 {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.reader.read(buf) {
            Err(e) if is_trailing(&e) && self.trailer.skip(Compression::Bzip2) => Ok(0),
            result => result.map_err(explain),
        }
    }
}

fn is_trailing(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<mibz2::Error>());
    inner.is_some_and(|error| error.kind == BzErrorKind::TrailingData)
}

/// Errors of the wire come through as they are; the decoder's own are put in our words.
fn explain(error: io::Error) -> io::Error {
    let error = match error.downcast::<mibz2::Error>() {
        Ok(error) => error,
        Err(of_wire) => return of_wire,
    };
    let offset = error.bit.unwrap_or(0) / 8;
    match error.kind {
        BzErrorKind::Empty | BzErrorKind::Truncated => truncated(Compression::Bzip2, offset),
        BzErrorKind::TrailingData => trailing(Compression::Bzip2, offset),
        BzErrorKind::Randomised => refused(
            Compression::Bzip2,
            offset,
            "it has randomised blocks, which only bzip2 0.9.0 and older wrote",
        )
        .hint("recompress it: bzip2 -dc IMAGE | bzip2 > NEW"),
        _ => damaged(Compression::Bzip2, offset, error),
    }
    .into()
}
