//! Writes a packed image.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::compress::{DataFrame, FrameCompressor, Part};
use super::format::{
    BLOCK_BYTES, BLOCK_ENTRY_BYTES, FRAME_BYTES, FRAME_ENTRY_BYTES, FRAMES_MAX, HEADER_BYTES,
    INDEX_FRAME, MAGIC, MAJOR, ZERO_FLAG, ZERO_FRAME_MAX, skippable_header, write_seek_table,
    zero_frame,
};
use super::index::is_frame_size;
use super::{check, find};
use crate::create::part::{PartFile, digest_path};
use crate::extent::Extent;
use crate::image::{ImageInfo, all_digests};
use crate::progress::{Counts, Ticks};
use crate::read_context::ReadContext;
use crate::setters::setters;
use crate::{
    CancelToken, Context, Digest, Error, ErrorKind, Event, Image, Observer, Phase, Result,
};

/// Number of buffers between the reader of the image and the compressor.
const BUFFERS: usize = 8;

/// Options for [`pack`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PackOptions {
    /// Compression level of zstd, from 1 to 19. Higher levels take longer to pack, not to flash.
    pub level: i32,
    /// Maximum number of decoded bytes in a frame: a power of two from 16 KiB to 1 MiB. Smaller
    /// frames make the file larger and an update fetch less.
    pub frame_bytes: u32,
}

impl Default for PackOptions {
    /// Level 3, and frames of 64 KiB.
    fn default() -> Self {
        Self { level: 3, frame_bytes: FRAME_BYTES }
    }
}

setters! {
    PackOptions {
        level: i32,
        frame_bytes: u32,
    }
}

impl PackOptions {
    fn check(&self) -> Result<()> {
        if !(1..=19).contains(&self.level) {
            let message = format!("compression level {} does not exist", self.level);
            return Err(Error::new(ErrorKind::Usage, message).hint("use a level from 1 to 19"));
        }
        if !is_frame_size(self.frame_bytes) {
            let message = format!("frames of {} bytes are not supported", self.frame_bytes);
            return Err(Error::new(ErrorKind::Usage, message)
                .hint("use a power of two from 16 KiB to 1 MiB; 64 KiB suits most images"));
        }
        Ok(())
    }
}

/// The result of [`pack`]. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PackReport {
    /// The image that was packed.
    pub source: String,
    /// Path of the packed image.
    pub path: PathBuf,
    /// Size of the decoded disk image.
    pub disk_bytes: u64,
    /// Bytes of data in the disk image. The rest is in frames of zeros.
    pub data_bytes: u64,
    /// Number of frames, including frames of zeros.
    pub frames: u64,
    /// Size of the index.
    pub index_bytes: u64,
    /// Size of the packed image.
    pub file_bytes: u64,
    /// SHA-256 of the packed image. Like `index_sha256`, it is in the `.sha256` file next to it.
    pub sha256: Digest,
    /// SHA-256 of its index, which proves the content of the whole image.
    pub index_sha256: Digest,
    /// Wall-clock time in milliseconds.
    pub elapsed_ms: u64,
}

impl PackReport {
    /// Simulates packing an `image` that is all data, for dry runs. Reads and writes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] and [`ErrorKind::Refused`], as [`pack`].
    pub fn dry_run(image: &ImageInfo, path: &Path, options: &PackOptions) -> Result<Self> {
        options.check()?;
        check_name(path)?;
        let disk_bytes = image.min_disk_bytes().unwrap_or(0);
        Ok(Self {
            source: image.source.clone(),
            path: path.to_owned(),
            disk_bytes,
            data_bytes: disk_bytes,
            frames: disk_bytes.div_ceil(options.frame_bytes.into()),
            index_bytes: 0,
            file_bytes: disk_bytes,
            sha256: Digest::of(image.source.as_bytes()),
            index_sha256: Digest::of(b"index"),
            elapsed_ms: 0,
        })
    }
}

