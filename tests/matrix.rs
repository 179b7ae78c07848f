//! The rest of the matrix: combinations that differ from those of `chain` and `lab` in one thing,
//! products as they are published, and arm64.
//!
//! `make test-all` runs them, before a release; those of arm64 alone by `make test-arm64`.

mod arm64;
mod containers;
mod firmware;
mod full;
mod media;
mod network;
mod sticks;
