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

/// The route of an image: from its origin, or through a cache host.
#[derive(Clone, Debug)]
pub struct ImageRoute {
    /// URL at the origin.
    pub src: String,
    /// URL at the cache host; `None` for a download from the origin.
    pub url: Option<String>,
    /// What the cache host has of the image.
    pub status: CacheStatus,
}

impl ImageRoute {
    /// Returns the route as the details of an event.
    #[must_use]
    pub fn details(&self) -> Value {
        let from = if self.url.is_some() { "withcache" } else { "origin" };
        json!({
            "configured": self.status != CacheStatus::None,
            "hit": self.status == CacheStatus::Hit,
            "status": self.status,
            "served_from": from,
        })
    }
}
