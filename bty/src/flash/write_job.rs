//! What a thread sends to the workers of a target.

use crate::extent::{Block, Extent};

/// What the workers of a target do with a part of the image.
pub(super) enum WriteJob {
    /// Write or zero it.
    Extent(Extent),
    /// Write those blocks of `block`, which belongs at `offset`, that the disk does not hold yet.
    Update { offset: u64, block: Block },
}
