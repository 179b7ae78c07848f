//! Reads compressed images, and images inside archives, through a decoder.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::decode::{self, Compression, DecodeOptions, Trailer};
use crate::digest::Checksums;
use crate::extent::{Extent, ExtentReader, ReadDigests, split_zeros};
use crate::image::archive::Member;
use crate::image::digester::{DigestNeed, Digester};
use crate::read_context::ReadContext;
use crate::source::read_ahead::{PendingDigests, ReadAhead, read_full};
use crate::{Digest, Error, ErrorKind, Result, Source};

/// The extents of a compressed source.
pub(crate) struct StreamExtents {
    decoder: Box<dyn Read + Send>,
    /// The source, which is read to its end after the decoder is done: the digest needs all bytes,
    /// and an archive continues after its image.
    rest: Option<SharedReader>,
    digest: Option<PendingDigests>,
    location: String,
    context: ReadContext,
    position: u64,
    queue: VecDeque<Extent>,
    digester: Option<Digester>,
    image_sha256: Option<Digest>,
}

impl StreamExtents {
    /// Starts reading `source` ahead and decoding it. `trailer` says what may follow the image.
    pub(crate) fn start(
        source: &Source,
        compression: Compression,
        context: &ReadContext,
        trailer: &Trailer,
    ) -> Result<Self> {
        let (reader, digest) = ReadAhead::start(source, context)?;
        let reader = SharedReader(Arc::new(Mutex::new(reader)));
        let options =
            DecodeOptions { threads: context.threads, memory_bytes: context.memory_bytes };
        Ok(Self {
            decoder: decode::decoder_with_trailer(
                compression,
                Box::new(reader.clone()),
                options,
                trailer,
            )?,
            // a decoder may leave a trailer unread
            rest: Some(reader),
            digest: Some(digest),
            location: source.location().to_string(),
            context: context.clone(),
            position: 0,
            queue: VecDeque::new(),
            digester: None,
            image_sha256: None,
        })
    }

    /// Starts decoding `member` of the archive `source`. The member itself may be compressed.
    pub(crate) fn of_member(
        source: &Source,
        member: &Member,
        compression: Option<Compression>,
        context: &ReadContext,
        with_digest: bool,
    ) -> Result<Self> {
        let from_start = with_digest || member.wire_offset() == 0;
        let (reader, digest) = ReadAhead::start_at(
            source,
            if from_start { 0 } else { member.wire_offset() },
            context,
        )?;
        let reader = SharedReader(Arc::new(Mutex::new(reader)));
        let mut options =
            DecodeOptions { threads: context.threads, memory_bytes: context.memory_bytes };
        if compression.is_some() {
            // two decoders share the memory
            options.memory_bytes /= 2;
        }
        let inside = member.reader(Box::new(reader.clone()), from_start, options)?;
        let decoder = match compression {
            Some(compression) => decode::decoder(compression, inside, options)?,
            None => inside,
        };
        Ok(Self {
            decoder,
            rest: with_digest.then_some(reader),
            digest: from_start.then_some(digest),
            location: format!("{} in {}", member.name(), source.location()),
            context: context.clone(),
            position: 0,
            queue: VecDeque::new(),
            digester: None,
            image_sha256: None,
        })
    }

    /// Also computes the digest of the decoded image, if `with_image_digest`.
    pub(crate) fn digesting(mut self, with_image_digest: bool) -> Result<Self> {
        let start = || Digester::start(DigestNeed::Required, &Checksums::default());
        self.digester = with_image_digest.then(start).transpose()?;
        Ok(self)
    }
}

/// A reader that a decoder uses, and whose rest can be read after the decoder is done.
#[derive(Clone)]
struct SharedReader(Arc<Mutex<ReadAhead>>);

impl Read for SharedReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.lock().expect("no holder panics").read(buf)
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
            self.context.cancel.check()?;
            let mut buffer = self.context.pool.take(&self.context.cancel)?;
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
            self.context.counts.decoded_bytes.fetch_add(n as u64, Ordering::Relaxed);
        }
    }

    fn digests(&self) -> ReadDigests {
        let wire =
            self.digest.as_ref().and_then(|digest| *digest.lock().expect("no holder panics"));
        ReadDigests { wire: wire.unwrap_or_default(), image: self.image_sha256 }
    }
}
