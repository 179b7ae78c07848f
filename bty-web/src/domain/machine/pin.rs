//! Pinning: a machine keeps the version of its image that an operator has assigned, although the
//! catalog has a newer one at the same address.

use std::collections::HashMap;

use bty::{Digest, Location};
use serde_json::Value;

use super::Machine;
use crate::domain::catalog_image::CatalogImage;
use crate::domain::plan::params::Declared;

/// Parameter by which a plan decides about its machines: `follow` or `pin`. Any other value leaves
/// the decision to the setting `machines.rolling_images`.
const PARAMETER: &str = "rolling";

/// The value for pinning.
pub const PIN: &str = "pin";
/// The value for writing the newest version.
pub const FOLLOW: &str = "follow";

/// The version that a machine keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Its SHA-256.
    pub sha256: String,
    /// A URL where that version can still be downloaded; `None` if none is known.
    pub src: Option<String>,
    /// Why the machine cannot be flashed without such a URL, as one sentence.
    pub reason: String,
}

/// Returns the version of its image that `machine` keeps; `None` if it writes the one in the
/// catalog. `is_default` is true if machines are pinned unless their plan says otherwise.
#[must_use]
pub fn pin(
    machine: &Machine,
    images: &HashMap<String, CatalogImage>,
    declared: &Declared,
    is_default: bool,
) -> Option<Pin> {
    let preset = || declared.parameters.get(PARAMETER).and_then(|p| p.preset.as_ref());
    let choice = machine.params.get(PARAMETER).or_else(preset).and_then(Value::as_str);
    let is_pinned = match choice {
        Some(PIN) => true,
        Some(FOLLOW) => false,
        _ => is_default,
    };
    let assigned = machine.image_sha256.as_ref().filter(|_| is_pinned)?;
    let image = images.get(machine.image_ref.as_ref()?)?;
    let current = image.sha256.as_ref().filter(|current| *current != assigned)?;
    let since = image.moved_at.map(|at| format!(" at {at}")).unwrap_or_default();
    Some(Pin {
        src: at_digest(&image.src, assigned),
        sha256: assigned.clone(),
        reason: format!(
            "{} was published anew{since}: its SHA-256 is now {current}, and the machine keeps the \
             version with {assigned}, which is no longer at its address",
            image.name
        ),
    })
}

/// Returns the URL of the content with this digest. Only registries keep content under its digest.
fn at_digest(src: &str, sha256: &str) -> Option<String> {
    let digest: Digest = sha256.parse().ok()?;
    match src.parse() {
        Ok(Location::Oci(reference)) => Some(reference.with_digest(digest).to_string()),
        _ => None,
    }
}
