//! Writes operating-system images onto disks, and proves it.
//!
//! bty takes an image from a file, a web server or an OCI registry, decodes it, and puts it on one
//! or several disks, exactly: zeros are made zero, digests are checked, the disk is read back, and
//! the first MiB is written last, so that an interrupted flash never boots.
//!
//! ```no_run
//! use bty::flash::{FlashOptions, FlashPlan};
//! use bty::image::OpenOptions;
//! use bty::{CancelToken, Client, Image, Result, Selector, SystemHost};
//!
//! # fn main() -> Result<()> {
//! let cancel = CancelToken::new();
//! let image = Image::open(&Client::default(), "https://images.example/debian.img.zst", &OpenOptions::default(), &cancel)?;
//! let host = SystemHost::new();
//! let disk = "serial:4C530001230412115574".parse::<Selector>()?.select(&host)?;
//!
//! let plan = FlashPlan::new(image.info(), vec![disk], FlashOptions::default());
//! assert!(plan.validate().is_empty(), "each refusal names its reason and the way out");
//! let report = plan.execute(&image, &host, &(), &cancel)?;
//! assert!(report.is_success());
//! # Ok(())
//! # }
//! ```
//!
//! # Concepts
//!
//! | module | what it is about |
//! |---|---|
//! | [`source`] | where bytes come from: a file, a web server, a registry |
//! | [`client`] | how they are reached: [`Client`] opens sources, and exchanges small messages with servers |
//! | [`image`] | what a source holds: format, sizes, partition table |
//! | [`catalog`] | lists of images; [`image::directory`] lists a folder of them |
//! | [`disks`] | what can be written to, who uses it, and how to name it: [`Selector`] |
//! | [`hardware`] | the machine around the disks, and its inventory |
//! | [`flash`] | plan, validate, execute, report; and compare without writing: [`flash::verify`] |
//! | [`create`] | from a disk to an image |
//! | [`device`] | an opened target: the trait to implement for simulations |
//! | [`progress`] | events for whoever watches, and the token that cancels |
//! | [`redact`] | addresses without passwords, for messages and lists |
//!
//! All sizes and offsets are bytes, as `u64`. Errors have a [kind](ErrorKind) to match on, and a
//! [next step](Error::next_step) for people.
//!
//! The library never prints, never exits, and reads no environment variable. Its functions block;
//! the network runs on a runtime of its own.

pub mod boot;
pub mod catalog;
pub mod client;
pub mod create;
pub mod device;
pub mod digest;
pub mod disks;
pub mod error;
pub mod flash;
pub mod hardware;
pub mod image;
pub mod oci;
pub mod progress;
pub mod redact;
pub mod size;
pub mod source;
pub mod text;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

mod decode;
mod extent;
mod partition_table;
mod signatures;
mod threads;

pub use client::{Client, ClientOptions};
pub use device::Device;
pub use digest::Digest;
pub use disks::{Disk, DiskHost, Selector, SystemHost};
pub use error::{Context, Error, ErrorKind, Result};
pub use image::Image;
pub use progress::{CancelToken, Event, Observer, Phase};
pub use source::{Location, Source};
