//! bzip2: a sequence of streams, whose blocks are decoded on all cores.
//!
//! A block of 900 kB may decode to 46 MB, because five bytes can encode 259 equal ones, and disk
//! images have such runs. The number of blocks in flight is limited so that memory suffices even if
//! every block is like that.

use std::io::{self, Read};

use mibz2::{BzReader, ErrorKind as BzErrorKind, Kernels};

use super::{Compression, DecodeOptions, Trailer, damaged, refused, trailing, truncated};
use crate::size::MIB;
use crate::{Result, extent, threads};

/// Maximum memory of one block in flight: 46 MB of output, its symbols, and the tables of a worker.
const BLOCK_BYTES: u64 = 56 * MIB;
/// Maximum memory of the input queue and the block that is being delivered.
const OVERHEAD_BYTES: u64 = 64 * MIB;

/// Address space that the C library reserves for each thread that allocates.
const ARENA_BYTES: u64 = 64 * MIB;

pub(super) fn decoder(
    wire: Box<dyn Read + Send>,
    options: DecodeOptions,
    trailer: &Trailer,
) -> Result<Box<dyn Read + Send>> {
    Ok(Box::new(Bzip2::new(wire, options, trailer)))
}

struct Bzip2 {
    reader: BzReader<Box<dyn Read + Send>>,
    trailer: Trailer,
}

impl Bzip2 {
    fn new(wire: Box<dyn Read + Send>, options: DecodeOptions, trailer: &Trailer) -> Self {
        let fitting = options.memory_bytes.saturating_sub(OVERHEAD_BYTES) / BLOCK_BYTES;
        let slots = usize::try_from(fitting).unwrap_or(usize::MAX).clamp(1, 2 * options.threads);
        // the decoder starts two more threads, for reading and finding blocks, and panics when the
        // system refuses one
        let threads = threads::available(options.threads.min(slots) + 2).saturating_sub(2);
        // the decoder aborts when the system refuses memory; without threads, it needs little
        let needed = OVERHEAD_BYTES + slots as u64 * BLOCK_BYTES + threads as u64 * ARENA_BYTES;
        let threads = if extent::has_memory(needed) { threads } else { 0 };
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

/// Passes errors of the source through, and translates those of the decoder.
fn explain(error: io::Error) -> io::Error {
    let error = match error.downcast::<mibz2::Error>() {
        Ok(error) => error,
        Err(source_error) => return source_error,
    };
    let offset = error.bit.unwrap_or(0) / 8;
    match error.kind {
        BzErrorKind::Empty | BzErrorKind::Truncated => truncated(Compression::Bzip2, offset),
        BzErrorKind::TrailingData => trailing(Compression::Bzip2, offset),
        BzErrorKind::Randomised => refused(
            Compression::Bzip2,
            offset,
            "it has randomized blocks, which only bzip2 0.9.0 and older wrote",
        )
        .hint("recompress it: bzip2 -dc IMAGE | bzip2 > NEW"),
        _ => damaged(Compression::Bzip2, offset, error),
    }
    .into()
}
