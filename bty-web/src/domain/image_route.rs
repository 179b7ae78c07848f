//! Where a machine downloads an image from: its origin, or a cache host.

use serde::Serialize;
use serde_json::{Value, json};

/// Where a cache host stands with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CacheStatus {
    /// There is no cache host.
    None,
    /// It has all of it.
    Hit,
    /// It is fetching it.
    Filling,
    /// It has not, and fetches it for who asks.
    Miss,
    /// It has not, and only an operator adds objects.
    Curated,
    /// It has other bytes than the catalog says, and does not look again.
    Other,
    /// It does not fetch from this origin.
    Refused,
    /// It does not answer.
    Away,
}

impl CacheStatus {
    /// True when a machine that asks it gets the bytes.
    #[must_use]
    pub fn gives(self) -> bool {
        matches!(self, Self::Hit | Self::Filling | Self::Miss)
    }
}

/// Whether an image goes through the cache host, decided before the machine is told.
#[derive(Clone, Debug)]
pub struct ImageRoute {
    /// Address of its origin.
    pub src: String,
    /// Its address on the cache host, when it goes through that.
    pub url: Option<String>,
    /// Where the cache host stands with it.
    pub status: CacheStatus,
}

impl ImageRoute {
    /// For the event.
    #[must_use]
    pub fn details(&self) -> Value {
        let from = if self.url.is_some() { "withcache" } else { "origin" };
        json!({ "configured": self.status != CacheStatus::None, "hit": self.status == CacheStatus::Hit, "status": self.status, "served_from": from })
    }
}
