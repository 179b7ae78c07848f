//! Creates an image from a disk.
//!
//! [`create`] reads a disk, writes an image without the zeros, and then compares the image with the
//! disk. Only then does the image get its final name. A `.sha256` file next to it holds its digest,
//! so that a damaged copy is detected before it is flashed.
//!
//! ```no_run
//! use bty::create::{CreateOptions, create};
//! use bty::{CancelToken, Selector, SystemHost};
//!
//! let host = SystemHost::new();
//! let disk = "serial:4C530001230412115574".parse::<Selector>()?.select(&host)?;
//! let (options, cancel) = (CreateOptions::default(), CancelToken::new());
//! let report = create(&disk, "card.img.zst".as_ref(), &options, &host, &(), &cancel)?;
//! println!("{} bytes, sha256 {}", report.file_bytes, report.sha256);
//! # Ok::<(), bty::Error>(())
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::disks::{Disk, DiskHost, DiskKind, TableKind};
use crate::extent::{BUFFER_BYTES, Buffer, Extent, Pool, split_zeros};
use crate::flash::{Refusal, RefusalReason, fail_if_refused};
use crate::image::Format;
use crate::progress::{Counts, TargetCounts, Ticks};
use crate::setters::setters;
use crate::trace::Span;
use crate::{
    CancelToken, Context, Digest, Error, ErrorKind, Event, Observer, Phase, Remedy, Result,
};

pub(crate) mod part;
mod prove;
mod qcow2;
mod raw;
mod shape;
mod zstd;

use part::PartFile;
use shape::Shape;

/// Number of buffers between the reader and the writer.
const BUFFERS: usize = 4;

/// Options for [`create`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct CreateOptions {
    /// End the image after the last partition. The backup GPT moves to the end of the image.
    pub shrink: bool,
}

setters! {
    CreateOptions {
        shrink: bool,
    }
}

/// The result of [`create`]. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CreateReport {
    /// The disk that was read.
    pub disk: Disk,
    /// Path of the image.
    pub path: PathBuf,
    /// Format, as chosen by the file name: raw, zstd or qcow2.
    pub format: Format,
    /// Size of the decoded disk image.
    pub disk_bytes: u64,
    /// Bytes of data in the disk image. The rest is zeros, which take no space.
    pub data_bytes: u64,
    /// Size of the image file.
    pub file_bytes: u64,
    /// SHA-256 of the image file, also written to the `.sha256` file next to it.
    pub sha256: Digest,
    /// Wall-clock time in milliseconds, until the file had its name.
    pub elapsed_ms: u64,
}

impl CreateReport {
    /// Simulates an image of a `disk` that is all data, for dry runs. Reads no disk, and writes
    /// nothing: sizes are those of the disk, and `sha256` is made up.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`]: [`validate`] returned reasons, which the message lists.
    pub fn dry_run(disk: &Disk, path: &Path, options: &CreateOptions) -> Result<Self> {
        fail_if_refused(&validate(disk, path, options))?;
        Ok(Self {
            disk: disk.clone(),
            path: path.to_owned(),
            format: format_for(path).expect("validate has checked the name"),
            disk_bytes: disk.size_bytes,
            data_bytes: disk.size_bytes,
            file_bytes: disk.size_bytes,
            sha256: Digest::of(disk.path.as_os_str().as_encoded_bytes()),
            elapsed_ms: 0,
        })
    }
}

/// The format of an image created at `path`: raw for `.img`, `.raw` and `.iso`, zstd for `.zst`,
/// qcow2 for `.qcow2`. `None` for other names.
#[must_use]
pub fn format_for(path: &Path) -> Option<Format> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "img" | "raw" | "iso" => Some(Format::Raw),
        "zst" => Some(Format::Zstd),
        "qcow2" => Some(Format::Qcow2),
        _ => None,
    }
}

