//! Proof: reading a disk back and comparing it, with the hashes taken while writing or with the
//! image itself.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crossbeam_channel::{SendTimeoutError, bounded};
use serde::{Deserialize, Serialize};

use crate::disks::{Disk, DiskHost};
use crate::extent::{BUFFER_BYTES, Buffer, Extent, Pool, is_zero};
use crate::flash::FlashOptions;
use crate::flash::execute::Seen;
use crate::flash::lane::{Shared, spawn};
use crate::flash::ledger::{Entry, GRAIN_BYTES, hash};
use crate::flash::watch::{Patience, WAIT_STEP, Watch};
use crate::image::{HEAD_BYTES, Image, ImageInfo};
use crate::partition_table::gpt;
use crate::read_context::ReadContext;
use crate::size::{align_down, align_up};
use crate::{CancelToken, Digest, Error, ErrorKind, Result, threads};

/// Threads that read back: some keep the disk busy while others hash.
const READERS: usize = 4;

/// Where a disk differs first, and what is there instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Difference {
    /// Offset of the first differing byte on the disk.
    pub offset: u64,
    /// What was found there.
    pub found: Found,
}

/// What was found instead of the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Found {
    /// Zeros: the write was lost, or the range was discarded.
    Zeros,
    /// What belongs elsewhere in the image: addresses wrap around, as on disks of fake capacity.
    Elsewhere {
        /// Where it belongs.
        offset: u64,
    },
    /// What was there before: the write was lost.
    Old,
    /// Something else.
    Other,
}

/// An error, and where the disk differs if that is the reason.
pub(super) struct Mismatch {
    pub(super) error: Error,
    pub(super) difference: Option<Difference>,
}

/// Outcome of [`verify`]. Sizes and offsets are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The image.
    pub image: ImageInfo,
    /// The disk.
    pub disk: Disk,
    /// True when every byte of the image is on the disk.
    pub is_equal: bool,
    /// The first difference.
    pub first_difference: Option<Difference>,
    /// How many bytes differ.
    pub different_bytes: u64,
    /// How many bytes were compared: the size of the image, and a backup GPT behind it.
    pub compared_bytes: u64,
    /// SHA-256 of the wire bytes, when all of them were read.
    pub source_sha256: Option<Digest>,
}

impl VerifyReport {
    /// The report of a comparison that nobody made: for dry runs.
    #[must_use]
    pub fn foreseen(image: &ImageInfo, disk: &Disk, is_equal: bool) -> Self {
        let compared_bytes = image.min_disk_bytes().unwrap_or(0);
        Self {
            image: image.clone(),
            disk: disk.clone(),
            is_equal,
            first_difference: (!is_equal).then_some(Difference { offset: 0, found: Found::Other }),
            different_bytes: if is_equal { 0 } else { compared_bytes },
            compared_bytes,
            source_sha256: image.expected_sha256,
        }
    }
}

/// Compares `disk` with `image`, byte by byte, from the medium. Writes nothing, and works on a disk
/// in use.
///
/// With `fix_gpt` it expects the backup GPT at the end of the disk, as
/// [`FlashOptions::fix_gpt`](crate::flash::FlashOptions) leaves it. `observed` is called with the
/// bytes compared so far.
///
/// # Errors
/// [`ErrorKind::Refused`] when the disk is smaller than the image; errors of the image and of the
/// disk. A difference is no error.
pub fn verify(
    image: &Image,
    disk: &Disk,
    host: &dyn DiskHost,
    fix_gpt: bool,
    observed: &(dyn Fn(u64) + Sync),
    cancel: &CancelToken,
) -> Result<VerifyReport> {
    let shared = Arc::new(Shared::new(disk, host.open_read_only(disk)?, false, cancel)?);
    let patch = if fix_gpt { Patch::of(image, disk, &shared)? } else { Patch(Vec::new()) };
    let reading = ReadContext::new(8, cancel);
    let comparison = Arc::new(Comparison::new(&shared, patch));
    let mut seen = Seen::default();
    let mut digest = None;
    comparison.feed(|give| {
        let mut extents = image.extents(&reading, false)?;
        while let Some(extent) = extents.next()? {
            seen.count(&extent);
            if seen.disk_bytes > disk.size_bytes {
                let message = format!("the image is larger than {}", disk.path.display());
                return Err(
                    Error::new(ErrorKind::Refused, message).hint("is this the disk you meant?")
                );
            }
            give(extent)?;
            observed(comparison.compared.load(Ordering::Relaxed));
        }
        comparison.patch.behind(seen.disk_bytes).into_iter().try_for_each(give)?;
        let found = extents.digests();
        digest = found.wire.sha256;
        image.check_digests(&found, cancel)
    })?;
    let first = comparison.first();
    let found = first.map(|offset| Difference { offset, found: look_at(&shared, offset) });
    Ok(VerifyReport {
        image: image.info().clone(),
        disk: disk.clone(),
        is_equal: found.is_none(),
        first_difference: found,
        different_bytes: comparison.different.load(Ordering::Relaxed),
        compared_bytes: comparison.compared.load(Ordering::Relaxed),
        source_sha256: digest,
    })
}

