//! gzip: members one after another, [RFC 1952](https://www.rfc-editor.org/rfc/rfc1952).

use std::io::{self, Read};

use flate2::bufread::GzDecoder;

use super::{Compression, Wire, damaged, trailing, truncated};

/// Decodes gzip.
pub(super) struct Gzip {
    state: State,
}

enum State {
    /// Between members; `is_first` until one was read.
    Between {
        wire: Wire,
        is_first: bool,
    },
    Member(Box<GzDecoder<Wire>>),
    /// Only while one state becomes the next.
    Gone,
}

impl Gzip {
    pub(super) fn new(wire: Wire) -> Self {
        Self { state: State::Between { wire, is_first: true } }
    }
}

impl Read for Gzip {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match &mut self.state {
                State::Between { wire, is_first } => {
                    if !member_follows(wire, *is_first)? {
                        return Ok(0);
                    }
                    if let State::Between { wire, .. } = std::mem::replace(&mut self.state, State::Gone) {
                        self.state = State::Member(Box::new(GzDecoder::new(wire)));
                    }
                }
                State::Member(member) => match member.read(buf) {
                    Ok(0) => {
                        if let State::Member(member) = std::mem::replace(&mut self.state, State::Gone) {
                            self.state = State::Between { wire: member.into_inner(), is_first: false };
                        }
                    }
                    Ok(n) => return Ok(n),
                    Err(e) => return Err(explain(e, member.get_ref())),
                },
                State::Gone => return Err(io::Error::other("the gzip decoder has no state")),
            }
        }
    }
}

/// True when a member follows, false at the end. Zeros up to the end are padding, as for gzip(1): tapes and
/// fixed-size transfers leave them behind.
fn member_follows(wire: &mut Wire, is_first: bool) -> io::Result<bool> {
    const MAGIC: [u8; 2] = [0x1f, 0x8b];
    let head = wire.peek(2)?;
    if head.starts_with(&MAGIC) {
        return Ok(true);
    }
    if is_first {
        return Err(truncated(Compression::Gzip, wire.offset()).into());
    }
    loop {
        let there = wire.peek(1)?;
        let zeros = there.iter().take_while(|&&byte| byte == 0).count();
        let all_zero = zeros == there.len();
        let at_end = there.is_empty();
        io::BufRead::consume(wire, zeros);
        if at_end {
            return Ok(false);
        }
        if !all_zero {
            return Err(trailing(Compression::Gzip, wire.offset()).into());
        }
    }
}

fn explain(error: io::Error, wire: &Wire) -> io::Error {
    if wire.has_failed() {
        error
    } else if error.kind() == io::ErrorKind::UnexpectedEof {
        truncated(Compression::Gzip, wire.offset()).into()
    } else {
        damaged(Compression::Gzip, wire.offset(), error).into()
    }
}
