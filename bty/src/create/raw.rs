//! Writes a raw image as a sparse file.

use super::Sink;
use super::part::PartFile;
use crate::Result;

pub(super) struct RawSink<'a>(&'a PartFile);

impl<'a> RawSink<'a> {
    pub(super) fn start(part: &'a PartFile, bytes: u64) -> Result<Self> {
        part.file.set_len(bytes).map_err(|e| part.failed("making room for", e))?;
        Ok(Self(part))
    }
}

impl Sink for RawSink<'_> {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn zeros(&mut self, _offset: u64, _len: u64) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
