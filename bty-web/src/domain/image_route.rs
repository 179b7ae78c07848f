//! Where a machine downloads an image from: its origin, or a cache host.

use serde::Serialize;
use serde_json::{Value, json};

/// Whether a cache host has an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CacheStatus {
    /// There is no cache host.
    None,
    /// It has the whole object.
    Hit,
    /// It is downloading the object.
    Filling,
    /// It does not have the object, but downloads it on request.
    Miss,
    /// It does not have the object, and downloads only what an operator adds.
    Curated,
    /// Its object has a different digest than the catalog's entry.
    Other,
    /// It refuses to download from this origin.
    Refused,
    /// It does not respond.
    Away,
}

impl CacheStatus {
    /// True if the cache host would serve the object to a client that requests it now.
    #[must_use]
    pub fn gives(self) -> bool {
        matches!(self, Self::Hit | Self::Filling | Self::Miss)
    }
}

/// The packed form of an image on a cache host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedImage {
    /// Its URL.
    pub url: String,
    /// SHA-256 of its index.
    pub index_sha256: String,
}

/// The route of an image: from its origin, or through a cache host.
#[derive(Clone, Debug)]
pub struct ImageRoute {
    /// URL at the origin.
    pub src: String,
    /// URL at the cache host; `None` for a download from the origin.
    pub url: Option<String>,
    /// The packed form at the cache host, for live environments that know packed images.
    pub packed: Option<PackedImage>,
    /// What the cache host has of the image.
    pub status: CacheStatus,
}

impl ImageRoute {
    /// Returns the route as the details of an event.
    #[must_use]
    pub fn details(&self) -> Value {
        let from = if self.url.is_some() { "withcache" } else { "origin" };
        let mut details = json!({
            "configured": self.status != CacheStatus::None,
            "hit": self.status == CacheStatus::Hit,
            "status": self.status,
            "served_from": from,
        });
        if let Some(packed) = &self.packed {
            details["packed"] = packed.url.as_str().into();
        }
        details
    }
}
