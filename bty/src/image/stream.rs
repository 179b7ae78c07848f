//! Compressed images, and images inside archives: wire, decoder, buffers.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::decode::{self, Compression, DecodeOptions, Trailer};
use crate::digest::Checksums;
use crate::extent::{Extent, ExtentReader, ReadDigests, split_zeros};
use crate::image::archive::Member;
use crate::image::digester::{Digester, Need};
use crate::read_context::ReadContext;
use crate::source::read_ahead::{PendingDigests, ReadAhead, read_full};
use crate::{Digest, Error, ErrorKind, Result, Source};

/// The extents of a compressed source.
pub(crate) struct StreamExtents {
    decoder: Box<dyn Read + Send>,
    /// The rest of the wire is read at the end, where its digest is wanted and an archive goes on
    /// behind its image.
    rest: Option<SharedWire>,
    digest: Option<PendingDigests>,
    location: String,
    reading: ReadContext,
    position: u64,
    queue: VecDeque<Extent>,
    digester: Option<Digester>,
    image_sha256: Option<Digest>,
}

impl StreamExtents {
    /// Starts decoding.
    pub(crate) fn start(
        source: &Source,
        compression: Compression,
        reading: &ReadContext,
        trailer: &Trailer,
    ) -> Result<Self> {
        let (wire, digest) = ReadAhead::start(source, reading)?;
        let wire = SharedWire(Arc::new(Mutex::new(wire)));
        let options =
            DecodeOptions { threads: reading.threads, memory_bytes: reading.memory_bytes };
        Ok(Self {
            decoder: decode::decoder_before(compression, Box::new(wire.clone()), options, trailer)?,
            // a decoder that leaves out a trailer may leave it unread
            rest: Some(wire),
            digest: Some(digest),
            location: source.location().to_string(),
            reading: reading.clone(),
            position: 0,
            queue: VecDeque::new(),
            digester: None,
            image_sha256: None,
        })
    }

    /// The extents of `member` of the archive `source`, which may be compressed by itself.
    pub(crate) fn of_member(
        source: &Source,
        member: &Member,
        compression: Option<Compression>,
        reading: &ReadContext,
        with_digest: bool,
    ) -> Result<Self> {
        let from_start = with_digest || member.wire_offset() == 0;
        let (wire, digest) = ReadAhead::start_at(
            source,
            if from_start { 0 } else { member.wire_offset() },
            reading,
        )?;
        let wire = SharedWire(Arc::new(Mutex::new(wire)));
        let mut options =
            DecodeOptions { threads: reading.threads, memory_bytes: reading.memory_bytes };
        if compression.is_some() {
            // two decoders share what one may take
            options.memory_bytes /= 2;
        }
        let inside = member.reader(Box::new(wire.clone()), from_start, options)?;
        let decoder = match compression {
            Some(compression) => decode::decoder(compression, inside, options)?,
            None => inside,
        };
        Ok(Self {
            decoder,
            rest: with_digest.then_some(wire),
            digest: from_start.then_some(digest),
            location: format!("{} in {}", member.name(), source.location()),
            reading: reading.clone(),
            position: 0,
            queue: VecDeque::new(),
            digester: None,
            image_sha256: None,
        })
    }

    /// Digests what comes out too, when `is_wanted`.
    pub(crate) fn digesting(mut self, is_wanted: bool) -> Result<Self> {
        let start = || Digester::start(Need::Required, &Checksums::default());
        self.digester = is_wanted.then(start).transpose()?;
        Ok(self)
    }
}

/// A wire whose rest can be read when a decoder has what it needs.
#[derive(Clone)]
struct SharedWire(Arc<Mutex<ReadAhead>>);

impl Read for SharedWire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics holding it").read(buf)
    }
}

impl StreamExtents {
    fn read_rest(&mut self) -> Result<()> {
        let Some(mut rest) = self.rest.take() else { return Ok(()) };
        let failed = |e| Error::from_io(ErrorKind::Source, format!("reading {}", self.location), e);
        io::copy(&mut rest, &mut io::sink()).map(drop).map_err(failed)
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
            let n = read_full(&mut self.decoder, &mut buffer).map_err(|e| {
                Error::from_io(ErrorKind::Format, format!("decoding {}", self.location), e)
            })?;
            if n == 0 {
                self.read_rest()?;
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
        let wire = self
            .digest
            .as_ref()
            .and_then(|digest| *digest.lock().expect("nobody panics holding it"));
        ReadDigests { wire: wire.unwrap_or_default(), image: self.image_sha256 }
    }
}