/// Returns every reason not to create an image of `disk` at `path`. Empty when [`create`] may run.
#[must_use]
pub fn validate(disk: &Disk, path: &Path, options: &CreateOptions) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut refuse = |refusal| refusals.push(refusal);
    for usage in &disk.uses {
        let message =
            format!("{usage}; a disk that changes while it is read gives an inconsistent image");
        refuse(Refusal::of(&disk.path, RefusalReason::InUse, message));
    }
    if disk.kind == DiskKind::Other {
        let message = "an image cannot be created from a device of this kind (choose a disk)";
        let refusal = Refusal::of(&disk.path, RefusalReason::UnsupportedKind, message);
        refuse(refusal.with_remedy(Remedy::ListDisks));
    }
    if disk.size_bytes == 0 {
        let message = "it is empty (is a medium inserted?)";
        refuse(Refusal::of(&disk.path, RefusalReason::Empty, message));
    }
    if options.shrink && disk.partitions.is_empty() {
        let message = "it has no partitions, so nothing says where the image could end (do not \
                       shrink it)";
        let refusal = Refusal::of(&disk.path, RefusalReason::NoPartitions, message);
        refuse(refusal.with_remedy(Remedy::NoShrink));
    }
    let wrong_name = match format_for(path) {
        None => Some("its name does not end like an image (end it in .img, .img.zst or .qcow2)"),
        Some(Format::Qcow2) if cfg!(not(feature = "qcow2")) => {
            Some("the feature \"qcow2\" is off in this program (end the name in .img or .img.zst)")
        }
        Some(_) => None,
    };
    if let Some(message) = wrong_name {
        refuse(Refusal::of(path, RefusalReason::UnknownFormat, message));
    }
    for path in [path.to_owned(), part::digest_path(path)] {
        if path.symlink_metadata().is_ok() {
            let message = "it already exists (choose another name, or remove it)";
            refuse(Refusal::of(&path, RefusalReason::Exists, message));
        }
    }
    refusals
}

