//! Disks in memory, with faults on request, and a host that has such disks: for tests of programs
//! that flash.
//!
//! Needs the feature `testing`. A [`MemoryDisk`] keeps flushed data apart from data that was only
//! written, so that a test can cut the power at any moment ([`Faults::power_after`]) and go on with
//! what the disk may hold then ([`MemoryDisk::power_cut`]). A [`MemoryHost`] is a machine with such
//! disks, and takes the place of a [`SystemHost`](crate::SystemHost).
//!
//! ```
//! use std::sync::Arc;
//!
//! use bty::flash::{FlashOptions, FlashPlan};
//! use bty::image::OpenOptions;
//! use bty::testing::{MemoryDisk, MemoryHost};
//! use bty::{CancelToken, Client, DiskHost, Image};
//!
//! let mut bytes = vec![7; 1 << 20];
//! bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
//! let (options, cancel) = (OpenOptions::default(), CancelToken::new());
//! let bytes: Arc<[u8]> = bytes.into();
//! let image = Image::from_source(
//!     &Client::default(), "memory", Arc::clone(&bytes), &options, &cancel)?;
//!
//! let disk = Arc::new(MemoryDisk::new(8 << 20));
//! let host = MemoryHost::with(&disk);
//! let plan = FlashPlan::new(image.info(), host.list()?, FlashOptions::default());
//! assert!(plan.execute(&image, &host, &(), &cancel)?.is_success());
//! assert!(disk.durable().starts_with(&bytes));
//! # Ok::<(), bty::Error>(())
//! ```

mod disk;
mod host;

pub use disk::{DiskRequest, Faults, MemoryDisk};
pub use host::MemoryHost;
