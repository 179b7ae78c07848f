//! TFTP: serves the boot programs that firmware asks for, by name and read only.
//!
//! ```text
//!  firmware ─► RRQ ─► listener ─► file name ─► file in memory ─► DATA blocks
//! ```
//!
//! There is one listener per address of this host, so that a client is answered from the address
//! that it asked. Until a client replies, its address may be spoofed: what it is sent before is
//! bounded, and so is the memory that it can make this host use.

mod listen;
mod names;
pub mod probe;
mod server;
mod transfer;

pub use listen::serve;
pub use names::{AUTOEXEC, PROGRAMS, check_names, check_roots};
pub use server::{FirstRequest, TftpCounters, TftpOptions, TftpServer};
