//! TFTP: serves boot programs to firmware, by name and read-only.
//!
//! ```text
//!  firmware ─► RRQ ─► listener ─► file name ─► file in memory ─► DATA blocks
//! ```
//!
//! There is one listener per address of this host, so that the response comes from the address that
//! the client contacted. Until a client replies, its address may be spoofed. Both the data sent
//! before the reply and the memory used for it are therefore bounded.

mod listen;
mod names;
pub mod probe;
mod server;
mod transfer;

pub use listen::serve;
pub use names::{AUTOEXEC, PROGRAMS, check_names, check_roots};
pub use server::{FirstRequest, TftpCounters, TftpOptions, TftpServer};
