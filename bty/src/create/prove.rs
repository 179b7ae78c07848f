//! The proof: the image is decoded and the disk is read once more, and both are compared. The
//! digest of the file comes from the same reading.

use std::fs::File;
use std::sync::Arc;

use super::part::PartFile;
use super::{BUFFERS, DiskReader, Progress, Ticks};
use crate::extent::{BUFFER_BYTES, Extent, Pool, is_zero};
use crate::image::{self, Format};
use crate::read_context::ReadContext;
use crate::source::file::FileSource;
use crate::{Digest, Error, ErrorKind, Location, Phase, Result, Source};

/// Compares the file with the disk; the SHA-256 of the file.
pub(super) fn prove(
    reader: &DiskReader,
    part: &PartFile,
    format: Format,
    progress: &Progress<'_>,
) -> Result<Digest> {
    progress.enter(Phase::Verify);
    let source = reopen(part)?;
    let reading = ReadContext::new(BUFFERS, &reader.cancel);
    let mut extents = image::extents_of(&source, format, &reading)?;
    let mut compared = 0;
    let mut ticks = Ticks::default();
    while let Some(extent) = extents.next()? {
        compared += compare(reader, &extent)?;
        if ticks.is_due() {
            progress.verifying(compared);
        }
    }
    if compared != reader.shape.bytes {
        return Err(differs(reader, compared));
    }
    progress.verifying(compared);
    let found = image::all_digests(&*extents, &source, &reading)?;
    found.wire.sha256.ok_or_else(Error::cancelled)
}

/// Opened anew: what is read comes from the file and not from what was written.
fn reopen(part: &PartFile) -> Result<Source> {
    let shown = part.part.display().to_string();
    let file = File::open(&part.part).map_err(|e| part.failed("opening", e))?;
    let input = Arc::new(FileSource::new(file, shown.clone())?);
    Ok(Source::new(Location::File(part.part.clone()), shown, input))
}

/// Compares one extent with the disk; how long it is.
fn compare(reader: &DiskReader, extent: &Extent) -> Result<u64> {
    let (start, len) = match extent {
        Extent::Data { offset, block } => (*offset, block.len() as u64),
        Extent::Zero { offset, len } => (*offset, *len),
    };
    let mut buffer = Pool::new(1).take(&reader.cancel)?;
    let mut done = 0;
    while done < len {
        if start + done >= reader.shape.bytes {
            return Err(differs(reader, start + done));
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
            return Err(differs(reader, start + done));
        }
        done += n as u64;
    }
    Ok(len)
}

fn differs(reader: &DiskReader, offset: u64) -> Error {
    let message = format!(
        "the image differs from {} in the {BUFFER_BYTES} bytes from offset {offset} on",
        reader.name
    );
    Error::new(ErrorKind::Integrity, message)
        .with_path(&reader.name)
        .at_offset(offset)
        .hint("something writes to the disk, or it reads differently each time: look at dmesg, then try again")
}
