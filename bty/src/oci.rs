//! OCI registries: `oras://` references, manifests, and the choice of a layer.
//!
//! An image is one layer of an artifact. Its blob is read like any web object
//! ([`Source`](crate::Source)), and must have the digest and the length that the manifest states.
//! An index with a single artifact is resolved to that artifact.

use serde::{Deserialize, Serialize};

use crate::Digest;

#[cfg(feature = "oci")]
mod layer;
pub(crate) mod reference;
#[cfg(feature = "http")]
#[cfg_attr(not(feature = "oci"), path = "oci/registry_absent.rs")]
mod registry;

pub use reference::OciReference;
#[cfg(feature = "fuzzing")]
pub(crate) use registry::read_manifest;
#[cfg(feature = "http")]
pub(crate) use registry::{open, resolve};

/// The blob that a reference resolves to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OciBlob {
    /// SHA-256 of the blob.
    pub digest: Digest,
    /// Length in bytes; unknown when the reference named the blob itself.
    pub size_bytes: Option<u64>,
    /// File name under which it was pushed.
    pub title: Option<String>,
    /// Media type in the manifest.
    pub media_type: Option<String>,
    /// SHA-256 that the index of the [packed image](crate::pack) must have, as the annotation
    /// `org.bty.pack.index.sha256` of the layer says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack_index_sha256: Option<Digest>,
}
