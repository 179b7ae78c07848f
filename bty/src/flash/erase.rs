//! Erases a disk: flashes an image that is generated, through the same plan, validation and
//! executor as any other image, and reads all of it back.

use serde::{Deserialize, Serialize};

use crate::disks::{Disk, DiskHost};
use crate::flash::{DeltaMode, FlashOptions, FlashPlan, FlashReport};
use crate::image::{EraseWay, Image};
use crate::{CancelToken, Error, ErrorKind, Observer, Result};

/// A disk may take this many milliseconds to format itself, during which it completes no request.
const FORMAT_STALL_MS: u64 = 3_600_000;

/// The outcome of [`erase`]. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EraseReport {
    /// The disk, as probed right before the first write.
    pub disk: Disk,
    /// How it was erased.
    pub way: EraseWay,
    /// Bytes erased: all of the disk.
    pub erased_bytes: u64,
    /// Bytes read back from the medium afterwards, and found to be zeros, or the random bytes that
    /// were written.
    pub verified_bytes: u64,
    /// True if the device itself has reported that it erased all user data, including what no
    /// reading reaches. False if only the reading back proves it.
    pub is_attested: bool,
    /// Wall-clock time in milliseconds.
    pub elapsed_ms: u64,
    /// Warnings.
    pub notes: Vec<String>,
}

/// Plans to erase `disk`, all of it. Returns the plan and its image. Reads and writes nothing.
///
/// The plan is validated and executed like any other. [`EraseReport::new`] turns its report into one
/// about erasing.
///
/// # Errors
/// [`ErrorKind::Host`]: the system has no random bytes.
pub fn plan_erase(disk: &Disk, way: EraseWay) -> Result<(FlashPlan, Image)> {
    let image = Image::erasing(way, disk.size_bytes)?;
    let mut options = FlashOptions::default().delta(DeltaMode::Never);
    if way == EraseWay::NvmeFormat {
        options.stall_ms = FORMAT_STALL_MS;
    }
    Ok((FlashPlan::new(image.info(), vec![disk.clone()], options), image))
}

/// Erases `disk`, all of it, and reads it back.
///
/// # Errors
/// - [`ErrorKind::Refused`], with all reasons: the disk is in use, has changed since it was probed,
///   or does not know this way. Nothing was written.
/// - [`ErrorKind::Target`]: the disk cannot be written or read, or its command failed.
/// - [`ErrorKind::Integrity`]: it still holds something else.
/// - [`ErrorKind::Host`]: a resource of this machine is missing.
/// - [`ErrorKind::Cancelled`]: `cancel` was cancelled. A part of the disk is erased, and it does not
///   boot.
pub fn erase(
    disk: &Disk,
    way: EraseWay,
    host: &dyn DiskHost,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<EraseReport> {
    let (plan, image) = plan_erase(disk, way)?;
    EraseReport::new(&plan.execute(&image, host, observer, cancel)?)
}

impl EraseReport {
    /// What the report of a plan of [`plan_erase`] says.
    ///
    /// # Errors
    /// - The failure of the disk, with its kind.
    /// - [`ErrorKind::Usage`]: the report is about something else than erasing one disk.
    pub fn new(report: &FlashReport) -> Result<Self> {
        let ([target], Some(way)) = (report.targets.as_slice(), report.image.erases) else {
            let message = "the report is not about erasing one disk";
            return Err(Error::new(ErrorKind::Usage, message).hint("execute a plan of plan_erase"));
        };
        let path = target.disk.path.display();
        if let Some(failure) = &target.failure {
            let message = match &failure.difference {
                Some(difference) => {
                    let offset = difference.offset;
                    format!("{path} was not erased: at offset {offset} it holds something else")
                }
                None => failure.message.clone(),
            };
            let hint = match &failure.difference {
                Some(_) => "erase it in another way, or destroy it; do not trust this disk",
                None => failure.hint.as_deref().unwrap_or("look at dmesg, then try again"),
            };
            let mut error = Error::new(failure.kind, message).with_path(path).hint(hint);
            if let Some(offset) = failure.offset {
                error = error.at_offset(offset);
            }
            return Err(error.after_writing());
        }
        Ok(Self {
            disk: target.disk.clone(),
            way,
            erased_bytes: report.disk_bytes,
            verified_bytes: target.verified_bytes,
            is_attested: way == EraseWay::NvmeFormat,
            elapsed_ms: report.phases.iter().map(|phase| phase.elapsed_ms).sum(),
            notes: target.notes.clone(),
        })
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
