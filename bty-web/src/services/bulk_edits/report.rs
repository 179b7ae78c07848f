//! What a change to many machines does, or has done.

use serde::Serialize;

/// A change to many machines: what it does, or what it has done.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct BulkReport {
    /// Identifies the list of machines and what happens to each. Send it to confirm the list.
    pub digest: String,
    /// True if nothing was changed.
    pub dry_run: bool,
    /// The machines that change, sorted by MAC address.
    pub machines: Vec<BulkItem>,
    /// Number of selected machines for which nothing changes.
    pub unchanged: usize,
    /// Selected machines that are left out because their boot cycles are open.
    pub at_work: Vec<String>,
    /// Selected machines that are left out for another reason.
    pub skipped: Vec<SkippedMachine>,
}

/// A machine that changes.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct BulkItem {
    /// MAC address.
    pub mac: String,
    /// Its name; empty for none.
    pub name: String,
    /// True if it is added.
    pub is_new: bool,
    /// Name of its plan.
    pub plan: String,
    /// Name of its image, or of the one that its next boot writes.
    pub image: Option<String>,
    /// SHA-256 of the image that its next boot writes, if known.
    pub sha256: Option<String>,
    /// Serial number of its disk, or of the one that its next boot writes.
    pub disk: Option<String>,
    /// What its next boot does, in words.
    pub next_boot: String,
    /// True if its next boot writes to a disk, or runs a script that may.
    pub writes: bool,
}

/// A machine that is left out.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct SkippedMachine {
    /// MAC address, as it was given.
    pub mac: String,
    /// Why.
    pub reason: String,
}

impl SkippedMachine {
    pub(super) fn new(mac: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { mac: mac.into(), reason: reason.into() }
    }
}
