//! tar: a sequence of files, each preceded by a header. Supports old (v7), POSIX and GNU archives,
//! long names, and sparse files of GNU tar.

use std::collections::VecDeque;
use std::io::{self, Read};

use ::tar::{GnuExtSparseHeader, GnuSparseHeader, Header, PaxExtensions};

use super::{
    ArchiveEntry, ENTRIES_MAX, Member, MemberPlace, ambiguous, choose, damaged, explain,
    find_named, is_image, too_many,
};
use crate::decode::Compression;
use crate::source::read_ahead::read_full;
use crate::{Error, ErrorKind, Result};

const BLOCK_BYTES: usize = 512;

/// Bounds for the description of a file: long names and POSIX headers in bytes, pieces of a sparse
/// file.
const META_BYTES_MAX: u64 = 1 << 20;
const PIECES_MAX: usize = 1 << 20;

/// The place of a member in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TarPlace {
    /// Number of regular files before it.
    index: usize,
    /// The rest of the archive was not searched yet; another image in it is an error.
    must_be_only: bool,
}

/// True when `head` begins with a header with a valid checksum.
pub(super) fn is_header(head: &[u8]) -> bool {
    head.first_chunk::<BLOCK_BYTES>().is_some_and(|block| block[0] != 0 && has_checksum(block))
}

/// The checksum is the sum of all bytes of the header, with spaces in place of the checksum itself.
fn has_checksum(block: &[u8; BLOCK_BYTES]) -> bool {
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(i, &b)| if (148..156).contains(&i) { 32 } else { u32::from(b) })
        .sum();
    Header::from_byte_slice(block).cksum().is_ok_and(|stated| stated == sum)
}

/// Finds the image in an archive. With `search_all`, reads the whole archive to detect other
/// images. Otherwise takes the first image; another one is detected while the image is read.
pub(super) fn find(
    unpacked: Box<dyn Read + Send>,
    compression: Option<Compression>,
    wanted: Option<&str>,
    search_all: bool,
) -> Result<Member> {
    let mut files = Files { inner: unpacked };
    let mut entries = Vec::new();
    let mut is_whole = true;
    while let Some(file) = files.next().map_err(read_error)? {
        if entries.len() == ENTRIES_MAX {
            return Err(too_many());
        }
        let entry = file.entry.clone();
        let is_match = match wanted {
            Some(wanted) => find_named(std::slice::from_ref(&entry), wanted).is_some(),
            None => !search_all && is_image(&entry.name),
        };
        entries.push(entry);
        if is_match {
            is_whole = false;
            break;
        }
        files.skip(file.packed_bytes).map_err(read_error)?;
    }
    let index = choose(&entries, wanted)?;
    let ArchiveEntry { name, size } = entries.swap_remove(index);
    let place = TarPlace { index, must_be_only: !is_whole && wanted.is_none() };
    Ok(Member { name, size, place: MemberPlace::Tar(place, compression) })
}

fn read_error(error: io::Error) -> Error {
    Error::from_io(ErrorKind::Format, "reading the tar archive", error)
}

impl TarPlace {
    pub(super) fn reader(self, unpacked: Box<dyn Read + Send>, name: &str) -> Box<dyn Read + Send> {
        let state = ReaderState::Before { left: self.index };
        Box::new(MemberReader {
            files: Files { inner: unpacked },
            place: self,
            name: name.to_owned(),
            state,
        })
    }
}

/// A regular file, whose data follows in the archive.
struct File {
    entry: ArchiveEntry,
    /// Length of its data in the archive, without padding.
    packed_bytes: u64,
    /// Pairs of a length of zeros and a length of data.
    pieces: VecDeque<(u64, u64)>,
}

/// Iterates over the regular files of an archive.
struct Files {
    inner: Box<dyn Read + Send>,
}

/// Metadata of a file that precedes its header.
#[derive(Default)]
struct ExtraMeta {
    name: Option<String>,
    size: Option<u64>,
    is_sparse: bool,
}

