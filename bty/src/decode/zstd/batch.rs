//! Whole frames that are decoded together, as one [`Job`].

use zstd::zstd_safe::{DCtx, get_error_name};

use super::super::parallel::{Job, fill_up};
use super::super::{Compression, damaged};
use super::BATCH_BYTES;
use crate::{Error, ErrorKind};

#[derive(Default)]
pub(super) struct FrameBatch {
    /// The frames, end to end.
    pub(super) encoded: Vec<u8>,
    frames: Vec<WholeFrame>,
}

struct WholeFrame {
    len: usize,
    decoded_max: u64,
    wire_offset: u64,
}

impl FrameBatch {
    /// Completes the frame whose bytes are those of `encoded` from `start` on.
    pub(super) fn end_frame(&mut self, start: usize, decoded_max: u64, wire_offset: u64) {
        let len = self.encoded.len() - start;
        self.frames.push(WholeFrame { len, decoded_max, wire_offset });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.encoded.len() as u64 >= BATCH_BYTES || self.decoded_max() >= BATCH_BYTES
    }

    pub(super) fn decoded_max(&self) -> u64 {
        self.frames.iter().map(|frame| frame.decoded_max).sum()
    }
}

impl Job for FrameBatch {
    type Decoder = ZstdContext;

    fn capacity(&self) -> u64 {
        self.encoded.capacity() as u64
    }

    fn clear(&mut self) {
        self.encoded.clear();
        self.frames.clear();
    }

    fn decode(&mut self, context: &mut ZstdContext, out: &mut Vec<u8>) -> Result<(), Error> {
        let (mut read, mut filled) = (0, 0);
        let result = fill_up(out, self.decoded_max()).and_then(|()| {
            self.frames.iter().try_for_each(|frame| {
                let encoded = &self.encoded[read..read + frame.len];
                // cannot fail: the sum fits a usize
                let max = usize::try_from(frame.decoded_max).unwrap_or(0);
                let place = &mut out[filled..filled + max];
                let len = context.get()?.decompress(place, encoded).map_err(|code| {
                    damaged(Compression::Zstd, frame.wire_offset, get_error_name(code))
                })?;
                read += frame.len;
                filled += len;
                Ok(())
            })
        });
        out.truncate(filled);
        result
    }
}

/// The decoder of one thread.
#[derive(Default)]
pub(super) struct ZstdContext(Option<DCtx<'static>>);

impl ZstdContext {
    fn get(&mut self) -> Result<&mut DCtx<'static>, Error> {
        if self.0.is_none() {
            self.0 = DCtx::try_create();
        }
        self.0.as_mut().ok_or_else(|| {
            Error::new(ErrorKind::Host, "starting the zstd decoder").because("out of memory")
        })
    }
}
