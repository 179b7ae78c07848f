//! TEMPORARY
use super::index::PackIndex;
use super::read::{decode_frame, frame_error};
use crate::read_context::ReadContext;
use crate::{CancelToken, Error, ErrorKind, Result, Source};
use std::sync::Arc;
use zstd::bulk::Decompressor;
pub(crate) struct FrameFetcher {
    source: Source,
    index: Arc<PackIndex>,
    frames: std::vec::IntoIter<u32>,
    cancel: CancelToken,
    context: ReadContext,
}
impl FrameFetcher {
    pub(crate) fn start(
        source: &Source,
        index: &Arc<PackIndex>,
        frames: Vec<u32>,
        context: &ReadContext,
    ) -> Result<Self> {
        Ok(Self {
            source: source.clone(),
            index: index.clone(),
            frames: frames.into_iter(),
            cancel: context.cancel.clone(),
            context: context.clone(),
        })
    }
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Vec<u8>)>> {
        let Some(n) = self.frames.next() else { return Ok(None) };
        let frame = &self.index.frames()[n as usize];
        let mut enc = vec![0; frame.file_bytes as usize];
        self.source.read_at(&mut enc, frame.file_offset, &self.cancel)?;
        self.context
            .counts
            .source_bytes
            .fetch_add(enc.len() as u64, std::sync::atomic::Ordering::Relaxed);
        let mut dec = vec![0; frame.disk_bytes as usize];
        let mut d = Decompressor::new().map_err(|e| Error::from_io(ErrorKind::Host, "x", e))?;
        decode_frame(frame, &enc, &mut dec, &mut d)
            .map_err(|why| frame_error(&self.source.location().to_string(), frame, why))?;
        Ok(Some((n, dec)))
    }
}
