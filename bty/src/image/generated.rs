//! Images that erase a disk: their bytes are generated, not read.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::decode::Trailer;
use crate::extent::{BUFFER_BYTES, Block, Extent, ExtentReader, ReadDigests};
use crate::image::{EraseWay, Format, HEAD_BYTES, Image, ImageInfo};
use crate::read_context::ReadContext;
use crate::size::MIB;
use crate::source::ByteSource;
use crate::{CancelToken, Error, ErrorKind, Location, Result, Source};

/// The length of one extent that the device zeroes, in bytes. Progress is reported after each.
const ZERO_STEP: u64 = 64 * MIB;

impl Image {
    /// An image that erases a disk of `size_bytes`, to be flashed like any other. The first MiB is
    /// zeros, whatever the way, so that nothing takes random bytes for a partition table.
    ///
    /// [`flash::erase`](crate::flash::erase) does all of it.
    ///
    /// # Errors
    /// [`ErrorKind::Host`]: the system has no random bytes.
    pub fn erasing(way: EraseWay, size_bytes: u64) -> Result<Self> {
        let key = (way == EraseWay::Random).then(random_key).transpose()?;
        let name = way.as_str();
        let bytes = Arc::new(GeneratedBytes { key, len: size_bytes });
        let info = ImageInfo {
            source_bytes: Some(size_bytes),
            disk_bytes: Some(size_bytes),
            erases: Some(way),
            ..ImageInfo::simulated(name, Format::Raw)
        };
        let head = usize::try_from(size_bytes).unwrap_or(HEAD_BYTES).min(HEAD_BYTES);
        Ok(Self {
            source: Source::new(Location::Custom(name.to_owned()), name, bytes),
            info,
            qcow2: None,
            member: None,
            pack: None,
            trailer: Trailer::default(),
            head: vec![0; head].into(),
            needs_digest: false,
        })
    }
}

fn random_key() -> Result<[u8; 32]> {
    let mut key = [0; 32];
    File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut key)).map_err(|e| {
        Error::new(ErrorKind::Host, "reading random bytes from /dev/urandom")
            .because(e)
            .hint("mount /dev, or erase the disk with zeros")
    })?;
    Ok(key)
}

/// Zeros, or the bytes that BLAKE3 makes of a key.
struct GeneratedBytes {
    key: Option<[u8; 32]>,
    len: u64,
}

impl GeneratedBytes {
    /// Fills `bytes`, which belong at `offset`, up to the end. Returns their number.
    fn fill(&self, bytes: &mut [u8], offset: u64) -> usize {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let n = bytes.len().min(left);
        let bytes = &mut bytes[..n];
        match &self.key {
            None => bytes.fill(0),
            Some(key) => {
                let mut stream = blake3::Hasher::new_keyed(key).finalize_xof();
                stream.set_position(offset);
                stream.fill(bytes);
                let head = HEAD_BYTES.saturating_sub(usize::try_from(offset).unwrap_or(HEAD_BYTES));
                bytes[..n.min(head)].fill(0);
            }
        }
        n
    }
}

impl ByteSource for GeneratedBytes {
    fn len_bytes(&self) -> Option<u64> {
        Some(self.len)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn stream(&self, offset: u64, _: &CancelToken) -> Result<Box<dyn Read + Send>> {
        let Self { key, len } = *self;
        Ok(Box::new(GeneratedStream { bytes: Self { key, len }, offset }))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64, _: &CancelToken) -> Result<usize> {
        Ok(self.fill(buf, offset))
    }
}

struct GeneratedStream {
    bytes: GeneratedBytes,
    offset: u64,
}

impl Read for GeneratedStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.bytes.fill(buf, self.offset);
        self.offset += n as u64;
        Ok(n)
    }
}

/// The extents of an image that erases. Those of `Zeros` are data: they are written, and the
/// device's own command is not used.
pub(super) struct EraseExtents {
    source: Source,
    way: EraseWay,
    context: ReadContext,
    position: u64,
    len: u64,
    /// A buffer of zeros, which all extents share.
    zeros: Option<Block>,
}

impl EraseExtents {
    pub(super) fn start(source: &Source, way: EraseWay, context: &ReadContext) -> Self {
        Self {
            source: source.clone(),
            way,
            context: context.clone(),
            position: 0,
            len: source.len_bytes().unwrap_or(0),
            zeros: None,
        }
    }

    fn data(&mut self) -> Result<Extent> {
        let offset = self.position;
        let left = usize::try_from(self.len - offset).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        if let Some(zeros) = &self.zeros {
            return Ok(Extent::Data { offset, block: zeros.slice(0..left) });
        }
        let mut buffer = self.context.pool.take(&self.context.cancel)?;
        if self.way == EraseWay::Zeros {
            buffer.fill(0);
            let zeros = self.zeros.insert(buffer.freeze(BUFFER_BYTES));
            return Ok(Extent::Data { offset, block: zeros.slice(0..left) });
        }
        let n = self.source.bytes.read_at(&mut buffer[..left], offset, &self.context.cancel)?;
        Ok(Extent::Data { offset, block: buffer.freeze(n) })
    }
}

impl ExtentReader for EraseExtents {
    fn next(&mut self) -> Result<Option<Extent>> {
        self.context.cancel.check()?;
        if self.position >= self.len {
            return Ok(None);
        }
        let (extent, len) = match self.way {
            EraseWay::Zeros | EraseWay::Random => {
                let extent = self.data()?;
                let Extent::Data { block, .. } = &extent else { return Ok(None) };
                let len = block.len() as u64;
                (extent, len)
            }
            EraseWay::Discard | EraseWay::NvmeFormat => {
                let len = (self.len - self.position).min(ZERO_STEP);
                (Extent::Zero { offset: self.position, len }, len)
            }
        };
        self.position += len;
        self.context.counts.source_bytes.fetch_add(len, Ordering::Relaxed);
        self.context.counts.decoded_bytes.fetch_add(len, Ordering::Relaxed);
        Ok(Some(extent))
    }

    fn digests(&self) -> ReadDigests {
        ReadDigests::default()
    }
}
