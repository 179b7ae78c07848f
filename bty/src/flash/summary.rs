//! The result of reading a whole image: sizes, digests and the first MiB.

use crate::Result;
use crate::extent::{Extent, ReadDigests, zeroed};
use crate::flash::plan::cut_image_note;
use crate::image::foreign::{FOOTER_BYTES, is_vhd_footer};
use crate::image::{HEAD_BYTES, ImageInfo};
use crate::pack::PackIndex;

/// What one reading of an image learned about it. Sizes are bytes.
#[derive(Clone, Default)]
pub(super) struct ReadSummary {
    /// The first MiB, held back from the writers. Empty unless created by `with_head`.
    head: Vec<u8>,
    /// Size of the disk image.
    pub(super) disk_bytes: u64,
    pub(super) data_bytes: u64,
    pub(super) digests: ReadDigests,
    /// A digest was expected, and all expected digests match.
    pub(super) is_digest_checked: bool,
    /// The last extent so far ends with the footer of a Virtual PC disk.
    ends_in_footer: bool,
}

impl ReadSummary {
    /// Creates a summary that supports [`hold_back`](Self::hold_back).
    ///
    /// # Errors
    /// [`ErrorKind::Host`](crate::ErrorKind::Host) when there is no memory for the first MiB.
    pub(super) fn with_head() -> Result<Self> {
        Ok(Self { head: zeroed(HEAD_BYTES)?, ..Self::default() })
    }

    /// The summary of a packed image, of which not all was read. `head` is its first MiB.
    pub(super) fn of_packed(index: &PackIndex, head: &[u8], is_digest_checked: bool) -> Self {
        Self {
            head: head.to_vec(),
            disk_bytes: index.disk_bytes(),
            data_bytes: index.data_bytes(),
            is_digest_checked,
            ..Self::default()
        }
    }

    /// Adds `extent` to the sums. Extents must come in the order of the image.
    pub(super) fn count(&mut self, extent: &Extent) {
        match extent {
            Extent::Data { block, .. } => {
                self.disk_bytes += block.len() as u64;
                self.data_bytes += block.len() as u64;
                let footer = block.len().checked_sub(FOOTER_BYTES).map(|at| &block[at..]);
                self.ends_in_footer = footer.is_some_and(is_vhd_footer);
            }
            Extent::Zero { len, .. } => {
                self.disk_bytes += len;
                self.ends_in_footer = false;
            }
        }
    }

    /// Counts `extent`, keeps what belongs to the first MiB, and returns the rest.
    pub(super) fn hold_back(&mut self, extent: Extent) -> Option<Extent> {
        self.count(&extent);
        let held = HEAD_BYTES as u64;
        match extent {
            Extent::Data { offset, block } => {
                if offset >= held {
                    return Some(Extent::Data { offset, block });
                }
                #[allow(clippy::cast_possible_truncation)] // below one MiB
                let start = offset as usize;
                let kept = block.len().min(HEAD_BYTES - start);
                self.head[start..start + kept].copy_from_slice(&block[..kept]);
                (kept < block.len())
                    .then(|| Extent::Data { offset: held, block: block.slice(kept..block.len()) })
            }
            Extent::Zero { offset, len } => {
                let from = offset.max(held);
                let end = offset + len;
                (from < end).then(|| Extent::Zero { offset: from, len: end - from })
            }
        }
    }

    /// The held-back head: one MiB, or the whole image if that is smaller.
    pub(super) fn head(&self) -> &[u8] {
        let len = usize::try_from(self.disk_bytes).unwrap_or(usize::MAX).min(self.head.len());
        &self.head[..len]
    }

    /// Warnings about the image that require reading all of it.
    pub(super) fn notes(&self, info: &ImageInfo) -> Vec<String> {
        let mut notes = Vec::new();
        if let (None, Some(end)) = (info.disk_bytes, info.partitions_end())
            && end > self.disk_bytes
        {
            notes.push(cut_image_note(self.disk_bytes, end));
        }
        if self.ends_in_footer {
            notes.push(format!(
                "the image is a Virtual PC disk (vhd) of fixed size: its footer of {FOOTER_BYTES} \
                 bytes was written along, and does no harm"
            ));
        }
        notes
    }
}
