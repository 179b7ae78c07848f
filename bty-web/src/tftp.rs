//! TFTP: serves boot programs to firmware, by name and read-only.
//!
//! ```text
//!  firmware ─► RRQ ─► listener ─► file name ─► file in memory ─► DATA blocks
//! ```
//!
//! There is one listener per address of this host, so that the response comes from the address that
//! the client contacted. Until a client replies, its address may be spoofed. Both the data sent
//! before the reply and the memory used for it are therefore bounded.

#[cfg_attr(not(feature = "tftp"), path = "tftp/listen_absent.rs")]
mod listen;
mod names;
pub mod probe;
#[cfg_attr(not(feature = "tftp"), allow(dead_code, reason = "only transfers use all of it"))]
mod server;
#[cfg(feature = "tftp")]
mod transfer;

pub use listen::serve;
pub use names::{AUTOEXEC, PROGRAMS, check_names, check_roots};
pub use server::{FirstRequest, TftpCounters, TftpOptions, TftpServer};
