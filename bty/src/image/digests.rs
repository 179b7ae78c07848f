//! Compares the digests of a read with the expected ones.

use crate::decode::{Compression, Trailer};
use crate::digest::Checksums;
use crate::extent::{ExtentReader, ReadDigests};
use crate::image::Image;
use crate::image::stream::StreamExtents;
use crate::read_context::ReadContext;
use crate::source::read_ahead::ReadAhead;
use crate::{CancelToken, Digest, Error, ErrorKind, Remedy, Result, Source};

impl Image {
    /// Compares the digests of a whole read with the expected ones.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] when one differs, or was not computed.
    pub(crate) fn check_digests(&self, actual: &ReadDigests, cancel: &CancelToken) -> Result<()> {
        if let Some(expected) = self.info.expected_image_sha256
            && actual.image != Some(expected)
        {
            let actual =
                actual.image.map_or("a digest that was not computed".to_owned(), |actual| {
                    format!("digest {actual}")
                });
            let message = format!(
                "the image inside {} has {actual}, expected {expected}",
                self.source.location()
            );
            let error = Error::new(ErrorKind::Integrity, message).with_path(self.source.location());
            return Err(error.hint(
                "check the digest: it is that of the unpacked image; or fetch the file again",
            ));
        }
        self.source
            .check_digests(&actual.wire)
            .map_err(|error| self.explain_mismatch(error, actual, cancel))
    }

    /// Explains the mismatch if the expected digest of the file may be that of the image inside.
    /// Many projects publish both, so they are easily confused.
    fn explain_mismatch(&self, error: Error, actual: &ReadDigests, cancel: &CancelToken) -> Error {
        let kind = self.info.format.compression().filter(|_| self.member.is_none());
        let (Some(expected), Some(kind)) = (self.source.expected.sha256, kind) else {
            return error;
        };
        let is_local = self.source.bytes.as_file().is_some();
        let read_again = || unpacked_digest(&self.source, kind, cancel).ok().flatten();
        let unpacked = if is_local { actual.image.or_else(read_again) } else { actual.image };
        if unpacked == Some(expected) {
            let message = format!(
                "digest {expected} is that of the unpacked image, not of the file {}",
                self.source.location()
            );
            let error = Error::new(ErrorKind::Integrity, message).with_path(self.source.location());
            return error
                .hint("give it as the digest of the image instead")
                .with_remedy(Remedy::ImageSha256);
        }
        if unpacked.is_some() || is_local {
            return error;
        }
        error
            .hint(
                "fetch it again, and check the digest; if that is the digest of the unpacked \
                 image, give it as the digest of the image",
            )
            .with_remedy(Remedy::ImageSha256)
    }
}

/// Reads a compressed source for the SHA-256 of the disk image in it.
fn unpacked_digest(
    source: &Source,
    kind: Compression,
    cancel: &CancelToken,
) -> Result<Option<Digest>> {
    let context = ReadContext::new(6, cancel);
    let mut extents =
        StreamExtents::start(source, kind, &context, &Trailer::default())?.digesting(true)?;
    while extents.next()?.is_some() {}
    Ok(extents.digests().image)
}

/// Reads a source from start to end, for its digests.
fn source_digests(source: &Source, context: &ReadContext) -> Result<Checksums> {
    let (mut reader, digest) = ReadAhead::start(source, context)?;
    std::io::copy(&mut reader, &mut std::io::sink()).map_err(|e| {
        Error::from_io(ErrorKind::Source, format!("reading {}", source.location()), e)
    })?;
    let digest = *digest.lock().expect("no holder panics");
    digest.ok_or_else(Error::cancelled)
}

/// The digests of `source`, after all its extents were read. Reads it again if the extents were not
/// read in the order of the file, as with qcow2.
pub(crate) fn all_digests(
    extents: &dyn ExtentReader,
    source: &Source,
    context: &ReadContext,
) -> Result<ReadDigests> {
    let mut digests = extents.digests();
    if digests.wire.sha256.is_none() {
        digests.wire = source_digests(source, context)?;
    }
    Ok(digests)
}
