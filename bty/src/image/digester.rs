//! Digests of a disk image, taken on a thread beside the reading: hashing is slower than the disk
//! often is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::digest::{Checksums, FileHasher};
use crate::extent::{Block, Extent};
use crate::{Error, ErrorKind, Result, threads};

/// Blocks that may wait to be hashed; each keeps a buffer of the pool.
const BLOCKS_BEHIND: usize = 3;

/// Zeros hashed between two looks at whether anybody still wants the digest.
const ZEROS_BYTES: usize = 1 << 20;

/// A digest that nobody needs may hold up the reading this long in any case, and beyond that by one
/// part in [`HELD_UP_PART`].
const HELD_UP_FREE: Duration = Duration::from_millis(500);
const HELD_UP_PART: u32 = 20;

/// Whether a digest must be there at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Somebody promised one, or asked for it.
    Required,
    /// It is only told, and given up when it takes more than a twentieth of the time.
    Spare,
}

enum Piece {
    Data(Block),
    Zeros(u64),
}

/// Hashes the extents of an image in the order of the disk.
pub(crate) struct Digester {
    need: Need,
    /// Dropped when the digest is given up.
    pieces: Option<Sender<Piece>>,
    result: Receiver<Checksums>,
    given_up: Arc<AtomicBool>,
    begun: Instant,
    held_up: Duration,
}

impl Digester {
    /// Starts the thread; the digests are those that `promised` has, and SHA-256.
    pub(crate) fn start(need: Need, promised: &Checksums) -> Result<Self> {
        let (pieces, inbox) = bounded(BLOCKS_BEHIND);
        let (give, result) = bounded(1);
        let given_up = Arc::new(AtomicBool::new(false));
        let (hasher, stop) = (FileHasher::new(promised), Arc::clone(&given_up));
        threads::start("bty-digest", move || {
            // fails only when nobody wants it any more
            let _ = hash(hasher, &inbox, &stop).map(|checksums| give.send(checksums));
        })?;
        let begun = Instant::now();
        Ok(Self { need, pieces: Some(pieces), result, given_up, begun, held_up: Duration::ZERO })
    }

    /// Adds the next extent of the image.
    pub(crate) fn add(&mut self, extent: &Extent) -> Result<()> {
        let piece = match extent {
            Extent::Data { block, .. } => Piece::Data(block.clone()),
            Extent::Zero { len, .. } => Piece::Zeros(*len),
        };
        let Some(pieces) = &self.pieces else { return Ok(()) };
        let waiting = Instant::now();
        let sent = match self.need {
            Need::Required => pieces.send(piece).map_err(drop),
            Need::Spare => pieces.send_timeout(piece, self.allowance()).map_err(drop),
        };
        self.held_up += waiting.elapsed();
        match (sent, self.need) {
            (Ok(()), _) => {}
            (Err(()), Need::Required) => return Err(gone()),
            (Err(()), Need::Spare) => self.give_up(),
        }
        Ok(())
    }

    /// The digests of all that was added; `None` when they were given up.
    pub(crate) fn finish(mut self) -> Result<Option<Checksums>> {
        if self.pieces.take().is_none() {
            return Ok(None);
        }
        match self.need {
            Need::Required => self.result.recv().map(Some).map_err(|_| gone()),
            Need::Spare => match self.result.recv_timeout(self.allowance()) {
                Ok(checksums) => Ok(Some(checksums)),
                Err(RecvTimeoutError::Timeout) => {
                    self.give_up();
                    Ok(None)
                }
                Err(RecvTimeoutError::Disconnected) => Err(gone()),
            },
        }
    }

    /// How long the reading may still be held up.
    fn allowance(&self) -> Duration {
        (HELD_UP_FREE + self.begun.elapsed() / HELD_UP_PART).saturating_sub(self.held_up)
    }

    fn give_up(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
        self.pieces = None;
    }
}

/// A reading that ends early wants no digest.
impl Drop for Digester {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Host, "the digest thread is gone")
}

fn hash(
    mut hasher: FileHasher,
    inbox: &Receiver<Piece>,
    given_up: &AtomicBool,
) -> Option<Checksums> {
    let zeros = vec![0; ZEROS_BYTES];
    for piece in inbox {
        match piece {
            Piece::Data(block) => hasher.update(&block),
            Piece::Zeros(mut left) => {
                while left > 0 && !given_up.load(Ordering::Relaxed) {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS_BYTES);
                    hasher.update(&zeros[..n]);
                    left -= n as u64;
                }
            }
        }
        if given_up.load(Ordering::Relaxed) {
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
        let mut digester = Digester::start(Need::Required, &Checksums::default()).unwrap();
        digester.add(&Extent::Zero { offset: 0, len: 5000 }).unwrap();
        assert_eq!(digester.finish().unwrap(), Some(Digest::of(&[0; 5000]).into()));
    }

    #[test]
    fn a_digest_that_nobody_needs_is_given_up_when_it_holds_up_the_reading() {
        // takes hours
        let hole = Extent::Zero { offset: 0, len: 1 << 50 };
        let begun = Instant::now();
        let mut digester = Digester::start(Need::Spare, &Checksums::default()).unwrap();
        for _ in 0..10 {
            digester.add(&hole).unwrap();
        }
        assert_eq!(digester.finish().unwrap(), None);
        let mut last = Digester::start(Need::Spare, &Checksums::default()).unwrap();
        last.add(&hole).unwrap();
        assert_eq!(last.finish().unwrap(), None);
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    }
}