/// The first MiB of `disk`, from the medium.
pub(crate) fn read_head(disk: &Disk, host: &dyn DiskHost) -> Result<Vec<u8>> {
    let cancel = CancelToken::new();
    let shared = Shared::new(disk, host.open_read_only(disk)?, false, &cancel)?;
    let sector = u64::from(shared.device.sector_bytes());
    let len = index(align_down(shared.device.size_bytes().min(HEAD_BYTES as u64), sector));
    let mut head = Pool::new(1).take(&cancel)?;
    shared.read(0, &mut head[..len])?;
    Ok(head[..len].to_vec())
}

/// The bytes that `--fix-gpt` changes, so that a comparison expects them.
struct Patch(Vec<(u64, Vec<u8>)>);

impl Patch {
    fn of(image: &Image, disk: &Disk, shared: &Shared) -> Result<Self> {
        let mut head = image.head().to_vec();
        let mut on_disk = |offset: u64, bytes: &mut [u8]| shared.read_bytes(offset, bytes).is_ok();
        let backup = gpt::expected_backup(
            &mut head,
            &mut on_disk,
            disk.size_bytes,
            disk.logical_sector_bytes,
        )?;
        Ok(Self(
            backup.map_or(Vec::new(), |backup| {
                vec![(0, head), (backup.backup_offset, backup.backup)]
            }),
        ))
    }

    /// What it changes behind `end`, as ranges of zeros that it changes.
    fn behind(&self, end: u64) -> Vec<Extent> {
        let ranges = self.0.iter().map(|(at, new)| (end.max(*at), at + new.len() as u64));
        ranges
            .filter(|(from, until)| from < until)
            .map(|(offset, until)| Extent::Zero { offset, len: until - offset })
            .collect()
    }

    /// `bytes` that belong at `offset`, with the changes made.
    fn apply<'a>(&self, offset: u64, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut bytes = Cow::Borrowed(bytes);
        for (at, new) in &self.0 {
            let start = offset.max(*at);
            let end = (offset + bytes.len() as u64).min(at + new.len() as u64);
            if start < end {
                let (len, to, from) =
                    (index(end - start), index(start - offset), index(start - at));
                bytes.to_mut()[to..to + len].copy_from_slice(&new[from..from + len]);
            }
        }
        bytes
    }

    fn touches(&self, offset: u64, len: u64) -> bool {
        self.0.iter().any(|(at, new)| offset < at + new.len() as u64 && *at < offset + len)
    }
}

/// Compares extents with a disk on several threads.
struct Comparison {
    shared: Arc<Shared>,
    patch: Patch,
    first: AtomicU64,
    different: AtomicU64,
    compared: AtomicU64,
}

impl Comparison {
    fn new(shared: &Arc<Shared>, patch: Patch) -> Self {
        let (first, different, compared) =
            (AtomicU64::new(u64::MAX), AtomicU64::new(0), AtomicU64::new(0));
        Self { shared: Arc::clone(shared), patch, first, different, compared }
    }