impl Files {
    /// The next regular file. The caller must have read or skipped the data of the previous one.
    fn next(&mut self) -> io::Result<Option<File>> {
        let mut extra = ExtraMeta::default();
        while let Some(block) = self.block()? {
            if block == [0; BLOCK_BYTES] {
                return Ok(None);
            }
            if !has_checksum(&block) {
                return Err(damaged("the checksum of a header differs").into());
            }
            let header = Header::from_byte_slice(&block);
            let kind = header.entry_type();
            let size = extra.size.map_or_else(|| header.entry_size(), Ok);
            let size = size.map_err(|e| explain(e, "a header does not give a size"))?;
            if kind.is_gnu_longname() {
                extra.name = Some(text(&self.meta(size)?));
            } else if kind.is_pax_local_extensions() {
                extra.read(&self.meta(size)?)?;
            } else if kind.is_gnu_longlink() || kind.is_pax_global_extensions() {
                self.meta(size)?;
            } else if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
                return self.file(header, std::mem::take(&mut extra), size).map(Some);
            } else {
                extra = ExtraMeta::default();
                // links, directories and devices have no data, even if their size is not 0
                let has_no_data = matches!(kind.as_byte(), b'1'..=b'6');
                self.skip(if has_no_data { 0 } else { size })?;
            }
        }
        Ok(None)
    }

    fn file(&mut self, header: &Header, extra: ExtraMeta, packed_bytes: u64) -> io::Result<File> {
        let name = extra.name.unwrap_or_else(|| text(&header.path_bytes()));
        if extra.is_sparse {
            let message = format!("{name} is a sparse file of a POSIX archive");
            return Err(Error::new(ErrorKind::Format, message)
                .hint("unpack the archive (tar -xf), and flash the image inside")
                .into());
        }
        let (size, pieces) = if header.entry_type().is_gnu_sparse() {
            self.sparse(header, packed_bytes)?
        } else {
            (packed_bytes, VecDeque::from([(0, packed_bytes)]))
        };
        Ok(File { entry: ArchiveEntry { name, size }, packed_bytes, pieces })
    }

    /// Reads the map of a sparse file, from its header and the blocks after it.
    fn sparse(
        &mut self,
        header: &Header,
        packed_bytes: u64,
    ) -> io::Result<(u64, VecDeque<(u64, u64)>)> {
        let Some(gnu) = header.as_gnu() else {
            return Err(damaged("a sparse file has no GNU header").into());
        };
        let size = gnu.real_size()?;
        let mut map = SparseMap::default();
        map.add(&gnu.sparse)?;
        let mut is_extended = gnu.is_extended();
        while is_extended {
            let Some(block) = self.block()? else { return Err(truncated()) };
            let mut more = GnuExtSparseHeader::new();
            more.as_mut_bytes().copy_from_slice(&block);
            map.add(more.sparse())?;
            is_extended = more.is_extended();
        }
        if map.end > size || map.data_bytes != packed_bytes {
            return Err(damaged("the map of a sparse file reaches beyond the file").into());
        }
        map.pieces.push_back((size - map.end, 0));
        Ok((size, map.pieces))
    }

    /// Reads one block; `None` at the end.
    fn block(&mut self) -> io::Result<Option<[u8; BLOCK_BYTES]>> {
        let mut block = [0; BLOCK_BYTES];
        match read_full(&mut self.inner, &mut block)? {
            0 => Ok(None),
            BLOCK_BYTES => Ok(Some(block)),
            _ => Err(truncated()),
        }
    }

    /// Reads metadata of the next file.
    fn meta(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > META_BYTES_MAX {
            return Err(damaged(format_args!("the headers of one file have {size} bytes")).into());
        }
        let mut bytes = Vec::new();
        if (&mut self.inner).take(size).read_to_end(&mut bytes)? as u64 != size {
            return Err(truncated());
        }
        self.skip_padding(size)?;
        Ok(bytes)
    }

    /// Skips data of `size` bytes and its padding.
    fn skip(&mut self, size: u64) -> io::Result<()> {
        self.discard(size)?;
        self.skip_padding(size)
    }

    fn skip_padding(&mut self, size: u64) -> io::Result<()> {
        let over = size % BLOCK_BYTES as u64;
        self.discard(if over == 0 { 0 } else { BLOCK_BYTES as u64 - over })
    }

    fn discard(&mut self, len: u64) -> io::Result<()> {
        if io::copy(&mut (&mut self.inner).take(len), &mut io::sink())? == len {
            Ok(())
        } else {
            Err(truncated())
        }
    }
}

