//! zip: the directory at its end locates each file, so that only one file needs to be read.
//!
//! ```text
//! local header: PK 03 04 | 26..28 length of the name | 28..30 length of the extra field
//!               | name | extra field | data                              little-endian
//! ```

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use ::zip::read::{ArchiveOffset, Config};
use ::zip::result::ZipError;
use ::zip::{CompressionMethod, ZipArchive};
use flate2::bufread::DeflateDecoder;

use super::{ArchiveEntry, ENTRIES_MAX, Member, MemberPlace, choose, damaged, explain, too_many};
use crate::{CancelToken, Error, ErrorKind, Result, Source};

/// Size of one read of the directory, in bytes. Over the network, each read is a request.
const BLOCK_BYTES: u64 = 256 << 10;

/// Maximum number of bytes that are read to find the file. A directory of ten thousand files takes
/// 2 MiB.
const DIRECTORY_BYTES_MAX: u64 = 64 << 20;

const LOCAL_HEADER_BYTES: usize = 30;

/// The place of a member in an archive, with its expected size and checksum.
#[derive(Clone, Debug)]
pub(super) struct ZipPlace {
    offset: u64,
    packed_bytes: u64,
    size: u64,
    crc: u32,
    is_deflated: bool,
}

/// A file as described by the directory.
struct DirectoryEntry {
    header_at: u64,
    method: CompressionMethod,
    is_encrypted: bool,
    packed_bytes: u64,
    size: u64,
    crc: u32,
}

/// Finds the image in `source`, which must be seekable.
pub(super) fn find(source: &Source, wanted: Option<&str>, cancel: &CancelToken) -> Result<Member> {
    let (mut window, entries, mut listed) = read_directory(BlockReader::new(source, cancel)?)?;
    let chosen = choose(&entries, wanted)?;
    let ArchiveEntry { name, size } = entries[chosen].clone();
    let found = listed.swap_remove(chosen);
    let place = locate(&mut window, &found, &name)?;
    Ok(Member { name, size, place: MemberPlace::Zip(place) })
}

fn read_directory(
    window: BlockReader<'_>,
) -> Result<(BlockReader<'_>, Vec<ArchiveEntry>, Vec<DirectoryEntry>)> {
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let archive = ZipArchive::with_config(config, window).map_err(directory_error)?;
    let (mut entries, mut listed) = (Vec::new(), Vec::new());
    for i in 0..archive.len() {
        let file = archive.by_index_data(i).map_err(directory_error)?;
        if !file.is_file() {
            continue;
        }
        if entries.len() == ENTRIES_MAX {
            return Err(too_many());
        }
        let name = file.name().map_err(directory_error)?.into_owned();
        entries.push(ArchiveEntry { name, size: file.size() });
        listed.push(DirectoryEntry {
            header_at: file.header_start(),
            method: file.compression(),
            is_encrypted: file.encrypted(),
            packed_bytes: file.compressed_size(),
            size: file.size(),
            crc: file.crc32(),
        });
    }
    Ok((archive.into_inner(), entries, listed))
}

fn directory_error(error: ZipError) -> Error {
    match error {
        ZipError::Io(error) => match Error::unwrap_io(error) {
            Ok(error) => error,
            Err(error) => damaged("its directory cannot be read").because(error),
        },
        other => damaged("its directory cannot be read").because(other),
    }
}

/// Finds the data of `file`, which follows its local header.
fn locate(window: &mut BlockReader<'_>, file: &DirectoryEntry, name: &str) -> Result<ZipPlace> {
    let refused = |why: &str| {
        Err(Error::new(ErrorKind::Format, format!("{name} in the zip archive {why}"))
            .hint("unpack the archive, and flash the image inside"))
    };
    if file.is_encrypted {
        return refused("is encrypted");
    }
    let is_deflated = match file.method {
        CompressionMethod::Stored => false,
        CompressionMethod::Deflated => true,
        _ => return refused("is compressed by a method that is not supported"),
    };
    let mut header = [0; LOCAL_HEADER_BYTES];
    window.position = file.header_at;
    window
        .read_exact(&mut header)
        .map_err(|e| Error::from_io(ErrorKind::Format, "reading the zip archive", e))?;
    if !header.starts_with(b"PK\x03\x04") {
        return Err(damaged(format_args!("{name} is not where its directory says")));
    }
    let behind = u64::from(u16::from_le_bytes([header[26], header[27]]))
        + u64::from(u16::from_le_bytes([header[28], header[29]]));
    let offset = file.header_at.saturating_add(LOCAL_HEADER_BYTES as u64 + behind);
    let end = offset.checked_add(file.packed_bytes).filter(|&end| end <= window.len_bytes);
    if end.is_none() {
        return Err(damaged(format_args!("{name} reaches beyond its end")));
    }
    Ok(ZipPlace {
        offset,
        packed_bytes: file.packed_bytes,
        size: file.size,
        crc: file.crc,
        is_deflated,
    })
}