/// Reads `disk`, writes an image of it to `path`, and compares the two. On failure, no file is left
/// at `path`.
///
/// `observer` receives the phases [`Phase::Read`] and [`Phase::Verify`].
///
/// # Errors
/// - [`ErrorKind::Refused`]: [`validate`] returned reasons, which the message lists; or another
///   process is creating the same image.
/// - [`ErrorKind::Source`]: the disk cannot be read.
/// - [`ErrorKind::Host`]: the image cannot be written.
/// - [`ErrorKind::Integrity`]: the image differs from the disk.
/// - [`ErrorKind::Cancelled`]: `cancel` was cancelled.
pub fn create(
    disk: &Disk,
    path: &Path,
    options: &CreateOptions,
    host: &dyn DiskHost,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<CreateReport> {
    let span = Span::create(disk, path);
    let report = span.in_scope(|| create_in_span(disk, path, options, host, observer, cancel))?;
    span.record("disk_bytes", report.disk_bytes);
    span.record("file_bytes", report.file_bytes);
    Ok(report)
}

fn create_in_span(
    disk: &Disk,
    path: &Path,
    options: &CreateOptions,
    host: &dyn DiskHost,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<CreateReport> {
    let started = Instant::now();
    fail_if_refused(&validate(disk, path, options))?;
    let doing = || format!("creating an image of {}", disk.path.display());
    let format = format_for(path).expect("validate has checked the name");
    let reader = DiskReader::open(disk, options, host, cancel).context(doing)?;
    let part = PartFile::create(path).context(doing)?;
    let progress = ProgressReporter {
        observer,
        started,
        total: reader.shape.bytes,
        target: path.display().to_string(),
    };
    let data_bytes = write(&reader, &part, format, &progress).context(doing)?;
    let sha256 = prove::prove(&reader, &part, format, &progress).context(doing)?;
    let file_bytes = part.finish(sha256, None).context(doing)?;
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (disk, path, disk_bytes) = (disk.clone(), path.to_owned(), reader.shape.bytes);
    Ok(CreateReport { disk, path, format, disk_bytes, data_bytes, file_bytes, sha256, elapsed_ms })
}

/// Writes an image in one format. Receives extents that cover the disk once, in the order of their
/// offsets.
trait Sink {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;

    fn zeros(&mut self, offset: u64, len: u64) -> Result<()>;

    /// Completes the file; without it the file is not a valid image.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Writes the whole disk, and returns the number of bytes of data.
fn write(
    reader: &DiskReader,
    part: &PartFile,
    format: Format,
    progress: &ProgressReporter<'_>,
) -> Result<u64> {
    let bytes = reader.shape.bytes;
    let mut sink: Box<dyn Sink + '_> = match format {
        Format::Zstd => Box::new(zstd::ZstdSink::start(part, &reader.cancel)?),
        Format::Qcow2 => Box::new(qcow2::Qcow2Sink::start(part, bytes)),
        _ => Box::new(raw::RawSink::start(part, bytes)?),
    };
    progress.enter(Phase::Read);
    let mut data_bytes = 0;
    let mut ticks = Ticks::default();
    reader.read(&mut |extent, done| {
        match extent {
            Extent::Data { offset, block } => {
                data_bytes += block.len() as u64;
                sink.data(offset, &block)?;
            }
            Extent::Zero { offset, len } => sink.zeros(offset, len)?,
        }
        if ticks.is_due() {
            progress.reading(done);
        }
        Ok(())
    })?;
    sink.finish()?;
    part.sync()?;
    progress.reading(bytes);
    Ok(data_bytes)
}

/// Reads a disk as its image represents it, with the changes of [`Shape`].
struct DiskReader {
    device: Arc<dyn Device>,
    /// Path of the disk, for messages.
    name: String,
    shape: Shape,
    cancel: CancelToken,
}

impl DiskReader {
    fn open(
        disk: &Disk,
        options: &CreateOptions,
        host: &dyn DiskHost,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let device = host.open_read_only(disk)?;
        let name = disk.path.display().to_string();
        let shape = Shape::whole(device.size_bytes());
        let mut reader = Self { device, name, shape, cancel: cancel.clone() };
        if options.shrink {
            reader.shape = reader.shrunk(disk)?;
        }
        Ok(reader)
    }

    /// The disk up to the end of its last partition.
    fn shrunk(&self, disk: &Disk) -> Result<Shape> {
        let end = disk
            .partitions
            .iter()
            .map(|p| p.start_bytes.saturating_add(p.size_bytes))
            .max()
            .unwrap_or(0);
        if disk.table != Some(TableKind::Gpt) {
            return Ok(Shape::cut(end, disk.size_bytes));
        }
        let mut buffer = Pool::new(1).take(&self.cancel)?;
        let head = self.fill(&mut buffer, 0, BUFFER_BYTES as u64)?;
        Shape::cut_gpt(head, end, disk)
    }

    /// Calls `sink` with each extent of the image, and with the number of bytes read so far.
    fn read(&self, sink: &mut dyn FnMut(Extent, u64) -> Result<()>) -> Result<()> {
        let pool = Pool::new(BUFFERS);
        let mut offset = 0;
        while offset < self.shape.bytes {
            let mut buffer = pool.take(&self.cancel)?;
            let len = self.fill(&mut buffer, offset, BUFFER_BYTES as u64)?.len();
            let block = buffer.freeze(len);
            offset += len as u64;
            split_zeros(offset - len as u64, &block)
                .into_iter()
                .try_for_each(|extent| sink(extent, offset))?;
        }
        Ok(())
    }

    /// Reads up to `limit` bytes of the image at `offset`, a multiple of the sector size. Returns
    /// less only at the end of the image or of the buffer.
    fn fill<'b>(&self, buffer: &'b mut Buffer, offset: u64, limit: u64) -> Result<&'b mut [u8]> {
        let end = self.shape.bytes.min(offset + limit.min(BUFFER_BYTES as u64));
        let len = usize::try_from(end - offset).expect("at most one buffer");
        let mut done = 0;
        while done < len {
            self.cancel.check()?;
            match self.device.read_at(&mut buffer[done..len], offset + done as u64) {
                Ok(0) => {
                    return Err(self.read_error(
                        offset + done as u64,
                        std::io::ErrorKind::UnexpectedEof.into(),
                    ));
                }
                Ok(n) => done += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.read_error(offset + done as u64, e)),
            }
        }
        self.shape.apply(offset, &mut buffer[..len]);
        Ok(&mut buffer[..len])
    }

    fn read_error(&self, offset: u64, error: std::io::Error) -> Error {
        Error::new(ErrorKind::Source, format!("reading {} at offset {offset}", self.name))
            .because(error)
            .with_path(&self.name)
            .at_offset(offset)
            .hint("look at dmesg; ddrescue copies what a failing disk still gives")
    }
}

/// Reports progress to an observer.
struct ProgressReporter<'a> {
    observer: &'a dyn Observer,
    started: Instant,
    /// Bytes of the disk image: as many are read, and then compared.
    total: u64,
    /// Path of the image.
    target: String,
}

impl ProgressReporter<'_> {
    fn enter(&self, phase: Phase) {
        self.observer.event(&Event::Phase { phase });
    }

    fn reading(&self, bytes: u64) {
        let (source_total, decoded_total) = (Some(self.total), Some(self.total));
        let counts =
            Counts { source_bytes: bytes, source_total, decoded_bytes: bytes, decoded_total };
        self.emit(Phase::Read, counts, Vec::new());
    }

    fn verifying(&self, bytes: u64) {
        let target = TargetCounts {
            target: self.target.clone(),
            verified_bytes: bytes,
            verify_total: Some(self.total),
            ..TargetCounts::default()
        };
        self.emit(Phase::Verify, Counts::default(), vec![target]);
    }

    fn emit(&self, phase: Phase, counts: Counts, targets: Vec<TargetCounts>) {
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.observer.event(&Event::Progress { phase, elapsed_ms, counts, targets });
    }
}

#[cfg(test)]
mod tests;
