//! Decompression: from the bytes of a source to those of the disk image.
//!
//! The format is recognized from the first bytes, never from a name. All members, streams and
//! frames of a file make up one image. Padding that the format allows and the trailers that
//! [`Trailer`] knows are skipped; anything else after the end is an error. If the format allows it,
//! blocks are decoded on all cores. Memory stays below [`DecodeOptions::memory_bytes`], whatever a
//! header claims.

use std::io::{self, Read};

use crate::source::ByteSource;
use crate::{CancelToken, Error, ErrorKind, Remedy, Result};

mod absent;
#[cfg(feature = "bzip2")]
mod bzip2;
mod gzip;
mod input;
#[cfg(feature = "lz4")]
mod lz4;
mod parallel;
#[cfg(test)]
mod tests;
mod trailer;
mod walk;
#[cfg(feature = "xz")]
mod xz;
#[cfg(any(feature = "bzip2", feature = "xz"))]
mod zero_parts;
mod zstd;

#[cfg(not(feature = "bzip2"))]
use absent::bzip2;
#[cfg(not(feature = "lz4"))]
use absent::lz4;
#[cfg(not(feature = "xz"))]
use absent::xz;
use input::CompressedInput;
pub(crate) use trailer::Trailer;

/// Number of bytes that [`Compression::sniff`] needs, unless the source is shorter.
#[cfg_attr(not(feature = "fuzzing"), allow(dead_code, reason = "other callers pass a whole MiB"))]
pub(crate) const SNIFF_BYTES: usize = 4 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Compression {
    Gzip,
    Xz,
    Bzip2,
    Zstd,
    Lz4,
}

impl Compression {
    /// Recognizes the format of a stream by its first bytes; [`SNIFF_BYTES`] are enough. Skips
    /// skippable frames, which zstd and lz4 share.
    pub(crate) fn sniff(head: &[u8]) -> Option<Self> {
        let mut at = head;
        while let Some(len) = skippable_bytes(at) {
            match usize::try_from(len).ok().and_then(|len| at.get(len..)) {
                Some(rest) if !rest.is_empty() => at = rest,
                // no frame follows in the visible bytes: zstd is far more common
                _ => return Some(Self::Zstd),
            }
        }
        let found = |magic: &[u8]| at.starts_with(magic);
        if found(&[0x1f, 0x8b]) {
            Some(Self::Gzip)
        } else if found(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            Some(Self::Xz)
        } else if found(b"BZh") && matches!(at.get(3), Some(b'1'..=b'9')) {
            Some(Self::Bzip2)
        } else if found(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Some(Self::Zstd)
        } else if found(&[0x04, 0x22, 0x4d, 0x18]) || found(&[0x02, 0x21, 0x4c, 0x18]) {
            Some(Self::Lz4)
        } else {
            None
        }
    }

    /// The name of the format, as used in reports: `gzip`, `xz`, `bzip2`, `zstd`, `lz4`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }
}

/// The length in bytes of the skippable frame at the start of `bytes`, including its header. In
/// zstd and lz4, it is `50..5f 2a 4d 18 | length u32 | that many bytes`, little-endian.
fn skippable_bytes(bytes: &[u8]) -> Option<u64> {
    let header = bytes.first_chunk::<8>()?;
    let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    may_be_skippable(header).then_some(8 + u64::from(len))
}

/// True if `bytes`, which may be truncated, can be the start of a skippable frame.
fn may_be_skippable(bytes: &[u8]) -> bool {
    let rest = bytes.get(1..bytes.len().min(4)).unwrap_or(&[]);
    bytes.first().is_none_or(|first| first & 0xf0 == 0x50) && [0x2a, 0x4d, 0x18].starts_with(rest)
}

/// What a decoder may use of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecodeOptions {
    /// Number of threads, at least 1.
    pub(crate) threads: usize,
    /// Memory for the decoder in bytes: windows, dictionaries and blocks in flight together. Less
    /// than 16 MiB counts as 16 MiB.
    ///
    /// 192 MiB are enough for zstd images made with `--long=27` and all presets of xz. Parallel
    /// bzip2 needs about 60 MiB for each thread, because one block may decode to 46 MB.
    pub(crate) memory_bytes: u64,
}

