//! Reads the old content of a disk, on several threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::layout::{Layout, ScanPart, pieces, region_bytes};
use super::matches::{Findings, WantedHashes};
use crate::extent::Pool;
use crate::flash::device_io::index as in_buffer;
use crate::flash::readback::READERS;
use crate::flash::target::TargetState;
use crate::pack::PackIndex;
use crate::size::align_up;
use crate::{Result, threads};

/// After so many pieces that cannot be read, the rest of the disk is not tried: a broken disk can
/// take half a minute for each.
const UNREADABLE_MAX: usize = 8;

/// Reads a part of `target`, and adds to `findings` where it holds the blocks of the image. What
/// cannot be read counts as not there.
///
/// # Errors
/// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled), or the system has no memory or thread.
pub(super) fn scan(
    target: &TargetState,
    index: &PackIndex,
    wanted: &WantedHashes,
    layout: Layout,
    part: ScanPart,
    findings: &Findings,
) -> Result<()> {
    let counters = &target.counters;
    counters.scan_total.fetch_add(region_bytes(index, layout, part), Ordering::SeqCst);
    let work = Mutex::new(pieces(index, layout, part));
    let unreadable = AtomicUsize::new(0);
    let read = || -> Result<()> {
        let mut buffer = Pool::new(1).take(&target.io.cancel)?;
        loop {
            let next = work.lock().expect("nobody panics holding it").next();
            let Some(piece) = next else { return Ok(()) };
            if unreadable.load(Ordering::Relaxed) >= UNREADABLE_MAX {
                return Ok(());
            }
            // the image may end inside a sector, and the disk goes on
            let len = in_buffer(align_up(piece.len as u64, target.io.sector()));
            if target.io.read(piece.offset, &mut buffer[..len]).is_ok() {
                findings.add(index, wanted, &piece, &buffer[..piece.len]);
            } else {
                target.io.cancel.check()?;
                unreadable.fetch_add(1, Ordering::Relaxed);
            }
            counters.scanned_bytes.fetch_add(piece.len as u64, Ordering::Relaxed);
        }
    };
    let failure = Mutex::new(None);
    thread::scope(|scope| {
        let failure = &failure;
        let work = || {
            if let Err(error) = read() {
                failure.lock().expect("nobody panics holding it").get_or_insert(error);
            }
        };
        threads::start_some(READERS, || threads::start_in(scope, "bty-scan", work).map(drop))
    })?;
    failure.into_inner().expect("nobody panics holding it").map_or(Ok(()), Err)
}
