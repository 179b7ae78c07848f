//! Reads qcow2, the disk image format of QEMU: versions 2 and 3, compressed or not.
//!
//! The file is read front to back, whatever the order of its clusters on the disk, and only where
//! clusters are allocated. So an image on a web server costs a few requests. If a digest of the
//! file is expected, every byte of it is read, once.
//!
//! Images that are not self-contained and clean are refused with a hint: backing files, external
//! data files, encryption, dirty images, unknown features. Internal snapshots are ignored, and
//! refcounts are not checked.
//!
//! Format: `docs/interop/qcow2` of QEMU.

use std::sync::Arc;

use crate::extent::ExtentReader;
use crate::read_context::ReadContext;
use crate::source::Source;
use crate::{CancelToken, Error, ErrorKind, Result};

mod cursor;
mod header;
mod map;
mod read;
#[cfg(test)]
mod tests;
mod unpack;

pub(crate) use header::ClusterCompression;
use header::{HEADER_BYTES, Header};
use map::{Check, RUNS_MAX, Run, Walker, Window};
use unpack::Unpacker;

/// An opened qcow2 image. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Qcow2 {
    header: Header,
    /// The L1 table, as far as the virtual size needs it: at most 32 MiB.
    l1: Arc<[u64]>,
    file_bytes: u64,
    /// Hashes of the parts read so far, to detect changes of the file.
    checks: Vec<Check>,
    /// Maximum number of runs of the map in memory.
    runs_max: usize,
}

impl Qcow2 {
    /// Reads the header and the L1 table of `source`, which must be seekable.
    ///
    /// # Errors
    /// - [`ErrorKind::Format`]: it is not a self-contained, clean qcow2 image.
    /// - [`ErrorKind::Source`]: the file is truncated or cannot be read.
    pub(crate) fn open(source: &Source, cancel: &CancelToken) -> Result<Self> {
        Self::read(source, cancel).map_err(|error| {
            error.with_path(&source.location).context(format!("opening {}", source.location))
        })
    }

    fn read(source: &Source, cancel: &CancelToken) -> Result<Self> {
        let file_bytes = source.len_bytes().ok_or_else(|| {
            Error::new(ErrorKind::Source, "the length is unknown").hint("download it first")
        })?;
        let mut bytes = [0; HEADER_BYTES];
        let len = source.bytes.read_at(&mut bytes, 0, cancel)?;
        let header = header::parse(&bytes[..len], file_bytes)?;
        let (l1, check) = read_l1(source, header, cancel)?;
        let checks = [Some(Check::new(0, &bytes[..len])), check].into_iter().flatten().collect();
        Ok(Self { header, l1, file_bytes, checks, runs_max: RUNS_MAX })
    }

    /// Size of the disk in bytes.
    pub(crate) fn virtual_bytes(&self) -> u64 {
        self.header.virtual_bytes
    }

    /// Size of one cluster in bytes.
    pub(crate) fn cluster_bytes(&self) -> u64 {
        self.header.cluster_bytes()
    }

    /// Version of the format, 2 or 3.
    pub(crate) fn version(&self) -> u32 {
        self.header.version
    }

    /// Format of compressed clusters, if there are any.
    pub(crate) fn compression(&self) -> ClusterCompression {
        self.header.compression
    }

    /// Reads the disk in the order of the file. `source` must be the one that was opened.
    ///
    /// The threads of the reader end when it is dropped, or within a second after a cancel.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when no thread can be started. The reader itself fails with
    /// [`ErrorKind::Format`] for damage, and [`ErrorKind::Source`] when the file cannot be read or
    /// has changed.
    pub(crate) fn extents(
        &self,
        source: &Source,
        context: &ReadContext,
    ) -> Result<Box<dyn ExtentReader>> {
        Ok(Box::new(read::Reader::start(self, source, context)?))
    }

    /// Fills `buf` from `offset` of the disk. Returns fewer bytes only at its end. For small reads.
    pub(crate) fn read_at_guest(
        &self,
        source: &Source,
        buf: &mut [u8],
        offset: u64,
        cancel: &CancelToken,
    ) -> Result<usize> {
        let len = (buf.len() as u64).min(self.header.virtual_bytes.saturating_sub(offset));
        if len == 0 {
            return Ok(0);
        }
        let (buf, end) = (&mut buf[..len as usize], offset + len);
        buf.fill(0);
        let cluster = self.header.cluster_bytes();
        let mut walker = Walker::new(self, source, offset / cluster..end.div_ceil(cluster), cancel);
        while !walker.is_done() {
            let mut window = Window::default();
            walker.fill(&mut window)?;
            for run in window.runs {
                let part = run.guest.max(offset)..(run.guest + run.len).min(end);
                if part.is_empty() {
                    // covers another part of the same cluster
                    continue;
                }
                let skip = part.start - run.guest;
                let part = &mut buf[(part.start - offset) as usize..(part.end - offset) as usize];
                self.read_run(source, part, &run, skip, cancel)?;
            }
        }
        Ok(len as usize)
    }

    /// Fills `part` with the content of `run` after its first `skip` bytes.
    fn read_run(
        &self,
        source: &Source,
        part: &mut [u8],
        run: &Run,
        skip: u64,
        cancel: &CancelToken,
    ) -> Result<()> {
        if run.packed == 0 {
            let host = run.host + skip;
            // the file may end within the last cluster
            let present = (part.len() as u64).min(self.file_bytes.saturating_sub(host)) as usize;
            return read_exact_at(source, &mut part[..present], host, cancel);
        }
        let mut packed = vec![0; run.packed as usize];
        read_exact_at(source, &mut packed, run.host, cancel)?;
        let mut cluster = vec![0; self.header.cluster_bytes() as usize];
        if !Unpacker::new(self.header.compression)?.unpack(&packed, &mut cluster) {
            return Err(read::damaged(run).with_path(&source.location));
        }
        part.copy_from_slice(&cluster[skip as usize..skip as usize + part.len()]);
        Ok(())
    }
}

/// Fills `buf` from `offset` of the file. A file that is shorter now has changed.
fn read_exact_at(source: &Source, buf: &mut [u8], offset: u64, cancel: &CancelToken) -> Result<()> {
    if source.bytes.read_at(buf, offset, cancel)? < buf.len() {
        return Err(map::changed(offset).with_path(&source.location));
    }
    Ok(())
}

/// Reads as much of the L1 table as the virtual size needs. The header has bounded its size.
fn read_l1(
    source: &Source,
    header: Header,
    cancel: &CancelToken,
) -> Result<(Arc<[u64]>, Option<Check>)> {
    let mut l1 = Vec::with_capacity(header.l1_entries as usize);
    let mut hasher = blake3::Hasher::new();
    let mut bytes = vec![0; (header.l1_entries * 8).min(1 << 20) as usize];
    let end = header.l1_offset + header.l1_entries * 8;
    let mut at = header.l1_offset;
    while at < end && header.l1_entries > 0 {
        let len = bytes.len().min((end - at) as usize);
        read_exact_at(source, &mut bytes[..len], at, cancel)?;
        hasher.update(&bytes[..len]);
        l1.extend(bytes[..len].as_chunks().0.iter().map(|entry| u64::from_be_bytes(*entry)));
        at += len as u64;
    }
    let check =
        Check { offset: header.l1_offset, len: header.l1_entries * 8, hash: hasher.finalize() };
    Ok((l1.into(), (header.l1_entries > 0).then_some(check)))
}
