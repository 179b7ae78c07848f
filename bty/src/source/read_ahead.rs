//! Reads a source ahead on a thread of its own, counts the bytes, and computes their digests.

use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::digest::{Checksums, FileHasher};
use crate::read_context::ReadContext;
use crate::source::Source;
use crate::{CancelToken, Error, ErrorKind, Result, threads};

/// Bytes read at once. Hashing one chunk takes about a millisecond.
const CHUNK_BYTES: usize = 1 << 20;

/// Maximum number of chunks between the thread and the reader.
const CHUNKS_AHEAD: usize = 4;

/// Reads a source through a thread that reads ahead. Ends cleanly only when the source did.
pub(crate) struct ReadAhead {
    chunks: Receiver<io::Result<Vec<u8>>>,
    spent: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    is_over: bool,
    digest: PendingDigests,
    cancel: CancelToken,
}

/// The digests of the bytes of a [`ReadAhead`]; `None` until it was read to its end.
pub(crate) type PendingDigests = Arc<Mutex<Option<Checksums>>>;

impl ReadAhead {
    /// Starts reading `source` from its start.
    pub(crate) fn start(source: &Source, context: &ReadContext) -> Result<(Self, PendingDigests)> {
        Self::start_at(source, 0, context)
    }

    /// Starts reading `source`, which must be seekable, from `offset` on. The digests are those of
    /// this part.
    pub(crate) fn start_at(
        source: &Source,
        offset: u64,
        context: &ReadContext,
    ) -> Result<(Self, PendingDigests)> {
        let stream = source.bytes.stream(offset, &context.cancel)?;
        let (full, chunks) = bounded(CHUNKS_AHEAD);
        // two more than can be in `full`: the one being filled, and the one being read
        let (spent, empty) = bounded(CHUNKS_AHEAD + 2);
        let digest = PendingDigests::default();
        let counts = Arc::clone(&context.counts);
        let (result, hasher) = (Arc::clone(&digest), FileHasher::new(&source.expected));
        threads::start("bty-wire", move || {
            read_ahead(stream, hasher, &full, &empty, &counts.source_bytes, &result);
        })?;
        let cancel = context.cancel.clone();
        let this = Self {
            chunks,
            spent,
            current: Vec::new(),
            position: 0,
            is_over: false,
            digest: Arc::clone(&digest),
            cancel,
        };
        Ok((this, digest))
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let _ = self.spent.try_send(std::mem::take(&mut self.current));
        self.position = 0;
        match self.chunks.recv() {
            Ok(chunk) => self.current = chunk?,
            // the thread ends without a result only after a cancel
            Err(_) if self.cancel.is_cancelled() => return Err(Error::cancelled().into()),
            Err(_) if self.digest.lock().is_ok_and(|digest| digest.is_some()) => {
                self.is_over = true;
            }
            // without a digest, this is not the end of the source
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::Host,
                    "the thread that reads ahead ended unexpectedly",
                )
                .into());
            }
        }
        Ok(())
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.position == self.current.len() && !self.is_over {
            self.next_chunk()?;
        }
        let rest = &self.current[self.position..];
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        self.position += n;
        Ok(n)
    }
}

fn read_ahead(
    mut stream: Box<dyn Read + Send>,
    mut hasher: FileHasher,
    full: &Sender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
    count: &std::sync::atomic::AtomicU64,
    digest: &PendingDigests,
) {
    loop {
        let mut chunk = empty.try_recv().unwrap_or_default();
        chunk.resize(CHUNK_BYTES, 0);
        let n = match read_full(&mut stream, &mut chunk) {
            Ok(n) => n,
            Err(error) => {
                let _ = full.send(Err(error));
                return;
            }
        };
        if n == 0 {
            *digest.lock().expect("no holder panics") = Some(hasher.finish());
            return;
        }
        chunk.truncate(n);
        hasher.update(&chunk);
        count.fetch_add(n as u64, Ordering::Relaxed);
        if full.send(Ok(chunk)).is_err() {
            return; // the reader was dropped
        }
    }
}

/// Reads until `buf` is full or the stream ends.
pub(crate) fn read_full(stream: &mut dyn Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match stream.read(&mut buf[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
