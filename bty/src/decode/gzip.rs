//! gzip: a sequence of members, [RFC 1952](https://www.rfc-editor.org/rfc/rfc1952).
//!
//! Headers and trailers are parsed here, so that the checksum can be computed by the fastest
//! implementation.
//!
//! ```text
//! 0..2 magic 1f 8b | 2 method, 8 | 3 flags | 4..8 time | 8 extra flags | 9 system
//! flags: 2 header checksum u16 | 4 extra field, u16 length | 8 name | 16 comment
//!        (name and comment end with 0)
//! deflate data | CRC-32 u32 | size modulo 4 GiB u32                              little-endian
//! ```

use std::io::{self, BufRead, Read};

use flate2::{Decompress, FlushDecompress, Status};

use super::{CompressedInput, Compression, damaged, refused, truncated};

/// Maximum number of bytes inflated at once, so that they are still cached when the checksum is
/// computed.
const STEP_BYTES: usize = 512 << 10;

pub(super) struct Gzip {
    wire: CompressedInput,
    inflater: Decompress,
    checksum: crc32fast::Hasher,
    member_bytes: u64,
    state: GzipState,
}

enum GzipState {
    /// Between members. `is_first` before the first one.
    Between {
        is_first: bool,
    },
    Member,
}

impl Gzip {
    pub(super) fn new(wire: CompressedInput) -> Self {
        Self {
            wire,
            inflater: Decompress::new(false),
            checksum: crc32fast::Hasher::new(),
            member_bytes: 0,
            state: GzipState::Between { is_first: true },
        }
    }

    fn begin_member(&mut self) -> io::Result<()> {
        read_header(&mut self.wire)?;
        self.inflater.reset(false);
        self.checksum = crc32fast::Hasher::new();
        self.member_bytes = 0;
        self.state = GzipState::Member;
        Ok(())
    }

    /// Inflates part of a member. Returns 0 only at its end.
    fn inflate(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let limit = buf.len().min(STEP_BYTES);
        let buf = &mut buf[..limit];
        loop {
            let offset = self.wire.offset();
            let input = self.wire.peek(1)?;
            let is_at_end = input.is_empty();
            let (before_in, before_out) = (self.inflater.total_in(), self.inflater.total_out());
            let status = self
                .inflater
                .decompress(input, buf, FlushDecompress::None)
                .map_err(|e| damaged(Compression::Gzip, offset, e))?;
            let consumed = (self.inflater.total_in() - before_in) as usize;
            let produced = (self.inflater.total_out() - before_out) as usize;
            self.wire.consume(consumed);
            self.checksum.update(&buf[..produced]);
            self.member_bytes += produced as u64;
            if status == Status::StreamEnd {
                self.end_member()?;
                return Ok(produced);
            }
            if produced > 0 {
                return Ok(produced);
            }
            if is_at_end {
                return Err(truncated(Compression::Gzip, offset).into());
            }
        }
    }

    fn end_member(&mut self) -> io::Result<()> {
        let offset = self.wire.offset();
        let mut trailer = Vec::new();
        if !self.wire.take_into(&mut trailer, 8)? {
            return Err(truncated(Compression::Gzip, offset).into());
        }
        let checksum = std::mem::take(&mut self.checksum).finalize().to_le_bytes();
        let size = self.member_bytes.to_le_bytes();
        if trailer[..4] != checksum || trailer[4..] != size[..4] {
            return Err(
                damaged(Compression::Gzip, offset, "its checksum or its size differs").into()
            );
        }
        self.state = GzipState::Between { is_first: false };
        Ok(())
    }
}

impl Read for Gzip {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.state {
                GzipState::Between { is_first } => {
                    if !member_follows(&mut self.wire, is_first)? {
                        return Ok(0);
                    }
                    self.begin_member()?;
                }
                GzipState::Member => match self.inflate(buf)? {
                    0 => {} // the end of a member
                    n => return Ok(n),
                },
            }
        }
    }
}

/// Reads the header of a member.
fn read_header(wire: &mut CompressedInput) -> io::Result<()> {
    const CHECKSUM: u8 = 2;
    const EXTRA: u8 = 4;
    const TEXTS: [u8; 2] = [8, 16];
    let start = wire.offset();
    let mut header = MemberHeader { wire, checksum: crc32fast::Hasher::new() };
    let fixed = header.take::<10>()?;
    let flags = fixed[3];
    if fixed[2] != 8 || flags & 0xe0 != 0 {
        return Err(refused(
            Compression::Gzip,
            start,
            "its header has an unknown method or unknown flags",
        )
        .hint("fetch the image again; if it is intended, recompress it with gzip")
        .into());
    }
    if flags & EXTRA != 0 {
        for _ in 0..u16::from_le_bytes(header.take()?) {
            header.take::<1>()?;
        }
    }
    for _ in TEXTS.iter().filter(|&&text| flags & text != 0) {
        while header.take::<1>()? != [0] {}
    }
    if flags & CHECKSUM != 0 {
        let computed = header.checksum.clone().finalize().to_le_bytes();
        if header.take::<2>()? != computed[..2] {
            return Err(
                damaged(Compression::Gzip, start, "the checksum of its header differs").into()
            );
        }
    }
    Ok(())
}

/// Reads the fields of a header, and computes their checksum.
struct MemberHeader<'a> {
    wire: &'a mut CompressedInput,
    checksum: crc32fast::Hasher,
}

impl MemberHeader<'_> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let offset = self.wire.offset();
        let Some(&bytes) = self.wire.peek(N)?.first_chunk::<N>() else {
            return Err(truncated(Compression::Gzip, offset).into());
        };
        self.wire.consume(N);
        self.checksum.update(&bytes);
        Ok(bytes)
    }
}

/// True when a member follows, false at the end. Like gzip(1), accepts zeros up to the end as
/// padding: tapes and fixed-size transfers produce them.
fn member_follows(wire: &mut CompressedInput, is_first: bool) -> io::Result<bool> {
    const MAGIC: [u8; 2] = [0x1f, 0x8b];
    let head = wire.peek(2)?;
    if head.starts_with(&MAGIC) {
        return Ok(true);
    }
    if is_first {
        return Err(truncated(Compression::Gzip, wire.offset()).into());
    }
    loop {
        let available = wire.peek(1)?;
        let zeros = available.iter().take_while(|&&byte| byte == 0).count();
        let all_zero = zeros == available.len();
        let at_end = available.is_empty();
        wire.consume(zeros);
        if at_end {
            return Ok(false);
        }
        if !all_zero {
            return wire.take_trailer(Compression::Gzip).map(|()| false);
        }
    }
}
