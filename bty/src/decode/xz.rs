//! xz: a sequence of streams with padding, whose blocks are decoded on all cores.
//! [Format](https://tukaani.org/xz/xz-file-format.txt).
//!
//! The parallel decoder of liblzma ends with its stream, so this module loops over streams and
//! padding.

use std::io::{self, BufRead, Read};

use liblzma::stream::{Action, Error as LzmaError, MtStreamBuilder, Status, Stream};

use super::{CompressedInput, Compression, DecodeOptions, Trailer, damaged, refused, truncated};
use crate::size::{MIB, human};
use crate::{Error, ErrorKind, Result, threads};

mod index;

pub(super) use index::decoded_size;

const MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];

pub(super) fn decoder(
    wire: Box<dyn Read + Send>,
    options: DecodeOptions,
    trailer: &Trailer,
) -> Result<Box<dyn Read + Send>> {
    Ok(Box::new(Xz::new(CompressedInput::new(wire, trailer), options)))
}

struct Xz {
    wire: CompressedInput,
    options: DecodeOptions,
    /// Decoder of the current stream; `None` between streams.
    stream: Option<Stream>,
    is_first: bool,
}

impl Xz {
    fn new(wire: CompressedInput, options: DecodeOptions) -> Self {
        Self { wire, options, stream: None, is_first: true }
    }

    /// Starts the next stream; false at the end.
    fn start_stream(&mut self) -> io::Result<bool> {
        if !stream_follows(&mut self.wire, self.is_first)? {
            return Ok(false);
        }
        self.is_first = false;
        let memory = self.options.memory_bytes.saturating_sub(MIB);
        // memlimit_threading limits all blocks in flight together: with less memory, fewer of them
        // are decoded at once
        let stream = match threads::available(self.options.threads.min(256)) {
            // decodes on the calling thread
            0 => Stream::new_stream_decoder(memory, 0),
            threads => MtStreamBuilder::new()
                .threads(u32::try_from(threads).unwrap_or(1))
                .memlimit_threading(memory)
                .memlimit_stop(memory)
                .decoder(),
        };
        let stream = stream
            .map_err(|e| Error::new(ErrorKind::Host, "starting the xz decoder").because(e))?;
        self.stream = Some(stream);
        Ok(true)
    }

    fn explain(&self, error: LzmaError) -> Error {
        let offset = self.wire.offset();
        match error {
            LzmaError::MemLimit => {
                let limit = human(self.options.memory_bytes);
                let needed = dictionary_bytes(self.wire.look_back(1024 + 12));
                let needed =
                    needed.map_or_else(|| "more memory".to_owned(), |n| format!("a dictionary of {}", human(n)));
                refused(Compression::Xz, offset, format!("it needs {needed}, and {limit} of memory are allowed"))
                    .hint("recompress it with xz -9 or less: xz -dc IMAGE | xz -9 -T0 > NEW")
            }
            LzmaError::Mem => Error::new(ErrorKind::Host, "decoding xz").because(error).hint(
                "the system refused memory or a thread: allow more (ulimit -v, ulimit -u, the limits of the container)",
            ),
            LzmaError::Options => refused(Compression::Xz, offset, "it uses a filter or option that is not supported")
                .hint("recompress it: xz -dc IMAGE | xz -T0 > NEW"),
            other => damaged(Compression::Xz, offset, other),
        }
    }
}

impl Read for Xz {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.stream.is_none() && !self.start_stream()? {
                return Ok(0);
            }
            let Some(stream) = &mut self.stream else { continue };
            let input = self.wire.fill_buf()?;
            let at_end = input.is_empty();
            let action = if at_end { Action::Finish } else { Action::Run };
            let (in_before, out_before) = (stream.total_in(), stream.total_out());
            let result = stream.process(input, buf, action);
            let consumed = (stream.total_in() - in_before) as usize;
            let produced = (stream.total_out() - out_before) as usize;
            self.wire.consume(consumed);
            match result {
                Ok(Status::StreamEnd) => self.stream = None,
                Ok(Status::MemNeeded) if at_end && produced == 0 => {
                    return Err(truncated(Compression::Xz, self.wire.offset()).into());
                }
                Ok(_) => {}
                Err(e) => return Err(self.explain(e).into()),
            }
            if produced > 0 {
                return Ok(produced);
            }
        }
    }
}

/// Skips the padding after a stream, which is zeros in groups of four. True when another stream
/// follows.
fn stream_follows(wire: &mut CompressedInput, is_first: bool) -> io::Result<bool> {
    if is_first {
        // the decoder reports a truncated header
        return if wire.is_at_end()? {
            Err(truncated(Compression::Xz, 0).into())
        } else {
            Ok(true)
        };
    }
    while wire.peek(4)?.starts_with(&[0; 4]) {
        wire.consume(4);
    }
    let head = wire.peek(MAGIC.len())?;
    if head.is_empty() {
        return Ok(false);
    }
    let is_stream = head.starts_with(&MAGIC[..head.len().min(MAGIC.len())]);
    if is_stream { Ok(true) } else { wire.take_trailer(Compression::Xz).map(|()| false) }
}

/// The size of the dictionary in bytes, from the block header at the end of `consumed`.
///
/// The LZMA2 filter is: id 0x21 | size of properties 0x01 | bits u8, which means 2 or 3 shifted
/// left by bits / 2 + 11.
fn dictionary_bytes(consumed: &[u8]) -> Option<u64> {
    let at = consumed.windows(3).rposition(|w| w[0] == 0x21 && w[1] == 1 && w[2] <= 40)?;
    let bits = u64::from(consumed[at + 2]);
    Some(if bits == 40 { u64::from(u32::MAX) } else { (2 | (bits & 1)) << (bits / 2 + 11) })
}