    fn first(&self) -> Option<u64> {
        Some(self.first.load(Ordering::SeqCst)).filter(|&at| at != u64::MAX)
    }

    /// Runs `source`, and compares every extent that it gives. The threads that read are not
    /// joined: the disk may hang.
    fn feed(
        self: &Arc<Self>,
        source: impl FnOnce(&mut dyn FnMut(Extent) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let (orders, inbox) = bounded::<Extent>(16);
        let (alive, running) = bounded(0);
        threads::start_some(READERS, || {
            let (this, inbox) = (Arc::clone(self), inbox.clone());
            spawn("bty-reader", &self.shared, &alive, move |_| {
                inbox.iter().for_each(|extent| this.carry_out(&extent));
            })
        })?;
        drop((inbox, alive));
        let mut watch =
            Watch::new(&self.shared, FlashOptions::default().stall_ms, &Patience::default());
        let result = source(&mut |mut extent| {
            loop {
                extent = match orders.send_timeout(extent, WAIT_STEP) {
                    Ok(()) => return Ok(()),
                    Err(SendTimeoutError::Timeout(extent)) => extent,
                    Err(SendTimeoutError::Disconnected(_)) => return Err(self.stopped()),
                };
                self.shared.cancel.check()?;
                watch.check()?;
            }
        });
        drop(orders);
        let waited = watch.wait(&running);
        result.and(waited)?;
        self.shared.take_failure().map_or(Ok(()), Err)
    }

    fn stopped(&self) -> Error {
        Error::new(ErrorKind::Target, format!("reading {} stopped", self.shared.name))
    }

    fn carry_out(&self, extent: &Extent) {
        if !self.shared.has_failed()
            && let Err(error) = self.compare(extent)
        {
            self.shared.fail(error);
        }
    }

    fn compare(&self, extent: &Extent) -> Result<()> {
        let mut buffer = Pool::new(1).take(&self.shared.cancel)?;
        let (start, len) = match extent {
            Extent::Data { offset, block } => (*offset, block.len() as u64),
            Extent::Zero { offset, len } => (*offset, *len),
        };
        for (offset, len) in pieces(start, len) {
            let found = read_span(&self.shared, offset, len, &mut buffer)?;
            match extent {
                Extent::Data { block, .. } => {
                    let from = index(offset - start);
                    self.note(offset, &self.patch.apply(offset, &block[from..from + len]), found);
                }
                Extent::Zero { .. } if self.patch.touches(offset, len as u64) => {
                    self.note(offset, &self.patch.apply(offset, &vec![0; len]), found);
                }
                Extent::Zero { .. } if is_zero(found) => {}
                Extent::Zero { .. } => self.note(offset, &vec![0; len], found),
            }
            self.compared.fetch_add(len as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn note(&self, offset: u64, expected: &[u8], found: &[u8]) {
        if expected == found {
            return;
        }
        let mut differing = expected
            .iter()
            .zip(found)
            .enumerate()
            .filter(|(_, (a, b))| a != b)
            .map(|(i, _)| i as u64);
        if let Some(first) = differing.next() {
            self.first.fetch_min(offset + first, Ordering::SeqCst);
            self.different.fetch_add(1 + differing.count() as u64, Ordering::Relaxed);
        }
    }
}

/// Cuts a range into pieces that fit a buffer even when both ends are unaligned.
fn pieces(mut offset: u64, mut len: u64) -> impl Iterator<Item = (u64, usize)> {
    const PIECE: u64 = (BUFFER_BYTES - GRAIN_BYTES) as u64;
    std::iter::from_fn(move || {
        let part = len.min(PIECE);
        let piece = (part > 0).then_some((offset, index(part)));
        offset += part;
        len -= part;
        piece
    })
}

/// Reads a range at any offset; `len` is a piece's.
fn read_span<'b>(
    shared: &Shared,
    offset: u64,
    len: usize,
    buffer: &'b mut Buffer,
) -> Result<&'b [u8]> {
    let sector = u64::from(shared.device.sector_bytes());
    let from = align_down(offset, sector);
    let until = align_up(offset + len as u64, sector);
    shared.read(from, &mut buffer[..index(until - from)])?;
    let skip = index(offset - from);
    Ok(&buffer[skip..skip + len])
}

/// Reads everything in `entries` back from the medium and compares it with the hashes taken while
/// writing.
pub(super) fn check_body(
    shared: &Shared,
    entries: &[Entry],
    image: &Image,
) -> Result<(), Mismatch> {
    let total: u64 = entries.iter().map(|e| e.len).sum();
    shared.verify_total.store(total + HEAD_BYTES as u64, Ordering::SeqCst);
    let work = Mutex::new(
        entries.iter().flat_map(|e| pieces(e.offset, e.len).map(move |(at, len)| (e, at, len))),
    );
    let next = || work.lock().expect("nobody panics holding it").next();
    let first = AtomicU64::new(u64::MAX);
    let check = || {
        if let Err(error) = check_pieces(shared, &next, &first) {
            shared.fail(error);
        }
    };
    thread::scope(|scope| {
        threads::start_some(READERS, || threads::start_in(scope, "bty-reader", check).map(drop))
    })?;
    if let Some(error) = shared.take_failure() {
        return Err(error.into());
    }
    match first.into_inner() {
        u64::MAX => Ok(()),
        grain => Err(explain(shared, entries, grain, image)),
    }
}

type Piece<'a> = (&'a Entry, u64, usize);

fn check_pieces<'a>(
    shared: &Shared,
    next: &dyn Fn() -> Option<Piece<'a>>,
    first: &AtomicU64,
) -> Result<()> {
    let mut buffer = Pool::new(1).take(&shared.cancel)?;
    // pieces come in the order of their offsets: after a difference, only those already taken may
    // hold an earlier one
    while first.load(Ordering::SeqCst) == u64::MAX
        && !shared.has_failed()
        && let Some((entry, offset, len)) = next()
    {
        let found = read_span(shared, offset, len, &mut buffer)?;
        if let Some(at) = first_bad_grain(entry, offset, found) {
            first.fetch_min(at, Ordering::SeqCst);
        } else {
            shared.verified_bytes.fetch_add(len as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// The offset of the first grain of `found`, read at `offset` inside `entry`, that is not what was
/// written.
fn first_bad_grain(entry: &Entry, offset: u64, found: &[u8]) -> Option<u64> {
    let Some(hashes) = &entry.hashes else {
        return (!is_zero(found))
            .then(|| offset + found.iter().position(|&b| b != 0).unwrap_or(0) as u64);
    };
    let start = index(offset - entry.offset) / GRAIN_BYTES;
    let mut grains = found.chunks(GRAIN_BYTES).zip(&hashes[start..]).enumerate();
    grains
        .find(|(_, (bytes, expected))| hash(bytes) != **expected)
        .map(|(i, _)| offset + (i * GRAIN_BYTES) as u64)
}

/// Finds out exactly where a disk differs from what was written in the grain at `grain`, and what
/// is there.
fn explain(shared: &Shared, entries: &[Entry], grain: u64, image: &Image) -> Mismatch {
    let entry = entries
        .iter()
        .find(|e| e.offset <= grain && grain < e.offset + e.len && e.hashes.is_some());
    let end = entry.map(|e| (e.offset + e.len).min(grain + GRAIN_BYTES as u64));
    // where zeros should be, the offset is exact already
    let offset = end.and_then(|end| locate(shared, grain..end, image)).unwrap_or(grain);
    let found = match look_at(shared, offset) {
        Found::Other if shared.remembers_old(offset) || any_old(shared, entries) => Found::Old,
        Found::Other => elsewhere(shared, offset, image).unwrap_or(Found::Other),
        zeros => zeros,
    };
    mismatch(shared, Difference { offset, found })
}

/// The first differing byte in `range`, by reading the image once more. `None` when that cannot be
/// done.
fn locate(shared: &Shared, range: Range<u64>, image: &Image) -> Option<u64> {
    let reading = ReadContext::new(4, &shared.cancel);
    let mut extents = image.extents(&reading, false).ok()?;
    let mut buffer = Pool::new(1).take(&shared.cancel).ok()?;
    while let Ok(Some(extent)) = extents.next() {
        let Extent::Data { offset, block } = extent else { continue };
        let (from, until) = (offset.max(range.start), (offset + block.len() as u64).min(range.end));
        if from < until {
            let found = read_span(shared, from, index(until - from), &mut buffer).ok()?;
            let expected = &block[index(from - offset)..index(until - offset)];
            if let Some(at) = expected.iter().zip(found).position(|(a, b)| a != b) {
                return Some(from + at as u64);
            }
        }
    }
    None
}

/// What is on the disk at `offset`.
fn look_at(shared: &Shared, offset: u64) -> Found {
    let left = shared.device.size_bytes().saturating_sub(offset);
    let zero = Pool::new(1).take(&shared.cancel).ok().and_then(|mut buffer| {
        let found = read_span(shared, offset, index(left.min(512)), &mut buffer).ok()?;
        Some(is_zero(found))
    });
    if zero == Some(true) { Found::Zeros } else { Found::Other }
}

/// The place where the sector found at `offset` belongs, by reading the image once more.
fn elsewhere(shared: &Shared, offset: u64, image: &Image) -> Option<Found> {
    let sector = u64::from(shared.device.sector_bytes());
    let mut buffer = Pool::new(1).take(&shared.cancel).ok()?;
    let found = read_span(shared, align_down(offset, sector), index(sector), &mut buffer).ok()?;
    let reading = ReadContext::new(4, &shared.cancel);
    let mut extents = image.extents(&reading, false).ok()?;
    while let Ok(Some(extent)) = extents.next() {
        let Extent::Data { offset, block } = extent else { continue };
        if let Some(i) = block.chunks_exact(index(sector)).position(|bytes| bytes == found) {
            return Some(Found::Elsewhere { offset: offset + i as u64 * sector });
        }
    }
    None
}

/// True when a sample of the old content is still there inside a grain that should hold other data.
fn any_old(shared: &Shared, entries: &[Entry]) -> bool {
    let Ok(mut buffer) = Pool::new(1).take(&shared.cancel) else { return false };
    shared.old_offsets().into_iter().filter(|&at| shared.remembers_old(at)).any(|at| {
        let Some(entry) = entries.iter().find(|e| e.offset <= at && at < e.offset + e.len) else {
            return false;
        };
        let start = at - (at - entry.offset) % GRAIN_BYTES as u64;
        let len = index((entry.offset + entry.len - start).min(GRAIN_BYTES as u64));
        let found = read_span(shared, start, len, &mut buffer);
        found.is_ok_and(|found| first_bad_grain(entry, start, found).is_some())
    })
}

/// The mismatch for bytes that read back other than they were written.
pub(super) fn differs(shared: &Shared, offset: u64, written: &[u8], found: &[u8]) -> Mismatch {
    let at = written.iter().zip(found).position(|(a, b)| a != b).unwrap_or(0) as u64;
    let found = if is_zero(&found[index(at)..]) { Found::Zeros } else { Found::Other };
    mismatch(shared, Difference { offset: offset + at, found })
}

fn mismatch(shared: &Shared, difference: Difference) -> Mismatch {
    let what = match &difference.found {
        Found::Zeros => "zeros are there instead of the image: the write was lost".into(),
        Found::Old => "the old content is still there: the write was lost".into(),
        Found::Elsewhere { offset } => {
            format!(
                "what belongs at offset {offset} is there: the disk has less room than it claims"
            )
        }
        Found::Other => "something else is there".into(),
    };
    let message =
        format!("{} differs from the image at offset {}: {what}", shared.name, difference.offset);
    let error = Error::new(ErrorKind::Integrity, message).with_path(&shared.name).at_offset(difference.offset).hint(
        if shared.is_file {
            "the file is no disk that boots now; look at dmesg, and at the disk and the file system that hold it"
        } else {
            "the disk does not boot now; try another cable, port or disk, and do not trust this one"
        },
    );
    Mismatch { error, difference: Some(difference) }
}

/// A length within one buffer as an index.
#[allow(clippy::cast_possible_truncation)] // lengths here never exceed a buffer in memory
fn index(bytes: u64) -> usize {
    bytes as usize
}
