//! Compares a new image with its disk: decodes the image, reads the disk again, and computes the
//! digest of the image file at the same time.

use super::part::PartFile;
use super::{BUFFERS, DiskReader, ProgressReporter, Ticks};
use crate::extent::{BUFFER_BYTES, Extent, Pool, is_zero};
use crate::image::{self, Format};
use crate::read_context::ReadContext;
use crate::{Digest, Error, ErrorKind, Phase, Result};

/// Compares the image with the disk, and returns the SHA-256 of the image file.
pub(super) fn prove(
    reader: &DiskReader,
    part: &PartFile,
    format: Format,
    progress: &ProgressReporter<'_>,
) -> Result<Digest> {
    progress.enter(Phase::Verify);
    let source = part.reopen()?;
    let context = ReadContext::new(BUFFERS, &reader.cancel);
    let mut extents = image::extents_of(&source, format, &context)?;
    let mut compared = 0;
    let mut ticks = Ticks::default();
    while let Some(extent) = extents.next()? {
        compared += compare(reader, &extent)?;
        if ticks.is_due() {
            progress.verifying(compared);
        }
    }
    if compared != reader.shape.bytes {
        return Err(difference(reader, compared));
    }
    progress.verifying(compared);
    let digests = image::all_digests(&*extents, &source, &context)?;
    digests.wire.sha256.ok_or_else(Error::cancelled)
}

/// Compares one extent with the disk, and returns its length.
fn compare(reader: &DiskReader, extent: &Extent) -> Result<u64> {
    let (start, len) = match extent {
        Extent::Data { offset, block } => (*offset, block.len() as u64),
        Extent::Zero { offset, len } => (*offset, *len),
    };
    let mut buffer = Pool::new(1).take(&reader.cancel)?;
    let mut done = 0;
    while done < len {
        if start + done >= reader.shape.bytes {
            return Err(difference(reader, start + done));
        }
        let on_disk = reader.fill(&mut buffer, start + done, len - done)?;
        let n = on_disk.len();
        let is_equal = match extent {
            Extent::Data { block, .. } => {
                let from = usize::try_from(done).expect("a block is in memory");
                block[from..from + n] == *on_disk
            }
            Extent::Zero { .. } => is_zero(on_disk),
        };
        if !is_equal {
            return Err(difference(reader, start + done));
        }
        done += n as u64;
    }
    Ok(len)
}

fn difference(reader: &DiskReader, offset: u64) -> Error {
    let message = format!(
        "the image differs from {} in the {BUFFER_BYTES} bytes from offset {offset} on",
        reader.name
    );
    Error::new(ErrorKind::Integrity, message).with_path(&reader.name).at_offset(offset).hint(
        "something writes to the disk, or it reads differently each time: look at \
         dmesg, then try again",
    )
}
