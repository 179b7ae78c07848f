//! The most recent completed flash of a machine, and which of its disks a flash has proven.

use bty::flash::DeltaReport;
use bty::size::human;
use bty_script::plan::FlashedDisk;
use serde::{Deserialize, Serialize};

use crate::domain::time::Time;

/// Maximum number of disks of a machine that are remembered as proven.
const PROVEN_DISKS_MAX: usize = 16;

/// Maximum length of a serial number that is remembered.
const SERIAL_BYTES_MAX: usize = 256;

/// A completed flash. The store keeps it as JSON, so a new field needs a default for rows of earlier
/// versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flashed {
    /// When the live environment reported it.
    pub at: Time,
    /// Reference of the image.
    pub image: Option<String>,
    /// SHA-256 of the image.
    pub sha256: Option<String>,
    /// Serial number of the disk.
    pub serial: Option<String>,
    /// Bytes of image data written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_bytes: Option<u64>,
    /// What proves that the disk holds the image: `full`, `sample` or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// What the disk already held; `None` after a full flash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<DeltaReport>,
    /// Serial numbers of the machine's disks that have passed a full proof since they last failed,
    /// the most recent last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proven_disks: Vec<String>,
}

impl Flashed {
    /// Returns what the flash kept, moved, fetched and wrote, and its proof, in words; `None` for a
    /// live environment that does not report it.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        let proof = self.proof.as_deref()?;
        let mut done = Vec::new();
        if let Some(delta) = &self.delta {
            done.push(format!("kept {}", human(delta.kept_bytes)));
            done.push(format!("moved {}", human(delta.moved_bytes)));
            done.push(format!("fetched {}", human(delta.fetched_bytes)));
        }
        done.extend(self.written_bytes.map(|bytes| format!("wrote {}", human(bytes))));
        Some(format!("{}; proof: {proof}", done.join(", ")))
    }

    /// True if the disk with this serial number has passed a full proof.
    #[must_use]
    pub fn has_proven(&self, serial: &str) -> bool {
        self.proven_disks.iter().any(|known| known == serial.trim())
    }

    /// Remembers which of `disks` have passed a full proof.
    pub(super) fn remember_proofs(&mut self, disks: &[FlashedDisk]) {
        let proven = disks.iter().filter(|disk| disk.proof.as_deref() == Some("full"));
        let serials = proven.filter_map(|disk| disk.serial.as_deref());
        for serial in serials.filter(|serial| serial.len() <= SERIAL_BYTES_MAX) {
            self.forget_proof(serial);
            self.proven_disks.push(serial.trim().to_owned());
        }
        let excess = self.proven_disks.len().saturating_sub(PROVEN_DISKS_MAX);
        self.proven_disks.drain(..excess);
    }

    /// Forgets the proof of a disk whose flash has failed.
    pub(super) fn forget_proof(&mut self, serial: &str) {
        self.proven_disks.retain(|known| known != serial.trim());
    }
}

/// Returns a word of a report as it is stored and shown: at most 20 letters.
pub(super) fn word(word: &str) -> String {
    word.chars().filter(char::is_ascii_alphanumeric).take(20).collect()
}
