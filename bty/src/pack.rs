//! Packed images: zstd files whose parts can be read, checked and found on their own.
//!
//! [`pack`] writes one from any image. Every zstd program decodes it; its index lets bty fetch and
//! write only what a disk does not hold yet.
//!
//! ```no_run
//! use bty::image::OpenOptions;
//! use bty::pack::{PackOptions, pack};
//! use bty::{CancelToken, Client, Image};
//!
//! let cancel = CancelToken::new();
//! let image =
//!     Image::open(&Client::default(), "debian.qcow2", &OpenOptions::default(), &cancel)?;
//! let options = PackOptions::default();
//! let report = pack(&image, "debian.img.zst".as_ref(), &options, &(), &cancel)?;
//! println!("{} bytes, index sha256 {}", report.file_bytes, report.index_sha256);
//! # Ok::<(), bty::Error>(())
//! ```

mod check;
mod compress;
mod fetch;
mod find;
mod format;
mod index;
mod read;
mod write;

pub use check::{PackCheck, check};
pub(crate) use compress::block_hash;
pub(crate) use fetch::FrameFetcher;
pub use fetch::read_frames;
pub use find::find_index;
pub(crate) use find::{IndexSearch, search_index};
pub use format::BLOCK_BYTES;
pub use index::{PackFrame, PackIndex};
pub(crate) use read::PackedExtents;
pub use write::{PackOptions, PackReport, pack};

#[cfg(test)]
mod scripted;
#[cfg(test)]
mod tests;
