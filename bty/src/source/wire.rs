//! The wire side of a stream: reads ahead on a thread of its own, counts, and digests on the way.

use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::digest::{Checksums, FileHasher};
use crate::image::Reading;
use crate::{CancelToken, Error, ErrorKind, Result, Source, threads};

/// Bytes read at once; a digest of one chunk takes about a millisecond.
const CHUNK_BYTES: usize = 1 << 20;

/// Chunks between the thread and the reader.
const CHUNKS_AHEAD: usize = 4;

/// A [`Read`] over all of a source, read ahead and digested. Ends cleanly only when the source did.
pub(crate) struct Wire {
    chunks: Receiver<io::Result<Vec<u8>>>,
    spent: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    is_over: bool,
    digest: WireDigest,
    cancel: CancelToken,
}

/// The digests of a [`Wire`], there once all of it was read.
pub(crate) type WireDigest = Arc<Mutex<Option<Checksums>>>;

impl Wire {
    /// Starts reading `source` from its start.
    pub(crate) fn start(source: &Source, reading: &Reading) -> Result<(Self, WireDigest)> {
        Self::start_at(source, 0, reading)
    }

    /// Starts reading `source` from `offset` on, which must allow that. Then the digest is of that
    /// part.
    pub(crate) fn start_at(
        source: &Source,
        offset: u64,
        reading: &Reading,
    ) -> Result<(Self, WireDigest)> {
        let stream = source.input.stream(offset, &reading.cancel)?;
        let (full, chunks) = bounded(CHUNKS_AHEAD);
        let (spent, empty) = bounded(CHUNKS_AHEAD + 2);
        let digest = WireDigest::default();
        let counts = Arc::clone(&reading.counts);
        let (result, hasher) = (Arc::clone(&digest), FileHasher::new(&source.promised));
        threads::start("bty-wire", move || {
            read_ahead(stream, hasher, &full, &empty, &counts.source_bytes, &result);
        })?;
        let cancel = reading.cancel.clone();
        let of_reader = Arc::clone(&digest);
        let this = Self {
            chunks,
            spent,
            current: Vec::new(),
            position: 0,
            is_over: false,
            digest: of_reader,
            cancel,
        };
        Ok((this, digest))
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let _ = self.spent.try_send(std::mem::take(&mut self.current));
        self.position = 0;
        match self.chunks.recv() {
            Ok(chunk) => self.current = chunk?,
            // the thread is gone without a word: only when it was told to stop
            Err(_) if self.cancel.is_cancelled() => return Err(Error::cancelled().into()),
            Err(_) if self.digest.lock().is_ok_and(|digest| digest.is_some()) => {
                self.is_over = true;
            }
            // an end without a digest is not the end of the source
            Err(_) => {
                return Err(
                    Error::new(ErrorKind::Host, "the thread that reads ahead is gone").into()
                );
            }
        }
        Ok(())
    }
}

impl Read for Wire {
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
    digest: &WireDigest,
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
            *digest.lock().expect("nobody panics holding it") = Some(hasher.finish());
            return;
        }
        chunk.truncate(n);
        hasher.update(&chunk);
        count.fetch_add(n as u64, Ordering::Relaxed);
        if full.send(Ok(chunk)).is_err() {
            return; // nobody reads any more
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
