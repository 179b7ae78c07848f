//! Finds the index of a packed image: the end of the file says where it is.
//!
//! Everything here is foreign until the digest of the index was compared with a promised one, so
//! nothing is allocated that the file has not delivered, and the seek table must agree with the
//! index.

use std::ops::Range;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};

use super::format::{
    HEADER_BYTES, INDEX_FRAME, MAGIC, SEEK_ENTRY_BYTES, SEEK_TABLE_END, SEEK_TABLE_FOOTER_BYTES,
    SEEK_TABLE_FRAME, SKIPPABLE_HEADER_BYTES,
};
use super::index::{IndexHeader, PackIndex};
use crate::source::RangeRead;
use crate::{CancelToken, Error, ErrorKind, Result, Source, threads};

/// Bytes at the end of the file that are read first: as long as another request takes. They have
/// all of a small index.
const TAIL_BYTES: u64 = 128 << 10;

/// How long the end of the file may take to arrive. A cache that still fetches the file can take
/// minutes, and a file that is not packed can be read from its start meanwhile.
const TAIL_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of skippable frames between the last frame and the seek table.
const SKIPPABLE_MAX: usize = 8;

/// Maximum length of another skippable frame, such as one with a signature, in bytes.
const SKIPPABLE_BYTES_MAX: u32 = 1 << 20;

/// Maximum size of an index in bytes: enough for 400 GiB of data in frames of 64 KiB.
const INDEX_BYTES_MAX: u64 = 1 << 30;

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// The skippable header and the index header.
const HEADERS_BYTES: usize = SKIPPABLE_HEADER_BYTES as usize + HEADER_BYTES;

/// Reads the index of `source`. `None` if it is not a packed image, if it cannot be read from the
/// middle, or if its end does not arrive within 5 seconds.
///
/// Reads the end of the file and the index, and nothing else.
///
/// # Errors
/// - [`ErrorKind::Source`]: the source cannot be read.
/// - [`ErrorKind::Format`]: the index is damaged, too large, or contradicted by the rest of the
///   file.
pub fn find_index(source: &Source, cancel: &CancelToken) -> Result<Option<PackIndex>> {
    search_index(source, cancel).map(|found| match found {
        IndexSearch::Packed(index) => Some(index),
        IndexSearch::Plain | IndexSearch::NoRanges | IndexSearch::Late => None,
    })
}

/// What was found at the end of a file.
pub(crate) enum IndexSearch {
    Packed(PackIndex),
    Plain,
    /// The source can be read only from its start.
    NoRanges,
    /// The end did not arrive in time.
    Late,
}

/// Like [`find_index`], but tells apart why there is no index. Waits longer for a promised one.
pub(crate) fn search_index(source: &Source, cancel: &CancelToken) -> Result<IndexSearch> {
    // the source itself ends the wait when nothing arrives
    let limit = source.expected_pack_index.map_or(TAIL_TIMEOUT, |_| Duration::MAX);
    search_within(source, limit, cancel)
}

fn search_within(source: &Source, limit: Duration, cancel: &CancelToken) -> Result<IndexSearch> {
    let Some(len_bytes) = source.len_bytes().filter(|_| source.is_seekable()) else {
        return Ok(IndexSearch::NoRanges);
    };
    let tail_start = len_bytes.saturating_sub(TAIL_BYTES);
    let tail = match read_tail(source, tail_start..len_bytes, limit, cancel)? {
        Some(PartRead::Bytes(tail)) => tail,
        Some(PartRead::Stopped) => return Ok(IndexSearch::Plain),
        Some(PartRead::NoRanges) => return Ok(IndexSearch::NoRanges),
        None => return Ok(IndexSearch::Late),
    };
    let Some(located) = Located::in_tail(&tail, len_bytes) else { return Ok(IndexSearch::Plain) };
    let in_tail = located.offset.checked_sub(tail_start).and_then(|at| usize::try_from(at).ok());
    let end = match in_tail {
        Some(at) => tail[at..].to_vec(),
        None => {
            let rest = located.offset..tail_start;
            match read_part(source, rest, &|start| located.check_start(start), cancel)? {
                PartRead::Bytes(rest) => [rest, tail].concat(),
                PartRead::Stopped => return Ok(IndexSearch::Plain),
                PartRead::NoRanges => return Ok(IndexSearch::NoRanges),
            }
        }
    };
    if !located.is_index(&end) {
        return Ok(IndexSearch::Plain);
    }
    let parsed = located.parse(&end).map_err(|e| {
        e.context(format!("reading the index of {}", source.location()))
            .with_path(source.location())
    });
    parsed.map(IndexSearch::Packed)
}