impl ExtraMeta {
    /// Parses a POSIX extended header.
    fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        for pair in PaxExtensions::new(bytes) {
            let pair = pair.map_err(|e| explain(e, "an extended header cannot be read"))?;
            match pair.key_bytes() {
                b"path" => self.name = Some(text(pair.value_bytes())),
                b"size" => self.size = pair.value().ok().and_then(|value| value.parse().ok()),
                key if key.starts_with(b"GNU.sparse.") => self.is_sparse = true,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The map of a sparse file, while it is read.
#[derive(Default)]
struct SparseMap {
    pieces: VecDeque<(u64, u64)>,
    end: u64,
    data_bytes: u64,
}

impl SparseMap {
    fn add(&mut self, headers: &[GnuSparseHeader]) -> io::Result<()> {
        for header in headers.iter().filter(|header| !header.is_empty()) {
            let (offset, len) = (header.offset()?, header.length()?);
            let zeros = offset.checked_sub(self.end);
            let end = offset.checked_add(len);
            let (Some(zeros), Some(end), true) = (zeros, end, self.pieces.len() < PIECES_MAX)
            else {
                return Err(damaged("the map of a sparse file is out of order").into());
            };
            self.pieces.push_back((zeros, len));
            self.data_bytes += len;
            self.end = end;
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn truncated() -> io::Error {
    damaged("it ends early").into()
}

/// Reads one file, and then the rest of the archive, so that its checksums are verified too.
struct MemberReader {
    files: Files,
    place: TarPlace,
    name: String,
    state: ReaderState,
}

enum ReaderState {
    /// `left` regular files precede the member.
    Before {
        left: usize,
    },
    Inside(File),
    Behind,
    End,
}

impl MemberReader {
    /// Skips one file, or enters the member.
    fn seek(&mut self, left: usize) -> io::Result<ReaderState> {
        let Some(file) = self.files.next()? else {
            return Err(damaged("the image is no longer in it").into());
        };
        if left > 0 {
            self.files.skip(file.packed_bytes)?;
            return Ok(ReaderState::Before { left: left - 1 });
        }
        if file.entry.name != self.name {
            return Err(
                damaged(format_args!("{} is where {} was", file.entry.name, self.name)).into()
            );
        }
        Ok(ReaderState::Inside(file))
    }

    /// Reads to the end of the archive.
    fn read_rest(&mut self) -> io::Result<()> {
        while let Some(file) = self.files.next()? {
            if self.place.must_be_only && is_image(&file.entry.name) {
                let names = [self.name.as_str(), &file.entry.name];
                return Err(ambiguous(&super::list(names.into_iter())).into());
            }
            self.files.skip(file.packed_bytes)?;
        }
        io::copy(&mut self.files.inner, &mut io::sink()).map(drop)
    }
}

impl Read for MemberReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while !buf.is_empty() {
            self.state = match &mut self.state {
                ReaderState::Before { left } => {
                    let left = *left;
                    self.seek(left)?
                }
                ReaderState::Inside(file) => {
                    match read_piece(&mut self.files.inner, &mut file.pieces, buf)? {
                        Some(n) => return Ok(n),
                        None => {
                            let packed = file.packed_bytes;
                            self.files.skip_padding(packed)?;
                            ReaderState::Behind
                        }
                    }
                }
                ReaderState::Behind => {
                    self.read_rest()?;
                    ReaderState::End
                }
                ReaderState::End => return Ok(0),
            };
        }
        Ok(0)
    }
}

/// Reads from the first of `pieces` that is not used up; `None` when all are.
fn read_piece(
    inner: &mut dyn Read,
    pieces: &mut VecDeque<(u64, u64)>,
    buf: &mut [u8],
) -> io::Result<Option<usize>> {
    while let Some((zeros, data)) = pieces.front_mut() {
        let limit = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        if *zeros > 0 {
            let n = limit(*zeros);
            buf[..n].fill(0);
            *zeros -= n as u64;
            return Ok(Some(n));
        }
        if *data > 0 {
            let limit = limit(*data);
            let n = inner.read(&mut buf[..limit])?;
            if n == 0 {
                return Err(truncated());
            }
            *data -= n as u64;
            return Ok(Some(n));
        }
        pieces.pop_front();
    }
    Ok(None)
}
