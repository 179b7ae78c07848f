//! Finds the index of a packed image.

use super::format::{
    HEADER_BYTES, INDEX_FRAME, SEEK_ENTRY_BYTES, SEEK_TABLE_END, SEEK_TABLE_FOOTER_BYTES,
    SEEK_TABLE_FRAME, SKIPPABLE_HEADER_BYTES,
};
use super::index::PackIndex;
use crate::extent::zeroed;
use crate::{CancelToken, Error, ErrorKind, Result, Source};

/// Bytes at the end of the file that are read first. They have the end of the seek table.
const TAIL_BYTES: u64 = 4 << 10;

/// Maximum number of skippable frames between the last frame and the seek table.
const SKIPPABLE_MAX: usize = 8;

/// Maximum size of an index in bytes: enough for 480 GiB of data in frames of 64 KiB.
const INDEX_BYTES_MAX: u64 = 1 << 30;

/// Reads the index of `source`. `None` if it is not a packed image, or if it cannot be read from
/// the middle.
///
/// Reads the end of the file and the index, and nothing else.
///
/// # Errors
/// - [`ErrorKind::Source`]: the source cannot be read.
/// - [`ErrorKind::Format`]: the index is damaged, or too large.
pub fn find_index(source: &Source, cancel: &CancelToken) -> Result<Option<PackIndex>> {
    let Some(len_bytes) = source.len_bytes().filter(|_| source.is_seekable()) else {
        return Ok(None);
    };
    let tail =
        read(source, len_bytes.saturating_sub(TAIL_BYTES), TAIL_BYTES.min(len_bytes), cancel)?;
    let Some(index) = locate(&tail, len_bytes) else { return Ok(None) };
    if index.content_bytes > INDEX_BYTES_MAX {
        let message = format!(
            "the index of {} has {} bytes, the limit is {INDEX_BYTES_MAX}",
            source.location(),
            index.content_bytes
        );
        return Err(Error::new(ErrorKind::Format, message).with_path(source.location()));
    }
    let start = index.offset + SKIPPABLE_HEADER_BYTES;
    // first the header alone: it shows whether this is an index before memory is allocated for it
    let header = read(source, index.offset, SKIPPABLE_HEADER_BYTES + HEADER_BYTES as u64, cancel)?;
    if header[..4] != INDEX_FRAME.to_le_bytes()
        || u64::from(u32_at(&header, 4)) != index.content_bytes
    {
        return Ok(None);
    }
    let parsed = PackIndex::parse(&read(source, start, index.content_bytes, cancel)?)?;
    if parsed.frames_file_bytes() != index.offset {
        let message = format!("the index of {} describes another file", source.location());
        return Err(Error::new(ErrorKind::Format, message).with_path(source.location()));
    }
    Ok(Some(parsed))
}

struct Located {
    /// Offset of the skippable frame.
    offset: u64,
    content_bytes: u64,
}

/// Finds the first skippable frame behind the data, from the `tail` of a file of `len_bytes`.
fn locate(tail: &[u8], len_bytes: u64) -> Option<Located> {
    let entry_bytes = usize::try_from(SEEK_ENTRY_BYTES).ok()?;
    let entries_end = tail.len().checked_sub(usize::try_from(SEEK_TABLE_FOOTER_BYTES).ok()?)?;
    let footer = &tail[entries_end..];
    if u32_at(footer, 5) != SEEK_TABLE_END || footer[4] != 0 {
        return None;
    }
    let content = u64::from(u32_at(footer, 0)) * SEEK_ENTRY_BYTES + SEEK_TABLE_FOOTER_BYTES;
    let mut offset = len_bytes.checked_sub(content + SKIPPABLE_HEADER_BYTES)?;
    let mut content_bytes = None;
    // the frames of zero decoded length at the end; the first of them is the index
    for entry in tail[..entries_end].rchunks_exact(entry_bytes).take(SKIPPABLE_MAX) {
        if u32_at(entry, 4) != 0 {
            break;
        }
        let frame = u64::from(u32_at(entry, 0));
        offset = offset.checked_sub(frame)?;
        content_bytes = Some(frame.checked_sub(SKIPPABLE_HEADER_BYTES)?);
    }
    let content_bytes = content_bytes.filter(|&bytes| bytes >= HEADER_BYTES as u64)?;
    Some(Located { offset, content_bytes })
}

fn read(source: &Source, offset: u64, len: u64, cancel: &CancelToken) -> Result<Vec<u8>> {
    let mut bytes = zeroed(usize::try_from(len).expect("less than 4 GiB"))?;
    if source.read_at(&mut bytes, offset, cancel)? < bytes.len() {
        let message = format!("{} ends within its index", source.location());
        return Err(Error::new(ErrorKind::Source, message).with_path(source.location()));
    }
    Ok(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

/// True if `header` begins the skippable frame with the seek table.
pub(super) fn is_seek_table_at(header: &[u8]) -> bool {
    header.starts_with(&SEEK_TABLE_FRAME.to_le_bytes())
}
