//! bzip2: a sequence of streams, whose blocks are decoded on all cores.
//!
//! A block ends at a bit that is known only once its symbols are decoded. The calling thread does
//! that, which is a tenth of the work; jobs do the rest.
//!
//! A block of 900 kB may decode to 46 MB, because five bytes can encode 259 equal ones, and disk
//! images have such runs. So each block in flight counts as that large until it is decoded. Blocks
//! of zeros are decoded once: the next ones have the same symbols.

use std::io::{self, BufRead as _, Read};
use std::sync::{Arc, Mutex};

use mibz2::block::Symbols;
use mibz2::stream::{Event, Scanner, Source};
use mibz2::{Error as BzError, ErrorKind as BzErrorKind, Kernels, Scratch, decode_block};

use super::parallel::{FoundPart, Job, Parallel, ParallelReader, Splitter};
use super::zero_parts::ZeroParts;
use super::{
    CompressedInput, Compression, DecodeOptions, Trailer, damaged, refused, trailing, truncated,
};
use crate::size::MIB;
use crate::{Error, Result, extent};

/// Maximum size of a decoded block, rounded up: five bytes of 900 kB encode 259.
const BLOCK_BYTES: u64 = 46 * MIB;
/// Maximum memory of the symbols of a block.
const SYMBOLS_BYTES: u64 = 2 * MIB;
/// Memory of one thread: its tables, and the copy that growing an output takes for a moment.
const THREAD_BYTES: u64 = 8 * MIB;
/// Maximum memory of the input.
const INPUT_BYTES: u64 = 8 * MIB;
/// Address space that the C library reserves for each thread that allocates.
const ARENA_BYTES: u64 = 64 * MIB;

pub(super) fn decoder(
    wire: Box<dyn Read + Send>,
    options: DecodeOptions,
    trailer: &Trailer,
) -> Result<Box<dyn Read + Send>> {
    Ok(Box::new(ParallelReader::new(Bzip2::new(wire, trailer), within_memory(options))))
}

/// The threads that `options` have memory for, and the memory for their blocks.
fn within_memory(options: DecodeOptions) -> DecodeOptions {
    let memory = options.memory_bytes.saturating_sub(INPUT_BYTES);
    let fitting = memory / (THREAD_BYTES + BLOCK_BYTES + SYMBOLS_BYTES);
    let threads = usize::try_from(fitting).unwrap_or(usize::MAX).clamp(1, options.threads);
    // decoding aborts when the system refuses memory; without threads, it needs little
    let address_space = options.memory_bytes + threads as u64 * ARENA_BYTES;
    DecodeOptions {
        threads: if extent::has_memory(address_space) { threads } else { 0 },
        memory_bytes: memory.saturating_sub(threads as u64 * THREAD_BYTES),
    }
}

struct Bzip2 {
    scanner: Scanner<WireWindow>,
    /// The error of the source, which the scanner cannot return.
    source_error: SourceError,
    trailer: Trailer,
    zero_parts: Arc<ZeroParts>,
}

type SourceError = Arc<Mutex<Option<io::Error>>>;

impl Bzip2 {
    fn new(wire: Box<dyn Read + Send>, trailer: &Trailer) -> Self {
        let source_error = SourceError::default();
        let window = WireWindow {
            wire: CompressedInput::new(wire, trailer),
            bytes: Vec::new(),
            offset: 0,
            released: 0,
            has_ended: false,
            source_error: Arc::clone(&source_error),
        };
        Self {
            scanner: Scanner::new(window),
            source_error,
            trailer: trailer.clone(),
            zero_parts: Arc::default(),
        }
    }

    fn explain(&self, error: BzError) -> io::Result<FoundPart> {
        let source_error = self.source_error.lock().expect("no holder panics").take();
        match source_error {
            Some(error) => Err(error),
            None if error.kind == BzErrorKind::TrailingData
                && self.trailer.skip(Compression::Bzip2) =>
            {
                Ok(FoundPart::End)
            }
            None => Err(explain(error).into()),
        }
    }
}

impl Splitter for Bzip2 {
    type Job = Bzip2Job;

    fn cost_max(&self) -> u64 {
        BLOCK_BYTES + SYMBOLS_BYTES
    }

