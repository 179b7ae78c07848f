//! The whole chain: a machine is switched on, boots from the network, is flashed, and boots what was flashed.
//!
//! The short ones run with all tests; the others are ignored there, and run by `make test-chain`.

mod lab;
mod network;
mod sticks;
