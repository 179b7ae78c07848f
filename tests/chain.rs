//! The whole chain: a machine is switched on, boots from the network, is flashed, and boots what was flashed.
//!
//! The short ones run with all tests; the others are ignored there, and run by `make test-chain`, those of arm64 by `make test-arm64`.

mod arm64;
mod lab;
mod late;
mod media;
mod network;
mod sticks;