/// Writes `image` to `path` as a packed image, on all cores, then reads it back and checks every
/// frame. On failure, no file is left at `path`.
///
/// The same image and options give the same bytes. Memory: a few MiB per core, the decoder of the
/// image, and 0.3 % of the data for the index. `observer` receives the phases [`Phase::Read`] and
/// [`Phase::Verify`].
///
/// # Errors
/// - [`ErrorKind::Usage`]: an option is out of range.
/// - [`ErrorKind::Refused`]: the name does not end in `.zst`, or the file already exists.
/// - [`ErrorKind::Source`], [`ErrorKind::Format`], [`ErrorKind::Integrity`]: the image cannot be
///   read, is damaged, or has another digest than expected.
/// - [`ErrorKind::Host`]: the packed image cannot be written, or reads back differently.
/// - [`ErrorKind::Cancelled`]: `cancel` was cancelled.
pub fn pack(
    image: &Image,
    path: &Path,
    options: &PackOptions,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<PackReport> {
    let started = Instant::now();
    options.check()?;
    check_name(path)?;
    let doing = || format!("packing {}", image.info().source);
    let progress = Progress { observer, started, ticks: Ticks::default() };
    let part = PartFile::create(path).context(doing)?;
    let mut writer = PackWriter::new(&part, options);
    writer.write_frames(image, options, progress, cancel).context(doing)?;
    let (index_bytes, index_sha256) = writer.finish().context(doing)?;
    part.sync().context(doing)?;
    observer.event(&Event::Phase { phase: Phase::Verify });
    let source = part.reopen().context(doing)?;
    let index = find::find_index(&source, cancel).context(doing)?.ok_or_else(unreadable)?;
    let checked = check::check_frames(&source, &index, cancel).context(doing)?;
    let file_bytes = part.finish(checked.sha256, Some(index_sha256)).context(doing)?;
    Ok(PackReport {
        source: image.info().source.clone(),
        path: path.to_owned(),
        disk_bytes: index.disk_bytes(),
        data_bytes: index.data_bytes(),
        frames: index.frames().len() as u64,
        index_bytes,
        file_bytes,
        sha256: checked.sha256,
        index_sha256,
        elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn check_name(path: &Path) -> Result<()> {
    let refuse = |path: &Path, why: &str, hint: &str| {
        let shown = path.display();
        let message = format!("{shown} {why}");
        Err(Error::new(ErrorKind::Refused, message).with_path(shown).hint(hint))
    };
    if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("zst")) {
        return refuse(path, "is not a name for a packed image", "end the name in .img.zst");
    }
    let files = [path, &digest_path(path)];
    match files.into_iter().find(|file| file.symlink_metadata().is_ok()) {
        Some(file) => refuse(file, "already exists", "choose another name, or remove it"),
        None => Ok(()),
    }
}

fn unreadable() -> Error {
    Error::new(ErrorKind::Host, "the packed image cannot be read back")
        .hint("look at dmesg, or write the image elsewhere")
}

/// Reports progress to an observer.
struct Progress<'a> {
    observer: &'a dyn Observer,
    started: Instant,
    ticks: Ticks,
}

impl Progress<'_> {
    fn report(&mut self, counts: Counts) {
        if !self.ticks.is_due() {
            return;
        }
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (phase, targets) = (Phase::Read, Vec::new());
        self.observer.event(&Event::Progress { phase, elapsed_ms, counts, targets });
    }
}

/// Writes the frames to the file, and collects the index.
struct PackWriter<'a> {
    part: &'a PartFile,
    frame_bytes: u32,
    position: u64,
    disk_bytes: u64,
    /// Zeros that were not written yet, so that neighboring ones share a frame.
    zeros: u64,
    frame_table: Vec<u8>,
    block_table: Vec<u8>,
}

impl<'a> PackWriter<'a> {
    fn new(part: &'a PartFile, options: &PackOptions) -> Self {
        Self {
            part,
            frame_bytes: options.frame_bytes,
            position: 0,
            disk_bytes: 0,
            zeros: 0,
            frame_table: Vec::new(),
            block_table: Vec::new(),
        }
    }

    fn write_frames(
        &mut self,
        image: &Image,
        options: &PackOptions,
        mut progress: Progress<'_>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let mut compressor = FrameCompressor::start(options.level, options.frame_bytes, cancel)?;
        let context = ReadContext::new(BUFFERS, cancel).in_disk_order();
        let mut extents = image.extents(&context, false)?;
        progress.observer.event(&Event::Phase { phase: Phase::Read });
        let mut end = 0;
        while let Some(extent) = extents.next()? {
            match extent {
                Extent::Data { offset, block } => {
                    end = end.max(offset + block.len() as u64);
                    compressor.add(offset, &block, &mut |part| self.write_part(part))?;
                }
                Extent::Zero { offset, len } => end = end.max(offset + len),
            }
            progress.report(Counts {
                source_bytes: context.counts.source_bytes.load(Ordering::Relaxed),
                source_total: image.info().source_bytes,
                decoded_bytes: end,
                decoded_total: image.info().disk_bytes,
            });
        }
        image.check_digests(&all_digests(&*extents, image.source(), &context)?, cancel)?;
        let disk_bytes = image.info().disk_bytes.unwrap_or(end).max(end);
        compressor.finish(disk_bytes, &mut |part| self.write_part(part))?;
        self.write_zeros()
    }

