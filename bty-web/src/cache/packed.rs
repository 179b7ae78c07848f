//! Packed forms of objects: finding and serving them. `packer` makes them.
//!
//! A packed form holds the same disk image as its object, in a file from which clients fetch only
//! the parts that they need. Its address has the SHA-256 of the object, so its content never
//! changes.

use std::fs::File;
use std::sync::Arc;

use bty::Digest;

use super::CacheHost;
use super::lookup::PackedFile;
use super::response::BlobResponse;
use crate::conditional::Conditions;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::time::Time;
use crate::store::cache::{PackOutcome, PackedRecord};

impl CacheHost {
    /// Responds to a request for the packed form of the object with the digest in `sha256`. Errors
    /// become responses too.
    #[must_use]
    pub fn serve_packed(
        &self,
        sha256: &str,
        is_head: bool,
        conditions: &Conditions,
    ) -> BlobResponse {
        match self.open_packed(sha256) {
            Ok(found) => BlobResponse::packed(found, is_head, conditions),
            Err(error) => BlobResponse::refused(&error),
        }
    }

    fn open_packed(&self, sha256: &str) -> Result<PackedFile> {
        let malformed = |_| {
            let why = "the path does not contain a SHA-256 of 64 hexadecimal digits";
            Error::new(ErrorKind::Malformed, why)
        };
        let sha256: Digest = sha256.parse().map_err(malformed)?;
        let missing = || Error::not_found(format!("a packed form of the object {sha256}"));
        let index = self.storage.index();
        let record = Arc::clone(index.packed.get(&sha256).ok_or_else(missing)?);
        let object = Arc::clone(index.with_content(&sha256).ok_or_else(missing)?);
        let (path, file_sha256, size_bytes, index_sha256) = match record.outcome {
            PackOutcome::Packed { file_sha256, index_sha256, size_bytes } => {
                (self.storage.packed_path(&sha256), file_sha256, size_bytes, index_sha256)
            }
            PackOutcome::Itself { index_sha256 } => {
                let size_bytes = object.record.size_bytes;
                (self.storage.path(&object.record.key), sha256, size_bytes, index_sha256)
            }
            PackOutcome::Failed(_) => return Err(missing()),
        };
        let file = Arc::new(File::open(path)?);
        drop(index);
        object.count_hit(Time::now());
        let etag = format!("\"{file_sha256}\"");
        Ok(PackedFile { file, etag, size_bytes, index_sha256, kept: (record, object) })
    }

    /// Returns the digest of the index of the packed form of the object with this digest; `None`
    /// if there is no packed form.
    #[must_use]
    pub fn packed_index(&self, sha256: &Digest) -> Option<Digest> {
        let index = self.storage.index();
        index.packed.get(sha256)?.index_sha256()
    }

    /// Returns the outcome of packing the object with this digest; `None` until packing has ended.
    #[must_use]
    pub fn packed(&self, sha256: &Digest) -> Option<Arc<PackedRecord>> {
        self.storage.index().packed.get(sha256).cloned()
    }
}
