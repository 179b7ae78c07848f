//! The proof after writing: everything but the first MiB is read back from the medium, and compared
//! with the hashes of the ledger.
//!
//! A hash shows in which grain a target differs, but not where in it. Only after a difference is
//! the image read again, to find the exact offset and what the target holds there.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::extent::{Extent, Pool, is_zero};
use crate::flash::device_io::index;
use crate::flash::ledger::{Expected, LedgerEntry};
use crate::flash::readback::{READERS, found_at, pieces, read_piece};
use crate::flash::target::TargetState;
use crate::flash::{Difference, Found};
use crate::image::{HEAD_BYTES, Image};
use crate::read_context::ReadContext;
use crate::size::align_down;
use crate::{Error, ErrorKind, Result, threads};

/// Why a target failed, and where it differs from the image if that is the reason.
pub(super) struct Mismatch {
    pub(super) error: Error,
    pub(super) difference: Option<Difference>,
}

impl From<Error> for Mismatch {
    fn from(error: Error) -> Self {
        Self { error, difference: None }
    }
}

/// Reads every range in `entries`, which are sorted, back from the medium, and compares it with the
/// hashes taken while writing.
///
/// # Errors
/// A [`Mismatch`] with the first difference; without one if the target cannot be read, or the flash
/// was cancelled.
pub(super) fn check_body(
    target: &TargetState,
    entries: &[LedgerEntry],
    image: &Image,
) -> Result<(), Mismatch> {
    let total: u64 = entries.iter().map(|e| e.len).sum();
    // the first MiB is verified later, but counts toward the total
    target.counters.verify_total.store(total + HEAD_BYTES as u64, Ordering::SeqCst);
    let work =
        Mutex::new(entries.iter().flat_map(|e| {
            pieces(e.offset, e.len, e.grain_bytes()).map(move |(at, len)| (e, at, len))
        }));
    let next = || work.lock().expect("nobody panics holding it").next();
    let first = AtomicU64::new(u64::MAX);
    let check = || {
        if let Err(error) = check_pieces(target, &next, &first) {
            target.fail(error);
        }
    };
    thread::scope(|scope| {
        threads::start_some(READERS, || threads::start_in(scope, "bty-reader", check).map(drop))
    })?;
    if let Some(error) = target.take_failure() {
        return Err(error.into());
    }
    match first.into_inner() {
        u64::MAX => Ok(()),
        grain => Err(explain(target, entries, grain, image)),
    }
}

/// A range inside an entry: offset on the disk, and length.
type EntryPiece<'a> = (&'a LedgerEntry, u64, usize);

