//! Reading an image: its extents in the order of reading, and a full read without writing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::decode::Trailer;
use crate::extent::{Extent, ExtentReader, ReadDigests, first_data, zeroed};
use crate::image::Image;
use crate::image::digester::DigestNeed;
use crate::image::digests::all_digests;
use crate::image::generated::EraseExtents;
use crate::image::head::HEAD_BYTES;
use crate::image::info::{Format, ImageInfo};
use crate::image::qcow2::Qcow2;
use crate::image::raw::RawExtents;
use crate::image::stream::StreamExtents;
use crate::pack::PackedExtents;
use crate::partition_table::gpt;
use crate::progress::{Counts, Ticks};
use crate::read_context::ReadContext;
use crate::trace::Span;
use crate::{CancelToken, Digest, Error, Event, Observer, Phase, Result, Source};

/// The result of [`Image::read_fully`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Contents {
    /// Bytes read from the source.
    pub source_bytes: u64,
    /// SHA-256 of the source.
    pub source_sha256: Digest,
    /// Size of the decoded disk image in bytes.
    pub disk_bytes: u64,
    /// Bytes of data in the disk image. The rest are runs of zeros of at least 256 KiB.
    pub data_bytes: u64,
}

impl Contents {
    /// Simulates the result for an `image` that is all data, for dry runs.
    #[must_use]
    pub fn simulated(image: &ImageInfo) -> Self {
        let disk_bytes = image.min_disk_bytes().unwrap_or(0);
        Self {
            source_bytes: image.source_bytes.unwrap_or(0),
            source_sha256: image
                .expected_sha256
                .unwrap_or_else(|| Digest::of(image.source.as_bytes())),
            disk_bytes,
            data_bytes: disk_bytes,
        }
    }
}

impl Image {
    /// Reads and decodes the whole image, and checks the expected digests, without writing
    /// anything.
    ///
    /// `observer` receives the progress of [`Phase::Read`].
    ///
    /// # Errors
    /// - [`ErrorKind::Source`](crate::ErrorKind::Source): the source cannot be read, or has changed
    ///   since it was opened.
    /// - [`ErrorKind::Format`](crate::ErrorKind::Format): the image is damaged.
    /// - [`ErrorKind::Integrity`](crate::ErrorKind::Integrity): a digest is not the expected one.
    /// - [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled): `cancel` was cancelled.
    pub fn read_fully(&self, observer: &dyn Observer, cancel: &CancelToken) -> Result<Contents> {
        let span = Span::read(&self.info);
        let contents = span.in_scope(|| self.read_all(observer, cancel))?;
        span.record("source_bytes", contents.source_bytes);
        span.record("disk_bytes", contents.disk_bytes);
        Ok(contents)
    }

    fn read_all(&self, observer: &dyn Observer, cancel: &CancelToken) -> Result<Contents> {
        let started = Instant::now();
        let context = ReadContext::new(4, cancel);
        let progress = |decoded_bytes| {
            let counts = Counts {
                source_bytes: context.counts.source_bytes.load(Ordering::Relaxed),
                source_total: self.info.source_bytes,
                decoded_bytes,
                decoded_total: self.info.disk_bytes,
            };
            let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            Event::Progress { phase: Phase::Read, elapsed_ms, counts, targets: Vec::new() }
        };
        let mut extents = self.extents(&context, true)?;
        let (mut disk_bytes, mut data_bytes, mut ticks) = (0, 0, Ticks::default());
        while let Some(extent) = extents.next()? {
            match extent {
                Extent::Data { block, .. } => {
                    disk_bytes += block.len() as u64;
                    data_bytes += block.len() as u64;
                }
                Extent::Zero { len, .. } => disk_bytes += len,
            }
            if ticks.is_due() {
                observer.event(&progress(disk_bytes));
            }
        }
        observer.event(&progress(disk_bytes));
        let digests = all_digests(&*extents, &self.source, &context)?;
        self.check_digests(&digests, cancel)?;
        let source_sha256 = digests.wire.sha256.ok_or_else(Error::cancelled)?;
        Ok(Contents {
            source_bytes: context.counts.source_bytes.load(Ordering::Relaxed),
            source_sha256,
            disk_bytes,
            data_bytes,
        })
    }