/// The skippable frames at the end of a file, as its seek table describes them.
struct Located {
    /// Offset of the first one.
    offset: u64,
    /// Lengths of all but the seek table, headers included.
    lengths: Vec<u32>,
    /// Number of entries of the seek table.
    entries: u32,
}

impl Located {
    /// Finds the skippable frames from the `tail` of a file of `len_bytes`. `None` if it has no
    /// seek table, or no skippable frame besides.
    fn in_tail(tail: &[u8], len_bytes: u64) -> Option<Self> {
        let entries_end = tail.len().checked_sub(usize::try_from(SEEK_TABLE_FOOTER_BYTES).ok()?)?;
        let footer = &tail[entries_end..];
        if u32_at(footer, 5) != SEEK_TABLE_END || footer[4] != 0 {
            return None;
        }
        let entries = u32_at(footer, 0);
        let mut offset =
            len_bytes.checked_sub(seek_table_bytes(entries) + SKIPPABLE_HEADER_BYTES)?;
        let mut lengths = Vec::new();
        let last = tail[..entries_end].rchunks_exact(usize::try_from(SEEK_ENTRY_BYTES).ok()?);
        // the frames without decoded bytes at the end; the first of them is the index
        for entry in last.take(SKIPPABLE_MAX.min(entries as usize)) {
            if u32_at(entry, 4) != 0 {
                break;
            }
            lengths.insert(0, u32_at(entry, 0));
            offset = offset.checked_sub(u64::from(lengths[0]))?;
        }
        (!lengths.is_empty()).then_some(Self { offset, lengths, entries })
    }

    /// Length of the index, if the first skippable frame is one.
    fn index_bytes(&self) -> Option<u64> {
        u64::from(self.lengths[0]).checked_sub(SKIPPABLE_HEADER_BYTES)
    }

    /// True if `end`, which starts with the first skippable frame, starts with an index.
    fn is_index(&self, end: &[u8]) -> bool {
        end.len() >= HEADERS_BYTES
            && u32_at(end, 0) == INDEX_FRAME
            && Some(u64::from(u32_at(end, 4))) == self.index_bytes()
            && end[8..].starts_with(MAGIC)
    }

    /// False if `start`, the beginning of the first skippable frame, shows that it is no index. An
    /// error if it is one that is not possible.
    fn check_start(&self, start: &[u8]) -> Result<bool> {
        if !self.is_index(start) {
            return Ok(false);
        }
        let index_bytes = self.index_bytes().unwrap_or_default();
        if index_bytes > INDEX_BYTES_MAX {
            let message =
                format!("the index has {index_bytes} bytes, the limit is {INDEX_BYTES_MAX}");
            return Err(Error::new(ErrorKind::Format, message).hint("pack it with larger frames"));
        }
        let header = IndexHeader::parse(&start[8..HEADERS_BYTES], index_bytes)?;
        if header.frames_file_bytes != self.offset {
            return Err(contradiction("the index describes another file"));
        }
        // both bound what is read besides the index
        if self.entries as usize != header.frames + self.lengths.len() {
            return Err(contradiction(
                "the seek table has another number of frames than the index",
            ));
        }
        if self.lengths[1..].iter().any(|&length| length > SKIPPABLE_BYTES_MAX) {
            return Err(contradiction("a frame after the index is too large"));
        }
        Ok(true)
    }

    /// Parses `end`: the index, other skippable frames, and the seek table.
    fn parse(&self, end: &[u8]) -> Result<PackIndex> {
        self.check_start(end)?;
        let mut rest = end;
        for (number, &length) in self.lengths.iter().enumerate() {
            let frame = rest.split_off(..length as usize);
            let frame = frame.filter(|frame| is_skippable(frame)).ok_or_else(|| {
                contradiction("the seek table names frames that the file does not have")
            })?;
            // one index and one seek table, so that all readers see the same image
            if number > 0 && matches!(u32_at(frame, 0), INDEX_FRAME | SEEK_TABLE_FRAME) {
                return Err(contradiction("the file has two indexes, or two seek tables"));
            }
        }
        let index = PackIndex::parse(&end[8..self.lengths[0] as usize])?;
        self.check_seek_table(rest, &index)?;
        Ok(index)
    }

