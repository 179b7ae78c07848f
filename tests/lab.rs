//! A site: container images, what `bty-lab` does with podman, and what it says when that goes
//! wrong.

mod doctor;
mod fake;
pub(crate) mod images;
pub(crate) mod site;
