//! The beginning of the disk image in a source, which decides what the image is.

use std::io::{Cursor, Read};

use crate::decode::{self, Compression, DecodeOptions, Trailer};
use crate::extent::zeroed;
use crate::image::foreign;
use crate::image::info::{Format, ImageInfo};
use crate::image::qcow2::Qcow2;
use crate::partition_table::{self, gpt};
use crate::read_context::DECODER_BYTES;
use crate::signatures;
use crate::size::{KIB, MIB};
use crate::source::{Location, Source, read_ahead};
use crate::{CancelToken, Error, ErrorKind, Result};

/// Number of bytes at the start of the disk image that are examined first: boot sector, partition
/// table and signatures. A flash writes this part last.
pub(crate) const HEAD_BYTES: usize = MIB as usize;

/// The first [`HEAD_BYTES`] of the source, before decoding.
pub(super) fn source_head(source: &Source, cancel: &CancelToken) -> Result<Vec<u8>> {
    let mut head = zeroed(HEAD_BYTES)?;
    let n = if source.bytes.is_seekable() {
        source.bytes.read_at(&mut head, 0, cancel)?
    } else {
        let mut stream = source.bytes.stream(0, cancel)?;
        read_ahead::read_full(&mut stream, &mut head).map_err(|e| {
            Error::from_io(ErrorKind::Source, format!("reading {}", source.location()), e)
        })?
    };
    head.truncate(n);
    Ok(head)
}

/// The last bytes of a raw image, where some virtual disk formats identify themselves. Reading
/// them from a server costs a request, so a remote image is checked only if its size is that of a
/// disk with a footer.
pub(super) fn read_footer(source: &Source, cancel: &CancelToken) -> Result<Vec<u8>> {
    let mut footer = vec![0; foreign::FOOTER_BYTES];
    let at = source.len_bytes().and_then(|len| len.checked_sub(footer.len() as u64));
    let Some(at) = at.filter(|at| source.bytes.as_file().is_some() || at.is_multiple_of(4 * KIB))
    else {
        return Ok(Vec::new());
    };
    if !source.bytes.is_seekable() {
        return Ok(Vec::new());
    }
    let n = source.bytes.read_at(&mut footer, at, cancel)?;
    footer.truncate(n);
    Ok(footer)
}

/// The first [`HEAD_BYTES`] of the disk image in a compressed source, which starts with
/// `source_start`.
pub(super) fn decoded_head(
    source: &Source,
    source_start: &[u8],
    compression: Compression,
    trailer: &Trailer,
    cancel: &CancelToken,
) -> Result<Vec<u8>> {
    let name = source.location().to_string();
    let start_of = |wire: Box<dyn Read + Send>, trailer: &Trailer| {
        let options = DecodeOptions { threads: 1, memory_bytes: DECODER_BYTES };
        read_start(decode::decoder_with_trailer(compression, wire, options, trailer)?, &name)
    };
    // nearly always enough; a stream that is given up has cost what is on its way
    match start_of(Box::new(Cursor::new(source_start.to_vec())), &Trailer::default()) {
        Ok(head) if head.len() == HEAD_BYTES => Ok(head),
        _ => start_of(source.bytes.stream(0, cancel)?, trailer),
    }
}

/// The first [`HEAD_BYTES`] that a decoder delivers; `name` is what it decodes, for errors.
pub(super) fn read_start(mut decoder: Box<dyn Read + Send>, name: &str) -> Result<Vec<u8>> {
    let mut head = zeroed(HEAD_BYTES)?;
    let n = read_ahead::read_full(&mut decoder, &mut head)
        .map_err(|e| Error::from_io(ErrorKind::Format, format!("decoding {name}"), e))?;
    head.truncate(n);
    Ok(head)
}

/// The first [`HEAD_BYTES`] of the disk in a qcow2 image.
pub(super) fn qcow2_head(source: &Source, qcow2: &Qcow2, cancel: &CancelToken) -> Result<Vec<u8>> {
    let mut head = zeroed(HEAD_BYTES)?;
    let n = qcow2.read_at_guest(source, &mut head, 0, cancel)?;
    head.truncate(n);
    Ok(head)
}

/// Describes an image by the head of its disk.
pub(super) fn describe(
    source: &Source,
    format: Format,
    disk_bytes: Option<u64>,
    head: &[u8],
) -> ImageInfo {
    let sector_bytes = gpt::detect_sector_bytes(head);
    // the backup table lies beyond the head and cannot be read; an unknown size must not reject
    // partitions
    let table = partition_table::read(
        &mut partition_table::over(head),
        disk_bytes.unwrap_or(u64::MAX),
        sector_bytes.unwrap_or(512),
    );
    let is_whole = head.len() < HEAD_BYTES;
    let seen_bytes = if is_whole { head.len() as u64 } else { disk_bytes.unwrap_or(u64::MAX) };
    let content = signatures::recognize(&mut partition_table::over(head), seen_bytes);
    ImageInfo {
        source: source.location().to_string(),
        name: source.name().to_owned(),
        path: match source.location() {
            Location::File(path) => path.canonicalize().ok(),
            _ => None,
        },
        format,
        detail: None,
        source_bytes: source.len_bytes(),
        disk_bytes,
        expected_sha256: source.expected.sha256,
        expected_sha512: source.expected.sha512,
        expected_image_sha256: None,
        expected_pack_index_sha256: source.expected_pack_index,
        pack_index_sha256: None,
        sector_bytes,
        table: table.as_ref().map(|t| t.kind),
        is_recognized: table.is_some()
            || content.is_some()
            || partition_table::has_boot_sector(head),
        partitions: table.map(|t| t.partitions).unwrap_or_default(),
        content,
        erases: None,
    }
}