impl ZipPlace {
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn reader(
        &self,
        wire: Box<dyn Read + Send>,
        from_start: bool,
        name: &str,
    ) -> Box<dyn Read + Send> {
        let skip = if from_start { self.offset } else { 0 };
        let packed = SkipStart { inner: wire, skip }.take(self.packed_bytes);
        let inner: Box<dyn Read + Send> = if self.is_deflated {
            Box::new(DeflateDecoder::new(BufReader::with_capacity(64 << 10, packed)))
        } else {
            Box::new(packed)
        };
        let checksum = crc32fast::Hasher::new();
        Box::new(CheckedReader {
            inner,
            checksum,
            left: self.size,
            crc: self.crc,
            name: name.to_owned(),
        })
    }
}

/// Skips the first bytes of a reader.
struct SkipStart<R> {
    inner: R,
    skip: u64,
}

impl<R: Read> Read for SkipStart<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.skip > 0 {
            let n = io::copy(&mut (&mut self.inner).take(self.skip), &mut io::sink())?;
            if n == 0 {
                return Ok(0);
            }
            self.skip -= n;
        }
        self.inner.read(buf)
    }
}

/// Ends cleanly only when length and checksum match the directory.
struct CheckedReader {
    inner: Box<dyn Read + Send>,
    checksum: crc32fast::Hasher,
    left: u64,
    crc: u32,
    name: String,
}

impl Read for CheckedReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let n = self
            .inner
            .read(buf)
            .map_err(|e| explain(e, format_args!("{} cannot be decoded", self.name)))?;
        if n as u64 > self.left {
            return Err(
                damaged(format_args!("{} is longer than its directory says", self.name)).into()
            );
        }
        self.left -= n as u64;
        self.checksum.update(&buf[..n]);
        if n == 0 && self.left > 0 {
            return Err(
                damaged(format_args!("{} is shorter than its directory says", self.name)).into()
            );
        }
        if n == 0 && self.checksum.clone().finalize() != self.crc {
            return Err(damaged(format_args!("the checksum of {} differs", self.name)).into());
        }
        Ok(n)
    }
}

/// Random access to a source by blocks, with a limit.
struct BlockReader<'a> {
    source: &'a Source,
    cancel: &'a CancelToken,
    len_bytes: u64,
    position: u64,
    block: Vec<u8>,
    block_at: u64,
    /// Number of bytes that may still be read.
    left: u64,
}

impl<'a> BlockReader<'a> {
    fn new(source: &'a Source, cancel: &'a CancelToken) -> Result<Self> {
        let len_bytes = source.len_bytes().ok_or_else(|| damaged("its length is not known"))?;
        let (block, left) = (Vec::new(), DIRECTORY_BYTES_MAX);
        Ok(Self { source, cancel, len_bytes, position: 0, block, block_at: 0, left })
    }

    fn fetch(&mut self) -> Result<()> {
        if self.left < BLOCK_BYTES {
            return Err(too_many());
        }
        self.left -= BLOCK_BYTES;
        self.block_at = self.position - self.position % BLOCK_BYTES;
        let len = BLOCK_BYTES.min(self.len_bytes - self.block_at);
        self.block.resize(usize::try_from(len).unwrap_or(0), 0);
        let n = self.source.read_at(&mut self.block, self.block_at, self.cancel)?;
        self.block.truncate(n);
        Ok(())
    }
}

impl Read for BlockReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.len_bytes {
            return Ok(0);
        }
        let inside = |w: &Self| {
            usize::try_from(w.position.checked_sub(w.block_at)?).ok().filter(|&i| i < w.block.len())
        };
        if inside(self).is_none() {
            self.fetch()?;
        }
        let Some(at) = inside(self) else { return Ok(0) };
        let n = buf.len().min(self.block.len() - at);
        buf[..n].copy_from_slice(&self.block[at..at + n]);
        self.position += n as u64;
        Ok(n)
    }
}

impl Seek for BlockReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len_bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
