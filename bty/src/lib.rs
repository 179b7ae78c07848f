//! Writes operating-system images onto disks, and proves it.
//!
//! bty takes an image from a file, a web server or an OCI registry, decodes it, and puts it on one or several disks, exactly: zeros are made zero,
//! digests are checked, the disk is read back, and the first MiB is written last, so that an interrupted flash never boots.
//!
//! The library never prints, never exits, and reads no environment variable. Its functions block; the network runs on a runtime of its own.

pub mod catalog;
pub mod device;
pub mod digest;
pub mod disks;
pub mod error;
pub mod flash;
pub mod image;
pub mod oci;
pub mod progress;
pub mod size;
pub mod source;

#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;

mod client;
mod decode;
mod extent;
mod table;

pub use client::{Client, ClientOptions};
pub use device::Device;
pub use digest::Digest;
pub use disks::{Disk, Host, Selector, SystemHost};
pub use error::{Context, Error, ErrorKind, Result};
pub use image::Image;
pub use progress::{CancelToken, Event, Observer, Phase};
pub use source::{Location, Source};
