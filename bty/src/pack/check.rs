//! Checks a packed image: every frame against the index. The tables were compared when the index
//! was found.

use std::io::Read;

use serde::{Deserialize, Serialize};
use zstd::bulk::Decompressor;

use super::compress::block_hash;
use super::find::find_index;
use super::format::{BLOCK_BYTES, FRAME_BYTES, zero_frame};
use super::index::{PackFrame, PackIndex};
use super::read::{decode_frame, frame_error};
use crate::digest::{Checksums, FileHasher};
use crate::image::{Contents, ImageInfo};
use crate::{CancelToken, Digest, Error, ErrorKind, Result, Source};

/// The result of [`check`]. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PackCheck {
    /// Size of the decoded disk image.
    pub disk_bytes: u64,
    /// Bytes of data in the disk image. The rest is in frames of zeros.
    pub data_bytes: u64,
    /// Number of frames, including frames of zeros.
    pub frames: u64,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// SHA-256 of its index.
    pub index_sha256: Digest,
}

impl PackCheck {
    /// Simulates the check of an `image` that is all data, for dry runs.
    #[must_use]
    pub fn simulated(image: &ImageInfo) -> Self {
        let contents = Contents::simulated(image);
        Self {
            disk_bytes: contents.disk_bytes,
            data_bytes: contents.data_bytes,
            frames: contents.disk_bytes.div_ceil(FRAME_BYTES.into()),
            sha256: contents.source_sha256,
            index_sha256: Digest::of(b"index"),
        }
    }
}

/// Reads all of a packed image, and compares each frame and the seek table with the index.
///
/// # Errors
/// - [`ErrorKind::Format`]: `source` is not a packed image, its index is damaged, or its seek table
///   differs from the index.
/// - [`ErrorKind::Integrity`]: a frame differs from the index.
/// - [`ErrorKind::Source`]: the source cannot be read.
/// - [`ErrorKind::Cancelled`]: `cancel` was cancelled.
pub fn check(source: &Source, cancel: &CancelToken) -> Result<PackCheck> {
    let Some(index) = find_index(source, cancel)? else {
        let message = format!("{} is not a packed image", source.location());
        let error = Error::new(ErrorKind::Format, message).with_path(source.location());
        return Err(error.hint("pack it first"));
    };
    check_frames(source, &index, cancel)
}

/// Like [`check`], with the index that was found.
pub(super) fn check_frames(
    source: &Source,
    index: &PackIndex,
    cancel: &CancelToken,
) -> Result<PackCheck> {
    let mut file = HashingReader::open(source, cancel)?;
    let mut decoder = Decompressor::new().map_err(|e| file.failed("preparing", e))?;
    let (mut encoded, mut decoded) = (Vec::new(), Vec::new());
    for frame in index.frames() {
        encoded.resize(frame.file_bytes as usize, 0);
        file.read_exact(&mut encoded)?;
        check_frame(index, frame, &encoded, &mut decoder, &mut decoded)
            .map_err(|why| frame_error(&source.location().to_string(), frame, why))?;
    }
    let digests = file.finish()?;
    source.check_digests(&digests)?;
    Ok(PackCheck {
        disk_bytes: index.disk_bytes(),
        data_bytes: index.data_bytes(),
        frames: index.frames().len() as u64,
        sha256: digests.sha256.ok_or_else(Error::cancelled)?,
        index_sha256: index.sha256(),
    })
}

/// Decodes one frame into `decoded`, and compares it with the index.
fn check_frame(
    index: &PackIndex,
    frame: &PackFrame,
    encoded: &[u8],
    decoder: &mut Decompressor<'_>,
    decoded: &mut Vec<u8>,
) -> Result<(), &'static str> {
    if frame.blake3.is_none() {
        return (encoded == zero_frame(frame.disk_bytes))
            .then_some(())
            .ok_or("it is not the frame of zeros that the index describes");
    }
    decoded.resize(frame.disk_bytes as usize, 0);
    decode_frame(frame, encoded, decoded, decoder)?;
    let blocks = decoded.chunks(BLOCK_BYTES as usize).map(block_hash);
    let expected = index.block_hashes()[frame.first_block..][..frame.blocks()].iter().copied();
    blocks.eq(expected).then_some(()).ok_or("a block has another hash")
}

/// Reads a file from start to end, and computes its digest.
struct HashingReader<'a> {
    source: &'a Source,
    reader: std::io::BufReader<Box<dyn Read + Send>>,
    hasher: FileHasher,
    position: u64,
}

impl<'a> HashingReader<'a> {
    fn open(source: &'a Source, cancel: &CancelToken) -> Result<Self> {
        let reader = source.bytes.stream(0, cancel)?;
        let reader = std::io::BufReader::with_capacity(1 << 20, reader);
        Ok(Self { source, reader, hasher: FileHasher::new(&source.expected), position: 0 })
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> Result<()> {
        self.reader.read_exact(buf).map_err(|e| self.failed("reading", e))?;
        self.hasher.update(buf);
        self.position += buf.len() as u64;
        Ok(())
    }

    fn failed(&self, doing: &str, error: std::io::Error) -> Error {
        let doing = format!("{doing} {}", self.source.location());
        Error::from_io(ErrorKind::Source, doing, error).at_offset(self.position)
    }

    /// Reads the rest of the file, and returns the digests of all of it.
    fn finish(mut self) -> Result<Checksums> {
        let mut rest = vec![0; 64 << 10];
        loop {
            match self.reader.read(&mut rest).map_err(|e| self.failed("reading", e))? {
                0 => return Ok(self.hasher.finish()),
                n => {
                    self.hasher.update(&rest[..n]);
                    self.position += n as u64;
                }
            }
        }
    }
}