    /// Starts reading the extents. They cover every byte of the disk image once, in the same order
    /// every time.
    ///
    /// Computes the digest of the source if one is expected or `with_digest` is set; otherwise only
    /// as long as it does not slow down reading. Fails when the source has changed since it was
    /// opened: here, or at the end of the extents.
    pub(crate) fn extents(
        &self,
        context: &ReadContext,
        with_digest: bool,
    ) -> Result<Box<dyn ExtentReader>> {
        self.source.bytes.check_unchanged()?;
        if let Some(way) = self.info.erases {
            return Ok(Box::new(EraseExtents::start(&self.source, way, context)));
        }
        let need = if with_digest || self.needs_digest || self.info.has_expected_digest() {
            DigestNeed::Required
        } else {
            DigestNeed::Optional
        };
        let with_image = self.info.expected_image_sha256.is_some();
        let source = &self.source;
        // the digest of the disk image needs its bytes in one stream
        if let Some(index) = self.pack.as_ref().filter(|_| !with_image) {
            return Ok(self.unchanged(Box::new(PackedExtents::start(source, index, context)?)));
        }
        let extents: Box<dyn ExtentReader> =
            match (&self.qcow2, &self.member, self.info.format.compression()) {
                (Some(qcow2), _, _) => {
                    let needs_digest = self.needs_digest;
                    qcow2.extents(source, &ReadContext { needs_digest, ..context.clone() })?
                }
                (None, Some(member), compression) => {
                    let opened = StreamExtents::of_member(
                        source,
                        member,
                        compression,
                        context,
                        need == DigestNeed::Required,
                    )?;
                    Box::new(opened.digesting(with_image)?)
                }
                (None, None, Some(kind)) => Box::new(
                    StreamExtents::start(source, kind, context, &self.trailer)?
                        .digesting(with_image)?,
                ),
                (None, None, None) => Box::new(RawExtents::start(source, context, need)?),
            };
        Ok(self.unchanged(extents))
    }

    fn unchanged(&self, extents: Box<dyn ExtentReader>) -> Box<dyn ExtentReader> {
        Box::new(CheckUnchanged { extents, source: self.source.clone() })
    }

    /// The offset of the first byte at or after `from` that is neither zero nor part of the image's
    /// own backup GPT. Searches only raw images with random access; `None` for others, because they
    /// would have to be decoded.
    pub(crate) fn first_data_behind(&self, from: u64, cancel: &CancelToken) -> Result<Option<u64>> {
        let is_raw =
            self.qcow2.is_none() && self.member.is_none() && self.info.format == Format::Raw;
        if !is_raw || !self.source.is_seekable() {
            return Ok(None);
        }
        let backup_gpt = gpt::backup_range(&self.head);
        let (mut at, mut buffer) = (from, zeroed(HEAD_BYTES)?);
        loop {
            let n = self.source.read_at(&mut buffer, at, cancel)?;
            if n == 0 {
                return Ok(None);
            }
            if let Some(found) = first_data(at, &buffer[..n], backup_gpt.as_ref()) {
                return Ok(Some(found));
            }
            at += n as u64;
        }
    }
}

/// Checks at the end that the source has not changed since it was opened, and fails if it has.
struct CheckUnchanged {
    extents: Box<dyn ExtentReader>,
    source: Source,
}

impl ExtentReader for CheckUnchanged {
    fn next(&mut self) -> Result<Option<Extent>> {
        let next = self.extents.next()?;
        if next.is_none() {
            self.source.bytes.check_unchanged()?;
        }
        Ok(next)
    }

    fn digests(&self) -> ReadDigests {
        self.extents.digests()
    }
}

/// The extents of `source`, an image of `format`. Checks nothing else about it: for images that bty
/// has just created.
pub(crate) fn extents_of(
    source: &Source,
    format: Format,
    context: &ReadContext,
) -> Result<Box<dyn ExtentReader>> {
    match format.compression() {
        Some(compression) => {
            Ok(Box::new(StreamExtents::start(source, compression, context, &Trailer::default())?))
        }
        None if format == Format::Qcow2 => {
            Arc::new(Qcow2::open(source, &context.cancel)?).extents(source, context)
        }
        None => Ok(Box::new(RawExtents::start(source, context, DigestNeed::Required)?)),
    }
}
