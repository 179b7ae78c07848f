//! Images: recognizes the format of a source from its bytes, and reads the extents of its disk.
//!
//! [`Image::open`] reads only the beginning of a source (and the header of a qcow2), so it is quick
//! even for a remote image of many gigabytes. It finds images in zip and tar archives. It refuses,
//! with a hint, anything that cannot be written to a disk: another kind of archive, another virtual
//! disk format, a web page.
//!
//! ```no_run
//! use bty::image::OpenOptions;
//! use bty::{CancelToken, Client, Image};
//!
//! let (client, cancel) = (Client::default(), CancelToken::new());
//! let image = Image::open(&client, "boards.tar.xz#rpi.img", &OpenOptions::default(), &cancel)?;
//! println!("{}: {}", image.info().name, image.info().summary());
//! let contents = image.read_fully(&(), &cancel)?; // also compares all expected digests
//! println!("{} bytes, {} of them data", contents.disk_bytes, contents.data_bytes);
//! # Ok::<(), bty::Error>(())
//! ```

use std::sync::Arc;

use crate::Source;
use crate::decode::Trailer;
use crate::image::archive::Member;
use crate::image::qcow2::Qcow2;
use crate::pack::PackIndex;

mod archive;
mod digester;
mod digests;
pub mod directory;
mod erase;
pub(crate) mod foreign;
mod generated;
mod head;
mod info;
pub mod name;
mod open;
pub(crate) mod ordered;
#[cfg_attr(not(feature = "qcow2"), path = "image/qcow2_absent.rs")]
mod qcow2;
mod raw;
mod read;
mod stream;

pub(crate) use digests::all_digests;
pub use erase::EraseWay;
pub(crate) use head::HEAD_BYTES;
pub use info::{Format, ImageInfo};
pub use open::OpenOptions;
pub use read::Contents;
pub(crate) use read::extents_of;

/// An opened image. Can be read any number of times, unless its source is a pipe. Cheap to clone.
#[derive(Clone)]
pub struct Image {
    source: Source,
    info: ImageInfo,
    qcow2: Option<Arc<Qcow2>>,
    member: Option<Arc<Member>>,
    /// The index, if it is a packed image.
    pack: Option<Arc<PackIndex>>,
    trailer: Trailer,
    head: Arc<[u8]>,
    /// The caller wants the digest of the source, even if that delays reading.
    needs_digest: bool,
}

impl Image {
    /// Format, sizes, partition table and expected digests.
    #[must_use]
    pub fn info(&self) -> &ImageInfo {
        &self.info
    }

    /// The source that the image is read from.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The index, if it is a [packed image](crate::pack).
    #[must_use]
    pub fn pack_index(&self) -> Option<&PackIndex> {
        self.pack.as_deref()
    }

    pub(crate) fn shared_pack_index(&self) -> Option<&Arc<PackIndex>> {
        self.pack.as_ref()
    }

    /// True if a digest of the whole file is expected, but none of its index: only a full reading
    /// can tell whether it is the right image.
    pub(crate) fn has_unpromised_digest(&self) -> bool {
        self.info.has_expected_digest() && self.info.expected_pack_index_sha256.is_none()
    }

    /// Warnings for the user about ignored bytes after the end of the image. Complete only after
    /// the whole image was read.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.trailer.warning().into_iter().collect()
    }

    /// The first MiB of the disk image, or all of a smaller one.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }
}
