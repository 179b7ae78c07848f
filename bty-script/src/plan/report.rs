//! What a machine tells its server: `POST /pxe/{mac}/status`.

use bty::Digest;
use bty::flash::FlashReport;
use bty::progress::Counts;
use serde::{Deserialize, Serialize};

/// The body of a report. Fields beyond `status` and `reason` are sent only to servers that gave a
/// plan script.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `progress`, `done` or `failed`.
    pub status: String,
    /// Why it failed, at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The token of the boot cycle that the plan came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycle: Option<String>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The disks that were flashed, with their proof.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<FlashedDisk>,
}

/// How far a flash is. All sizes are bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// `wipe`, `write`, `verify` or `finish`.
    pub phase: String,
    /// Read from the source.
    pub source_bytes: u64,
    /// How many the source will give, when known.
    pub source_total: Option<u64>,
    /// Decoded so far.
    pub decoded_bytes: u64,
    /// Size of the disk image, when known.
    pub decoded_total: Option<u64>,
    /// Written or made zero, on the slowest disk.
    pub written_bytes: u64,
    /// Read back and equal, on the slowest disk.
    pub verified_bytes: u64,
}

/// A disk that holds an image now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlashedDisk {
    /// Device node.
    pub path: String,
    /// Serial number.
    pub serial: Option<String>,
    /// Where the image came from.
    pub image: String,
    /// SHA-256 of the image over the wire.
    pub sha256: Option<Digest>,
    /// Size of the disk image in bytes.
    pub disk_bytes: u64,
    /// Bytes read back from the medium and found equal.
    pub verified_bytes: u64,
}

/// Longer reasons are cut.
const REASON_CHARS: usize = 500;

impl Report {
    /// All went well.
    #[must_use]
    pub fn done(disks: Vec<FlashedDisk>) -> Self {
        Self { status: "done".into(), disks, ..Self::default() }
    }

    /// It failed.
    #[must_use]
    pub fn failed(reason: &str) -> Self {
        let reason: String = reason.chars().take(REASON_CHARS).collect();
        Self { status: "failed".into(), reason: Some(reason), ..Self::default() }
    }

    /// It goes on.
    #[must_use]
    pub fn progress(progress: Progress) -> Self {
        Self { status: "progress".into(), progress: Some(progress), ..Self::default() }
    }

    /// What every server understands: `status` and `reason`.
    #[must_use]
    pub fn plain(&self) -> Self {
        Self { status: self.status.clone(), reason: self.reason.clone(), ..Self::default() }
    }
}

impl FlashedDisk {
    /// The disks of `report` that were flashed.
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
        })
        .collect()
    }
}

impl Progress {
    /// From the counts of an event.
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
