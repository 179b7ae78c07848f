//! What a machine reports to its server with `POST /pxe/{mac}/status`.

use bty::Digest;
use bty::flash::{DeltaReport, FlashReport};
use bty::progress::Counts;
use serde::{Deserialize, Serialize};

/// The body of a report. Servers that do not send plan scripts get only `status` and `reason`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `progress`, `done` or `failed`.
    pub status: String,
    /// Why the plan failed, at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The boot cycle token in the plan's header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycle: Option<String>,
    /// For the status `progress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// For the status `done`: the flashed disks, with their proof.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<FlashedDisk>,
}

/// Progress of a flash. All sizes are in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// `wipe`, `write`, `verify` or `finish`.
    pub phase: String,
    /// Bytes read from the source.
    pub source_bytes: u64,
    /// Total bytes of the source, if known.
    pub source_total: Option<u64>,
    /// Bytes decoded so far, zeros included.
    pub decoded_bytes: u64,
    /// Size of the disk image, if known.
    pub decoded_total: Option<u64>,
    /// Bytes written or zeroed on the slowest disk.
    pub written_bytes: u64,
    /// Bytes read back and found equal on the slowest disk.
    pub verified_bytes: u64,
}

/// A successfully flashed disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlashedDisk {
    /// Path of the device node.
    pub path: String,
    /// Serial number, if the disk reports one.
    pub serial: Option<String>,
    /// Reference of the image.
    pub image: String,
    /// SHA-256 of the image as published, if it was computed.
    pub sha256: Option<Digest>,
    /// Size of the disk image in bytes.
    pub disk_bytes: u64,
    /// Bytes read back from the medium and found equal.
    pub verified_bytes: u64,
    /// SHA-256 of the index of the image, if it was a packed image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_sha256: Option<Digest>,
    /// Bytes of image data written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_bytes: Option<u64>,
    /// What proves that the disk holds the image: `full`, `sample` or `none`. A text, so that a
    /// server accepts the words of later versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// What the disk already held; absent after a full flash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<DeltaReport>,
}

/// Longer reasons are truncated.
const REASON_CHARS: usize = 500;

impl Report {
    /// The plan succeeded and flashed `disks`.
    #[must_use]
    pub fn done(disks: Vec<FlashedDisk>) -> Self {
        Self { status: "done".into(), disks, ..Self::default() }
    }

    /// The plan failed for `reason`, which is truncated to 500 characters.
    #[must_use]
    pub fn failed(reason: &str) -> Self {
        let reason: String = reason.chars().take(REASON_CHARS).collect();
        Self { status: "failed".into(), reason: Some(reason), ..Self::default() }
    }

    /// The flash is in progress.
    #[must_use]
    pub fn progress(progress: Progress) -> Self {
        Self { status: "progress".into(), progress: Some(progress), ..Self::default() }
    }

    /// Only the fields that every server understands: `status` and `reason`.
    #[must_use]
    pub fn basic(&self) -> Self {
        Self { status: self.status.clone(), reason: self.reason.clone(), ..Self::default() }
    }
}

impl FlashedDisk {
    /// The disks that `report` lists as flashed.
    #[must_use]
    pub fn of(report: &FlashReport) -> Vec<Self> {
        let done = report.targets.iter().filter(|target| target.failure.is_none());
        done.map(|target| Self {
            path: target.disk.path.display().to_string(),
            serial: target.disk.serial.clone(),
            image: report.image.source.clone(),
            sha256: report.source_sha256,
            disk_bytes: report.disk_bytes,
            verified_bytes: target.verified_bytes,
            index_sha256: report.image.pack_index_sha256,
            written_bytes: Some(target.written_bytes),
            proof: Some(target.proof.to_string()),
            delta: target.delta,
        })
        .collect()
    }
}

impl Progress {
    /// Builds the progress from the counts of a progress event.
    #[must_use]
    pub fn new(phase: &str, counts: &Counts, written_bytes: u64, verified_bytes: u64) -> Self {
        Self {
            phase: phase.to_owned(),
            source_bytes: counts.source_bytes,
            source_total: counts.source_total,
            decoded_bytes: counts.decoded_bytes,
            decoded_total: counts.decoded_total,
            written_bytes,
            verified_bytes,
        }
    }
}
