//! Compressed images: wire, decoder, buffers.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::atomic::Ordering;

use crate::decode::{self, Compression, DecodeOptions};
use crate::digest::Checksums;
use crate::extent::{Extent, ExtentReader, ReadDigests, split_zeros};
use crate::image::Reading;
use crate::image::digester::{Digester, Need};
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
    digester: Option<Digester>,
    image_sha256: Option<Digest>,
}

impl StreamExtents {
    /// Starts decoding; `with_image_digest` hashes what comes out too.
    pub(crate) fn start(
        source: &Source,
        compression: Compression,
        reading: &Reading,
        with_image_digest: bool,
    ) -> Result<Self> {
        let start = || Digester::start(Need::Required, &Checksums::default());
        let digester = with_image_digest.then(start).transpose()?;
        let (wire, digest) = Wire::start(source, reading)?;
        let options = DecodeOptions { threads: reading.threads, memory_bytes: reading.memory_bytes };
        Ok(Self {
            decoder: decode::decoder(compression, Box::new(wire), options)?,
            digest,
            location: source.location().to_string(),
            reading: reading.clone(),
            position: 0,
            queue: VecDeque::new(),
            digester,
            image_sha256: None,
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
                if let Some(digester) = self.digester.take() {
                    self.image_sha256 = digester.finish()?.and_then(|found| found.sha256);
                }
                return Ok(None);
            }
            let block = buffer.freeze(n);
            self.queue.extend(split_zeros(self.position, &block));
            if let Some(digester) = &mut self.digester {
                digester.add(&Extent::Data { offset: self.position, block })?;
            }
            self.position += n as u64;
            self.reading.counts.decoded_bytes.fetch_add(n as u64, Ordering::Relaxed);
        }
    }

    fn digests(&self) -> ReadDigests {
        let wire = *self.digest.lock().expect("nobody panics holding it");
        ReadDigests { wire: wire.unwrap_or_default(), image: self.image_sha256 }
    }
}
