//! Computes digests of a disk image on a thread of its own, because hashing is often slower than
//! the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::digest::{Checksums, FileHasher};
use crate::extent::{Block, Extent};
use crate::{Error, ErrorKind, Result, threads};

/// Maximum number of blocks that wait to be hashed. Each holds a buffer of the pool.
const QUEUE_LEN: usize = 3;

/// Number of zero bytes hashed between two checks whether the digest was abandoned.
const ZEROS_BYTES: usize = 1 << 20;

/// An optional digest may delay reading by this much, plus the elapsed time divided by
/// [`DELAY_DIVISOR`].
const DELAY_FREE: Duration = Duration::from_millis(500);
const DELAY_DIVISOR: u32 = 20;

/// Whether a digest must be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DigestNeed {
    /// One is expected, or the caller needs it.
    Required,
    /// It is only reported, and is abandoned if it delays reading by more than a twentieth.
    Optional,
}

enum DigestInput {
    Data(Block),
    Zeros(u64),
}

/// Hashes the extents of an image in the order of the disk.
pub(crate) struct Digester {
    need: DigestNeed,
    /// `None` after the digest was abandoned.
    pieces: Option<Sender<DigestInput>>,
    result: Receiver<Checksums>,
    abandoned: Arc<AtomicBool>,
    started: Instant,
    delayed: Duration,
}

impl Digester {
    /// Starts the thread. It computes SHA-256, and SHA-512 if one is `expected`.
    pub(crate) fn start(need: DigestNeed, expected: &Checksums) -> Result<Self> {
        let (pieces, inbox) = bounded(QUEUE_LEN);
        let (give, result) = bounded(1);
        let abandoned = Arc::new(AtomicBool::new(false));
        let (hasher, stop) = (FileHasher::new(expected), Arc::clone(&abandoned));
        threads::start("bty-digest", move || {
            // fails only when the digester was dropped
            let _ = hash(hasher, &inbox, &stop).map(|checksums| give.send(checksums));
        })?;
        let started = Instant::now();
        Ok(Self { need, pieces: Some(pieces), result, abandoned, started, delayed: Duration::ZERO })
    }

    /// Adds the next extent of the image.
    pub(crate) fn add(&mut self, extent: &Extent) -> Result<()> {
        let piece = match extent {
            Extent::Data { block, .. } => DigestInput::Data(block.clone()),
            Extent::Zero { len, .. } => DigestInput::Zeros(*len),
        };
        let Some(pieces) = &self.pieces else { return Ok(()) };
        let waiting = Instant::now();
        let sent = match self.need {
            DigestNeed::Required => pieces.send(piece).map_err(drop),
            DigestNeed::Optional => pieces.send_timeout(piece, self.allowance()).map_err(drop),
        };
        self.delayed += waiting.elapsed();
        match (sent, self.need) {
            (Ok(()), _) => {}
            (Err(()), DigestNeed::Required) => return Err(gone()),
            (Err(()), DigestNeed::Optional) => self.abandon(),
        }
        Ok(())
    }

    /// The digests of all extents; `None` if they were abandoned.
    pub(crate) fn finish(mut self) -> Result<Option<Checksums>> {
        if self.pieces.take().is_none() {
            return Ok(None);
        }
        match self.need {
            DigestNeed::Required => self.result.recv().map(Some).map_err(|_| gone()),
            DigestNeed::Optional => match self.result.recv_timeout(self.allowance()) {
                Ok(checksums) => Ok(Some(checksums)),
                Err(RecvTimeoutError::Timeout) => {
                    self.abandon();
                    Ok(None)
                }
                Err(RecvTimeoutError::Disconnected) => Err(gone()),
            },
        }
    }

    /// How much longer the digest may delay reading.
    fn allowance(&self) -> Duration {
        (DELAY_FREE + self.started.elapsed() / DELAY_DIVISOR).saturating_sub(self.delayed)
    }

    fn abandon(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
        self.pieces = None;
    }
}

impl Drop for Digester {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Host, "the digest thread ended unexpectedly")
}

fn hash(
    mut hasher: FileHasher,
    inbox: &Receiver<DigestInput>,
    abandoned: &AtomicBool,
) -> Option<Checksums> {
    let zeros = vec![0; ZEROS_BYTES];
    for piece in inbox {
        match piece {
            DigestInput::Data(block) => hasher.update(&block),
            DigestInput::Zeros(mut left) => {
                while left > 0 && !abandoned.load(Ordering::Relaxed) {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS_BYTES);
                    hasher.update(&zeros[..n]);
                    left -= n as u64;
                }
            }
        }
        if abandoned.load(Ordering::Relaxed) {
            return None;
        }
    }
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    #[test]
    fn zeros_are_hashed_as_zeros() {
        let mut digester = Digester::start(DigestNeed::Required, &Checksums::default()).unwrap();
        digester.add(&Extent::Zero { offset: 0, len: 5000 }).unwrap();
        assert_eq!(digester.finish().unwrap(), Some(Digest::of(&[0; 5000]).into()));
    }

    #[test]
    fn an_optional_digest_is_abandoned_when_it_delays_the_reading() {
        // hashing it would take hours
        let hole = Extent::Zero { offset: 0, len: 1 << 50 };
        let started = Instant::now();
        let mut digester = Digester::start(DigestNeed::Optional, &Checksums::default()).unwrap();
        for _ in 0..10 {
            digester.add(&hole).unwrap();
        }
        assert_eq!(digester.finish().unwrap(), None);
        let mut last = Digester::start(DigestNeed::Optional, &Checksums::default()).unwrap();
        last.add(&hole).unwrap();
        assert_eq!(last.finish().unwrap(), None);
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    }
}
