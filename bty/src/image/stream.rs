//! Compressed images: wire, decoder, buffers.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::atomic::Ordering;

use crate::decode::{self, Compression, DecodeOptions};
use crate::extent::{Extent, ExtentReader, split_zeros};
use crate::image::Reading;
use crate::source::wire::{Wire, WireDigest, read_full};
use crate::{Digest, Error, ErrorKind, Result, Source};

/// The extents of a compressed source.
pub(crate) struct StreamExtents {
    decoder: Box<dyn Read + Send>,
    digest: WireDigest,
    location: String,
    reading: Reading,
    position: u64,
    queue: VecDeque<Extent>,
}

impl StreamExtents {
    pub(crate) fn start(source: &Source, compression: Compression, reading: &Reading) -> Result<Self> {
        let (wire, digest) = Wire::start(source, reading)?;
        let options = DecodeOptions { threads: reading.threads, memory_bytes: reading.memory_bytes };
        Ok(Self {
            decoder: decode::decoder(compression, Box::new(wire), options)?,
            digest,
            location: source.location().to_string(),
            reading: reading.clone(),
            position: 0,
            queue: VecDeque::new(),
        })
    }
}

impl ExtentReader for StreamExtents {
    fn next(&mut self) -> Result<Option<Extent>> {
        loop {
            if let Some(extent) = self.queue.pop_front() {
                return Ok(Some(extent));
            }
            self.reading.cancel.check()?;
            let mut buffer = self.reading.pool.take(&self.reading.cancel)?;
            let n = read_full(&mut self.decoder, &mut buffer)
                .map_err(|e| Error::from_io(ErrorKind::Format, format!("decoding {}", self.location), e))?;
            if n == 0 {
                return Ok(None);
            }
            self.queue.extend(split_zeros(self.position, &buffer.freeze(n)));
            self.position += n as u64;
            self.reading.counts.decoded_bytes.fetch_add(n as u64, Ordering::Relaxed);
        }
    }

    fn wire_digest(&self) -> Option<Digest> {
        *self.digest.lock().expect("nobody panics holding it")
    }
}