    /// Compares the seek table, by which other programs find frames, with the index.
    fn check_seek_table(&self, table: &[u8], index: &PackIndex) -> Result<()> {
        let frames = index.frames().iter().map(|frame| (frame.file_bytes, frame.disk_bytes));
        let expected = frames.chain(self.lengths.iter().map(|&length| (length, 0)));
        let header = usize::try_from(SKIPPABLE_HEADER_BYTES).expect("8");
        let is_equal = is_skippable(table)
            && u32_at(table, 0) == SEEK_TABLE_FRAME
            && table.len() as u64 == SKIPPABLE_HEADER_BYTES + seek_table_bytes(self.entries)
            && table[header..]
                .chunks_exact(usize::try_from(SEEK_ENTRY_BYTES).expect("8"))
                .map(|entry| (u32_at(entry, 0), u32_at(entry, 4)))
                .zip(expected)
                .all(|(found, expected)| found == expected);
        is_equal.then_some(()).ok_or_else(|| contradiction("the seek table differs from the index"))
    }
}

/// Content of the skippable frame of a seek table, in bytes.
fn seek_table_bytes(entries: u32) -> u64 {
    u64::from(entries) * SEEK_ENTRY_BYTES + SEEK_TABLE_FOOTER_BYTES
}

/// True if `frame` is one whole skippable frame.
fn is_skippable(frame: &[u8]) -> bool {
    frame.len() as u64 >= SKIPPABLE_HEADER_BYTES
        && u32_at(frame, 0) & !0xf == 0x184d_2a50
        && u64::from(u32_at(frame, 4)) + SKIPPABLE_HEADER_BYTES == frame.len() as u64
}

fn contradiction(how: &str) -> Error {
    Error::new(ErrorKind::Format, how).hint("fetch or pack the image again")
}

/// Reads the end of the file. `None` if it does not arrive within `limit`.
fn read_tail(
    source: &Source,
    range: Range<u64>,
    limit: Duration,
    cancel: &CancelToken,
) -> Result<Option<PartRead>> {
    let (reading, source) = (cancel.child(), source.clone());
    // a reader that still runs ends when this returns
    let _stop = reading.cancel_on_drop();
    let (reply, tail) = bounded(1);
    let token = reading.clone();
    threads::start("bty-index", move || {
        let _ = reply.send(read_part(&source, range, &|_| Ok(true), &token));
    })?;
    let started = Instant::now();
    loop {
        cancel.check()?;
        match tail.recv_timeout(Duration::from_millis(100)) {
            Ok(tail) => return tail.map(Some),
            Err(RecvTimeoutError::Timeout) if started.elapsed() < limit => {}
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::new(ErrorKind::Host, "a thread ended unexpectedly"));
            }
        }
    }
}

/// What [`read_part`] has read.
enum PartRead {
    Bytes(Vec<u8>),
    /// Its start is not what was looked for.
    Stopped,
    /// The server sends the whole file instead.
    NoRanges,
}

/// Reads `range` of the file, unless `check` is false for its start.
fn read_part(
    source: &Source,
    range: Range<u64>,
    check: &dyn Fn(&[u8]) -> Result<bool>,
    cancel: &CancelToken,
) -> Result<PartRead> {
    let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let mut reader = source.bytes.range(range, cancel)?;
    let mut bytes = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES.min(len)];
    let mut is_checked = len < HEADERS_BYTES;
    while bytes.len() < len {
        let wanted = chunk.len().min(len - bytes.len());
        match reader.read(&mut chunk[..wanted])? {
            RangeRead::FromStart => return Ok(PartRead::NoRanges),
            RangeRead::Bytes(0) => {
                let message = format!("{} ends within its index", source.location());
                return Err(Error::new(ErrorKind::Source, message).with_path(source.location()));
            }
            RangeRead::Bytes(n) => append(&mut bytes, &chunk[..n])?,
        }
        if !is_checked && bytes.len() >= HEADERS_BYTES {
            is_checked = true;
            if !check(&bytes)? {
                return Ok(PartRead::Stopped);
            }
        }
    }
    // to its end, so that the connection serves the next request
    let _ = reader.read(&mut [0]);
    Ok(PartRead::Bytes(bytes))
}

/// Appends `more`; memory grows only with what has arrived.
fn append(bytes: &mut Vec<u8>, more: &[u8]) -> Result<()> {
    bytes.try_reserve(more.len()).map_err(|e| {
        Error::new(ErrorKind::Host, "allocating memory for the index of a packed image")
            .because(e)
            .hint("allow more memory (ulimit -v, the limit of the container), then try again")
    })?;
    bytes.extend_from_slice(more);
    Ok(())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

#[cfg(test)]
mod tests;
