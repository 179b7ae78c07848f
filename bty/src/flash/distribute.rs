//! Sends the extents of one pass over the image to the writers, cut to the size of each disk, and
//! decides when a slow writer is left behind.

use std::ops::Range;
use std::time::Duration;

use crate::extent::Extent;
use crate::extent::first_data;
use crate::flash::writer::TargetWriter;
use crate::size::human;
use crate::{Error, ErrorKind, Result};

/// Total time that the reader waits for one writer before that writer may be left behind.
const SLOWNESS: Duration = Duration::from_secs(2);

/// Settings shared by all writers of one pass over the image.
pub(super) struct Distribution {
    /// The image can be read again, so a slow writer may be left behind.
    pub(super) can_read_again: bool,
    pub(super) overflow: Overflow,
}

/// How to treat extents beyond the end of a disk.
pub(super) enum Overflow {
    /// Fail the target, even if they are zero.
    Refuse,
    /// Leave them out if they are zero or lie in the image's own backup GPT, which is rewritten at
    /// the end of the disk. Otherwise fail the target.
    LeaveOut { backup_gpt: Option<Range<u64>> },
}

impl Distribution {
    /// Sends extent number `number` to writer `index`, and waits for room in its queue.
    ///
    /// A writer that blocks faster ones for too long is left behind: it gets no more extents of
    /// this pass, and [`resume_from`](TargetWriter::resume_from) records where the next pass must
    /// resume.
    pub(super) fn send_extent(
        &self,
        writers: &mut [TargetWriter],
        index: usize,
        number: u64,
        extent: &Extent,
    ) -> Result<()> {
        let writer = &writers[index];
        if !writer.is_active() {
            return Ok(());
        }
        let Some(extent) = self.cut_to_disk(writer, extent) else { return Ok(()) };
        let mut job = Some(writer.job(extent));
        while !(self.can_read_again && should_leave_behind(writers, index)) {
            if writers[index].offer(&mut job)? {
                return Ok(());
            }
        }
        writers[index].resume_from = Some(number);
        Ok(())
    }

    /// The part of `extent` that fits the writer's disk. Fails the target if the rest must not be
    /// left out.
    fn cut_to_disk(&self, writer: &TargetWriter, extent: &Extent) -> Option<Extent> {
        let end = match extent {
            Extent::Data { offset, block } => offset.saturating_add(block.len() as u64),
            Extent::Zero { offset, len } => offset.saturating_add(*len),
        };
        let (name, disk_bytes) = (writer.state.name(), writer.disk.size_bytes);
        if end <= disk_bytes {
            return Some(extent.clone());
        }
        let error = match &self.overflow {
            Overflow::Refuse => {
                let has = human(disk_bytes);
                let message = format!("the image turned out larger than {name}, which has {has}");
                Error::new(ErrorKind::Target, message)
                    .hint("use a larger disk; this one does not boot now")
            }
            Overflow::LeaveOut { backup_gpt } => {
                match cut(extent, disk_bytes, backup_gpt.as_ref()) {
                    Ok(part) => return part,
                    Err(offset) => does_not_fit(name, offset, ErrorKind::Target),
                }
            }
        };
        writer.state.fail(error);
        None
    }
}

/// The part of `extent` before `disk_bytes`. The rest must be zero, or the backup GPT of the image.
///
/// # Errors
/// The offset of the first byte that would be lost.
fn cut(
    extent: &Extent,
    disk_bytes: u64,
    backup_gpt: Option<&Range<u64>>,
) -> Result<Option<Extent>, u64> {
    match extent {
        Extent::Zero { offset, len } => {
            let len = disk_bytes.saturating_sub(*offset).min(*len);
            Ok((len > 0).then_some(Extent::Zero { offset: *offset, len }))
        }
        Extent::Data { offset, block } => {
            let kept = usize::try_from(disk_bytes.saturating_sub(*offset))
                .unwrap_or(usize::MAX)
                .min(block.len());
            if let Some(at) = first_data(offset + kept as u64, &block[kept..], backup_gpt) {
                return Err(at);
            }
            Ok((kept > 0).then(|| Extent::Data { offset: *offset, block: block.slice(0..kept) }))
        }
    }
}

pub(super) fn does_not_fit(name: &str, offset: u64, kind: ErrorKind) -> Error {
    Error::new(kind, format!("the image has data at offset {offset}, for which {name} has no room"))
        .with_path(name)
        .at_offset(offset)
        .hint("use a larger disk: only zeros can be left out")
}

/// True when the reader has waited long for writer `index`, and another one is more than twice as
/// fast.
fn should_leave_behind(writers: &[TargetWriter], index: usize) -> bool {
    let writer = &writers[index];
    if writer.waited() < SLOWNESS {
        return false;
    }
    let others = writers.iter().enumerate().filter(|(i, other)| *i != index && other.is_active());
    let fastest = others.map(|(_, other)| other.state.counters.rate()).max();
    fastest.is_some_and(|rate| rate / 2 > writer.state.counters.rate())
}