/// Checks pieces until there are no more, or a difference is found. `first` becomes the lowest
/// offset of a grain that differs.
fn check_pieces<'a>(
    target: &TargetState,
    next: &dyn Fn() -> Option<EntryPiece<'a>>,
    first: &AtomicU64,
) -> Result<()> {
    let mut buffer = Pool::new(1).take(&target.io.cancel)?;
    // Pieces are taken in the order of their offsets. So after a difference only pieces that other
    // threads have already taken can hold an earlier one, and those are still checked.
    while first.load(Ordering::SeqCst) == u64::MAX
        && !target.has_failed()
        && let Some((entry, offset, len)) = next()
    {
        let found = read_piece(&target.io, offset, len, &mut buffer)?;
        if let Some(at) = first_bad_grain(entry, offset, found) {
            first.fetch_min(at, Ordering::SeqCst);
        } else {
            target.counters.verified_bytes.fetch_add(len as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// The offset of the first grain of `found`, read at `offset` inside `entry`, that is not what was
/// written. Among zeros it is the offset of the first byte that differs.
fn first_bad_grain(entry: &LedgerEntry, offset: u64, found: &[u8]) -> Option<u64> {
    if entry.expected == Expected::Zeros {
        return (!is_zero(found))
            .then(|| offset + found.iter().position(|&b| b != 0).unwrap_or(0) as u64);
    }
    let grain_bytes = entry.grain_bytes();
    let start = index(offset - entry.offset) / grain_bytes;
    let mut grains = found.chunks(grain_bytes).enumerate();
    grains
        .find(|(i, bytes)| !entry.is_right(start + i, bytes))
        .map(|(i, _)| offset + (i * grain_bytes) as u64)
}

/// Finds the first byte in the grain at `grain` that differs from what was written, and what is
/// there instead.
fn explain(target: &TargetState, entries: &[LedgerEntry], grain: u64, image: &Image) -> Mismatch {
    let entry = entries
        .iter()
        .find(|e| e.offset <= grain && grain < e.offset + e.len && e.expected != Expected::Zeros);
    let end = entry.map(|e| (e.offset + e.len).min(grain + e.grain_bytes() as u64));
    // where zeros should be, the offset is exact already
    let offset = end.and_then(|end| locate(target, grain..end, image)).unwrap_or(grain);
    let found = match found_at(&target.io, offset) {
        Found::Other if target.still_holds_sample(offset) || holds_old_grain(target, entries) => {
            Found::Old
        }
        Found::Other => find_elsewhere(target, offset, image).unwrap_or(Found::Other),
        zeros => zeros,
    };
    mismatch(target, Difference { offset, found })
}

/// Reads the image again to find the first byte in `range` that differs. `None` when that is not
/// possible.
fn locate(target: &TargetState, range: Range<u64>, image: &Image) -> Option<u64> {
    let reading = ReadContext::new(4, &target.io.cancel);
    let mut extents = image.extents(&reading, false).ok()?;
    let mut buffer = Pool::new(1).take(&target.io.cancel).ok()?;
    while let Ok(Some(extent)) = extents.next() {
        let Extent::Data { offset, block } = extent else { continue };
        let (from, until) = (offset.max(range.start), (offset + block.len() as u64).min(range.end));
        if from < until {
            let found = read_piece(&target.io, from, index(until - from), &mut buffer).ok()?;
            let expected = &block[index(from - offset)..index(until - offset)];
            if let Some(at) = expected.iter().zip(found).position(|(a, b)| a != b) {
                return Some(from + at as u64);
            }
        }
    }
    None
}

/// Reads the image again to find where the sector found at `offset` belongs.
fn find_elsewhere(target: &TargetState, offset: u64, image: &Image) -> Option<Found> {
    let sector = target.io.sector();
    let mut buffer = Pool::new(1).take(&target.io.cancel).ok()?;
    let start = align_down(offset, sector);
    let found = read_piece(&target.io, start, index(sector), &mut buffer).ok()?;
    let reading = ReadContext::new(4, &target.io.cancel);
    let mut extents = image.extents(&reading, false).ok()?;
    while let Ok(Some(extent)) = extents.next() {
        let Extent::Data { offset, block } = extent else { continue };
        if let Some(i) = block.chunks_exact(index(sector)).position(|bytes| bytes == found) {
            return Some(Found::Elsewhere { offset: offset + i as u64 * sector });
        }
    }
    None
}

/// True when a sample of the old content is still there, in a grain that should hold other data.
fn holds_old_grain(target: &TargetState, entries: &[LedgerEntry]) -> bool {
    let Ok(mut buffer) = Pool::new(1).take(&target.io.cancel) else { return false };
    let mut unchanged =
        target.sample_offsets().into_iter().filter(|&at| target.still_holds_sample(at));
    unchanged.any(|at| {
        let Some(entry) = entries.iter().find(|e| e.offset <= at && at < e.offset + e.len) else {
            return false;
        };
        let grain_bytes = entry.grain_bytes() as u64;
        let start = at - (at - entry.offset) % grain_bytes;
        let len = index((entry.offset + entry.len - start).min(grain_bytes));
        let found = read_piece(&target.io, start, len, &mut buffer);
        found.is_ok_and(|found| first_bad_grain(entry, start, found).is_some())
    })
}

/// The mismatch for bytes at `offset` that were read back different from what was written.
pub(super) fn differs(target: &TargetState, offset: u64, written: &[u8], found: &[u8]) -> Mismatch {
    let at = written.iter().zip(found).position(|(a, b)| a != b).unwrap_or(0) as u64;
    let found = if is_zero(&found[index(at)..]) { Found::Zeros } else { Found::Other };
    mismatch(target, Difference { offset: offset + at, found })
}

fn mismatch(target: &TargetState, difference: Difference) -> Mismatch {
    let what = match &difference.found {
        Found::Zeros => "zeros are there instead of the image: the write was lost".into(),
        Found::Old => "the old content is still there: the write was lost".into(),
        Found::Elsewhere { offset } => format!(
            "what belongs at offset {offset} is there: the disk has less room than it claims"
        ),
        Found::Other => "something else is there".into(),
    };
    let (name, offset) = (target.name(), difference.offset);
    let hint = if target.io.is_file {
        "the file does not boot now; look at dmesg, and at the disk and the file system \
         that hold it"
    } else {
        "the disk does not boot now; try another cable, port or disk, and do not trust this one"
    };
    let message = format!("{name} differs from the image at offset {offset}: {what}");
    let error =
        Error::new(ErrorKind::Integrity, message).with_path(name).at_offset(offset).hint(hint);
    Mismatch { error, difference: Some(difference) }
}