    fn advance(&mut self, parallel: &mut Parallel<Bzip2Job>) -> io::Result<FoundPart> {
        let mut job = parallel.take_job();
        match self.scanner.next(std::mem::take(&mut job.spare)) {
            Ok(Event::Block { index, bit, symbols, .. }) => {
                match key(&symbols).and_then(|key| self.zero_parts.find(&key)) {
                    Some(zeros) => {
                        parallel.push_zeros(zeros);
                        job.spare = symbols.syms;
                        parallel.give_back(job);
                    }
                    None => {
                        let zero_parts = Arc::clone(&self.zero_parts);
                        job.block = Some(Bzip2Block { symbols, index, bit, zero_parts });
                        parallel.submit(job, BLOCK_BYTES);
                    }
                }
                Ok(FoundPart::Job)
            }
            Ok(Event::Done) => Ok(FoundPart::End),
            Err(error) => self.explain(error),
        }
    }

    fn stream(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
}

/// The symbols of a block, to be decoded.
#[derive(Default)]
struct Bzip2Job {
    block: Option<Bzip2Block>,
    /// Memory for the symbols of another block.
    spare: Vec<u16>,
}

struct Bzip2Block {
    symbols: Symbols,
    index: u64,
    /// Where the block begins, in bits.
    bit: u64,
    zero_parts: Arc<ZeroParts>,
}

impl Job for Bzip2Job {
    type Decoder = Scratch;

    fn capacity(&self) -> u64 {
        let symbols = self.block.as_ref().map_or(&self.spare, |block| &block.symbols.syms);
        2 * symbols.capacity() as u64
    }

    fn clear(&mut self) {
        if let Some(block) = self.block.take() {
            self.spare = block.symbols.syms;
        }
    }

    fn decode(&mut self, scratch: &mut Scratch, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let Some(Bzip2Block { symbols, index, bit, zero_parts }) = &self.block else {
            return Ok(());
        };
        decode_block(symbols, Kernels::detect(), scratch, out)
            .map_err(|kind| explain(BzError { kind, block: Some(*index), bit: Some(*bit) }))?;
        if let Some(key) = key(symbols) {
            zero_parts.remember(&key, out);
        }
        Ok(())
    }
}

/// Everything that the decoding of a block depends on, as bytes. `None` if that is too much to be
/// compared.
fn key(symbols: &Symbols) -> Option<Vec<u8>> {
    let Symbols { crc, orig_ptr, seq_to_unseq, syms, eob, max_len } = symbols;
    if !ZeroParts::is_small(2 * syms.len()) {
        return None;
    }
    let mut key = seq_to_unseq.to_vec();
    key.extend_from_slice(&crc.to_le_bytes());
    key.extend_from_slice(&orig_ptr.to_le_bytes());
    key.extend_from_slice(&eob.to_le_bytes());
    key.extend_from_slice(&max_len.to_le_bytes());
    key.extend(syms.iter().flat_map(|symbol| symbol.to_le_bytes()));
    Some(key)
}

/// The input of the scanner, from the block that it reads on.
struct WireWindow {
    wire: CompressedInput,
    bytes: Vec<u8>,
    /// Offset of the first of `bytes`.
    offset: u64,
    /// Bytes before this offset are not needed any more.
    released: u64,
    has_ended: bool,
    source_error: SourceError,
}

impl WireWindow {
    fn refill(&mut self) -> io::Result<()> {
        let available = self.wire.fill_buf()?;
        let len = available.len();
        self.bytes.extend_from_slice(available);
        self.wire.consume(len);
        self.has_ended = len == 0;
        Ok(())
    }
}

impl Source for WireWindow {
    fn view(&mut self, from: u64, want: usize) -> Result<(&[u8], bool), BzErrorKind> {
        let unneeded = (self.released - self.offset) as usize;
        // rarely, because it moves the rest
        if unneeded as u64 >= INPUT_BYTES / 4 {
            self.bytes.drain(..unneeded);
            self.offset = self.released;
        }
        while !self.has_ended && self.offset + (self.bytes.len() as u64) < from + want as u64 {
            if let Err(error) = self.refill() {
                *self.source_error.lock().expect("no holder panics") = Some(error);
                return Err(BzErrorKind::Cancelled);
            }
        }
        let start = (from - self.offset) as usize;
        Ok((self.bytes.get(start..).unwrap_or(&[]), self.has_ended))
    }

    fn release(&mut self, upto: u64) {
        self.released = self.released.max(upto);
    }
}

fn explain(error: BzError) -> Error {
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
}
