//! Machines from power-on to the flashed system: one path for each firmware, one for each delivery,
//! and the faults that need a real boot.
//!
//! `make test-chain` runs them. The other combinations are in `matrix`.

pub(crate) mod faults;
pub(crate) mod lab;
pub(crate) mod network;
pub(crate) mod sticks;
