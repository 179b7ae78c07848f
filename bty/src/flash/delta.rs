//! Delta flash: keeps and moves what a disk already holds, and fetches only the rest.
//!
//! It needs a [packed image](crate::pack), whose index has a hash of every block and every frame.
//!
//! ```text
//! scan ─► match ─► order ─► wipe ─► move ─► fetch ─► flush ─► prove ─► first MiB
//! ```
//!
//! The scan reads the disk and finds blocks of the image by short hashes, in their place or
//! anywhere else. A frame whose blocks were all found is assembled from them; it is accepted only
//! if its long hash is right, and fetched otherwise. The order makes sure that a block is read
//! before its place is overwritten: where blocks wait for each other in a circle, some are kept in
//! memory, the stash, and what does not fit there is fetched.
//!
//! Nothing on the disk records how far a flash has come. After an interruption, the next scan finds
//! what is right, whoever wrote it.

mod batch;
mod estimate;
mod fetch;
mod layout;
mod matches;
mod moves;
mod order;
mod policy;
mod run;
mod scan;
mod survey;

pub use estimate::diff;
pub(super) use run::{DeltaFlash, DeltaOutcome};

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