/// Decodes `wire` from its start.
///
/// The reader returns `Ok(0)` only after all of `wire` was consumed and every checksum matched. Its
/// errors carry an [`Error`] of kind [`Format`](ErrorKind::Format); errors of `wire` pass through
/// unchanged. After an error, every read fails.
pub(crate) fn decoder(
    compression: Compression,
    wire: Box<dyn Read + Send>,
    options: DecodeOptions,
) -> Result<Box<dyn Read + Send>> {
    decoder_with_trailer(compression, wire, options, &Trailer::default())
}

/// Like [`decoder`], for data that may be followed by a trailer. Records in `trailer` what was
/// skipped.
pub(crate) fn decoder_with_trailer(
    compression: Compression,
    wire: Box<dyn Read + Send>,
    options: DecodeOptions,
    trailer: &Trailer,
) -> Result<Box<dyn Read + Send>> {
    let options = DecodeOptions {
        threads: options.threads.max(1),
        memory_bytes: options.memory_bytes.max(16 * crate::size::MIB),
    };
    let inner: Box<dyn Read + Send> = match compression {
        Compression::Gzip => Box::new(gzip::Gzip::new(CompressedInput::new(wire, trailer))),
        Compression::Xz => xz::decoder(wire, options, trailer)?,
        Compression::Bzip2 => bzip2::decoder(wire, options, trailer)?,
        Compression::Zstd => zstd::decoder(CompressedInput::new(wire, trailer), options),
        Compression::Lz4 => lz4::decoder(wire, options, trailer)?,
    };
    Ok(Box::new(FailOnce { inner, has_failed: false }))
}

/// The decoded size in bytes, if the compressed data states it and a few reads find it.
///
/// The size is a claim of the data, which only decoding proves. gzip and bzip2 have no usable size:
/// the field of gzip counts one member, modulo 4 GiB. With zstd and lz4, all block headers must be
/// read to know that no frame follows, so this is done only for local files, and for at most a
/// second.
pub(crate) fn decoded_size(
    compression: Compression,
    source: &dyn ByteSource,
    cancel: &CancelToken,
) -> Option<u64> {
    if !source.is_seekable() {
        return None;
    }
    match compression {
        Compression::Xz => xz::decoded_size(source, cancel),
        Compression::Zstd if source.as_file().is_some() => zstd::decoded_size(source, cancel),
        Compression::Lz4 if source.as_file().is_some() => lz4::decoded_size(source, cancel),
        _ => None,
    }
}

/// Runs the size search of every format, for fuzzing.
#[cfg(feature = "fuzzing")]
pub(crate) fn walk_sizes(source: &dyn ByteSource, cancel: &CancelToken) {
    let _ = (
        xz::decoded_size(source, cancel),
        zstd::decoded_size(source, cancel),
        lz4::decoded_size(source, cancel),
    );
}

/// Fails forever after the first error. Some decoders would otherwise continue with wrong data, or
/// never end.
struct FailOnce {
    inner: Box<dyn Read + Send>,
    has_failed: bool,
}

impl Read for FailOnce {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        if self.has_failed {
            return Err(
                Error::new(ErrorKind::Format, "cannot read on after a decoding error").into()
            );
        }
        let result = self.inner.read(buf);
        self.has_failed = result.is_err();
        result
    }
}

/// The error for damaged input, with the message of the decoder as its cause.
fn damaged(
    format: Compression,
    offset: u64,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::new(
        ErrorKind::Format,
        format!("the {} data is damaged near wire offset {offset}", format.as_str()),
    )
    .because(cause)
    .at_offset(offset)
    .hint("fetch the image again, and compare its SHA-256 with the publisher's")
}

/// The error for input that ends too early.
fn truncated(format: Compression, offset: u64) -> Error {
    Error::new(
        ErrorKind::Format,
        format!(
            "the {} data is incomplete: it ends early, near wire offset {offset}",
            format.as_str()
        ),
    )
    .at_offset(offset)
    .hint("fetch the image again, and compare its size with the publisher's")
}

/// The error for bytes that belong to no member, stream or frame.
fn trailing(format: Compression, offset: u64) -> Error {
    Error::new(
        ErrorKind::Format,
        format!("bytes after the end of the {} data at wire offset {offset}", format.as_str()),
    )
    .at_offset(offset)
    .hint("fetch the image again; if these bytes are intended, ignore them")
    .with_remedy(Remedy::IgnoreTrailing)
}

/// The error for valid data that this library does not decode.
fn refused(format: Compression, offset: u64, reason: impl Into<String>) -> Error {
    Error::new(
        ErrorKind::Format,
        format!("the {} data cannot be used: {}", format.as_str(), reason.into()),
    )
    .at_offset(offset)
}