    fn write_part(&mut self, part: Part) -> Result<()> {
        match part {
            Part::Zeros(len) => {
                self.zeros += len;
                Ok(())
            }
            Part::Data(frame) => {
                self.write_zeros()?;
                self.write_data(&frame)
            }
        }
    }

    fn write_zeros(&mut self) -> Result<()> {
        while self.zeros > 0 {
            let len = u32::try_from(self.zeros).unwrap_or(u32::MAX).min(ZERO_FRAME_MAX);
            self.zeros -= u64::from(len);
            self.write_frame(&zero_frame(len), len, len | ZERO_FLAG, &[0; 32])?;
        }
        Ok(())
    }

    fn write_data(&mut self, frame: &DataFrame) -> Result<()> {
        self.block_table.extend(frame.block_hashes.iter().flatten());
        self.write_frame(&frame.encoded, frame.disk_bytes, frame.disk_bytes, &frame.blake3)
    }

    fn write_frame(
        &mut self,
        encoded: &[u8],
        disk_bytes: u32,
        length_field: u32,
        blake3: &[u8; 32],
    ) -> Result<()> {
        let file_bytes = u32::try_from(encoded.len()).expect("frames are small");
        self.frame_table.extend_from_slice(&length_field.to_le_bytes());
        self.frame_table.extend_from_slice(&file_bytes.to_le_bytes());
        self.frame_table.extend_from_slice(blake3);
        self.disk_bytes += u64::from(disk_bytes);
        self.append(encoded)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.part.write_at(bytes, self.position)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Writes the index and the seek table. Returns the size and the digest of the index.
    fn finish(mut self) -> Result<(u64, Digest)> {
        let index = self.index();
        let (index_bytes, sha256) = (index.len() as u64, Digest::of(&index));
        let frames = self.frame_table.len() / FRAME_ENTRY_BYTES;
        let skippable = skippable_header(INDEX_FRAME, index_bytes)
            .filter(|_| (frames as u64) < FRAMES_MAX)
            .ok_or_else(|| self.too_large())?;
        self.append(&skippable)?;
        self.append(&index)?;
        drop(index);
        let index_frame = u32::try_from(index_bytes).map_err(|_| self.too_large())? + 8;
        let mut lengths: Vec<(u32, u32)> = self
            .frame_table
            .chunks_exact(FRAME_ENTRY_BYTES)
            .map(|entry| {
                let number =
                    |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().expect("4 bytes"));
                (number(4), number(0) & !ZERO_FLAG)
            })
            .collect();
        lengths.push((index_frame, 0));
        let mut table = Vec::new();
        write_seek_table(&mut table, lengths.into_iter()).ok_or_else(|| self.too_large())?;
        self.append(&table)?;
        Ok((index_bytes, sha256))
    }

    fn index(&self) -> Vec<u8> {
        let frames = (self.frame_table.len() / FRAME_ENTRY_BYTES) as u64;
        let blocks = (self.block_table.len() / BLOCK_ENTRY_BYTES) as u64;
        let mut index = MAGIC.to_vec();
        index.extend_from_slice(&MAJOR.to_le_bytes());
        index.extend_from_slice(&0u16.to_le_bytes());
        index.extend_from_slice(&u32::try_from(HEADER_BYTES).expect("128").to_le_bytes());
        index.extend_from_slice(&[0; 16]);
        index.extend_from_slice(&self.disk_bytes.to_le_bytes());
        index.extend_from_slice(&BLOCK_BYTES.to_le_bytes());
        index.extend_from_slice(&self.frame_bytes.to_le_bytes());
        index.extend_from_slice(&frames.to_le_bytes());
        index.extend_from_slice(&blocks.to_le_bytes());
        index.extend_from_slice(&self.position.to_le_bytes());
        index.resize(HEADER_BYTES, 0);
        index.extend_from_slice(&self.frame_table);
        index.extend_from_slice(&self.block_table);
        index
    }

    fn too_large(&self) -> Error {
        let message = format!("an image of {} bytes has too many frames", self.disk_bytes);
        Error::new(ErrorKind::Format, message).hint("pack it with larger frames")
    }
}
