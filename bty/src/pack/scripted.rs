//! A source whose replies are scripted, for tests.

use std::io::{Cursor, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::source::{ByteSource, RangeRead, RangeReader};
use crate::{CancelToken, Error, Location, Result, Source};

/// The ranges that were requested, in the order of the requests.
pub(super) type Requests = Arc<Mutex<Vec<Range<u64>>>>;

/// What a request gets from a [`Scripted`] source.
#[derive(Clone, Copy)]
pub(super) enum RangeReply {
    Range,
    /// The whole file, after this many bytes of the range.
    Whole(usize),
    /// The range, which ends after this many bytes.
    Short(usize),
    /// Nothing, until it is cancelled.
    Hang,
}

/// A source whose requests are recorded, and answered as `script` says.
struct Scripted {
    file: Vec<u8>,
    script: Box<dyn Fn(usize) -> RangeReply + Send + Sync>,
    requests: Requests,
}

/// A source of `file`, and its requests. `script` answers them, counted from 0.
pub(super) fn scripted(
    file: &[u8],
    script: impl Fn(usize) -> RangeReply + Send + Sync + 'static,
) -> (Source, Requests) {
    let requests = Requests::default();
    let (file, script) = (file.to_vec(), Box::new(script));
    let scripted = Scripted { file, script, requests: Arc::clone(&requests) };
    (Source::new(Location::File("a.img.zst".into()), "a", Arc::new(scripted)), requests)
}

impl ByteSource for Scripted {
    fn len_bytes(&self) -> Option<u64> {
        Some(self.file.len() as u64)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn stream(&self, _: u64, _: &CancelToken) -> Result<Box<dyn Read + Send>> {
        panic!("only ranges are read")
    }

    fn read_at(&self, _: &mut [u8], _: u64, _: &CancelToken) -> Result<usize> {
        panic!("only ranges are read")
    }

    fn range(&self, range: Range<u64>, cancel: &CancelToken) -> Result<Box<dyn RangeReader>> {
        let n = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(range.clone());
            requests.len() - 1
        };
        let part = &self.file[usize::try_from(range.start).unwrap()..][..];
        let part = &part[..usize::try_from(range.end - range.start).unwrap()];
        let (part, whole) = match (self.script)(n) {
            RangeReply::Range => (part, None),
            RangeReply::Short(len) => (&part[..len], None),
            RangeReply::Whole(after) => (&part[..after], Some(Cursor::new(self.file.clone()))),
            RangeReply::Hang => {
                while !cancel.is_cancelled() {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
                return Err(Error::cancelled());
            }
        };
        Ok(Box::new(ScriptedRange { part: Cursor::new(part.to_vec()), whole, is_whole: false }))
    }
}

struct ScriptedRange {
    part: Cursor<Vec<u8>>,
    whole: Option<Cursor<Vec<u8>>>,
    is_whole: bool,
}

impl RangeReader for ScriptedRange {
    fn read(&mut self, buf: &mut [u8]) -> Result<RangeRead> {
        // odd lengths, as networks have
        let len = buf.len().min(10_007);
        let n = if self.is_whole { 0 } else { self.part.read(&mut buf[..len]).unwrap() };
        match &mut self.whole {
            Some(_) if n == 0 && !self.is_whole => {
                self.is_whole = true;
                Ok(RangeRead::FromStart)
            }
            Some(whole) if n == 0 => Ok(RangeRead::Bytes(whole.read(&mut buf[..len]).unwrap())),
            _ => Ok(RangeRead::Bytes(n)),
        }
    }
}
