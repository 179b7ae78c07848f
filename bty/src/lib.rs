//! Writes operating-system images to disks, and proves that they arrived intact.
//!
//! bty reads an image from a file, a web server or an OCI registry, decodes it, and writes it to
//! one or several disks. It checks digests, zeroes the ranges that the image leaves empty, and
//! reads the disks back to compare them with the image. The first MiB is written last, so that an
//! interrupted flash leaves a disk that does not boot.
//!
//! ```no_run
//! use bty::flash::{FlashOptions, FlashPlan};
//! use bty::image::OpenOptions;
//! use bty::{CancelToken, Client, Image, Result, Selector, SystemHost};
//!
//! # fn main() -> Result<()> {
//! let cancel = CancelToken::new();
//! let url = "https://images.example/debian.img.zst";
//! let image = Image::open(&Client::default(), url, &OpenOptions::default(), &cancel)?;
//! let host = SystemHost::new();
//! let disk = "serial:4C530001230412115574".parse::<Selector>()?.select(&host)?;
//!
//! let plan = FlashPlan::new(image.info(), vec![disk], FlashOptions::default());
//! assert!(plan.validate().is_empty(), "each refusal says why, and what to do");
//! let report = plan.execute(&image, &host, &(), &cancel)?;
//! assert!(report.is_success());
//! # Ok(())
//! # }
//! ```
//!
//! # Concepts
//!
//! Reading images:
//!
//! | module | contents |
//! |---|---|
//! | [`client`] | [`Client`] opens sources, and exchanges small messages with servers |
//! | [`source`] | [`Source`]: bytes of a file, a pipe, a web server, a registry, or of the program |
//! | [`image`] | [`Image`]: an opened image, its format, sizes and partition table |
//! | [`catalog`] | lists of images on the network; [`image::directory`] lists local ones |
//! | [`oci`] | references to artifacts in OCI registries |
//! | [`digest`] | SHA-256 and SHA-512 digests, and checksum files |
//!
//! Writing disks:
//!
//! | module | contents |
//! |---|---|
//! | [`disks`] | finds disks, their contents and their users; a [`Selector`] chooses one |
//! | [`flash`] | plan, validate, execute, report; [`flash::verify`] compares without writing |
//! | [`create`] | creates an image from a disk |
//! | [`pack`] | packs an image, so that its parts can be read and found on their own |
//! | [`device`] | [`Device`]: an opened target, a trait that simulations implement |
//! | [`boot`] | boots a flashed disk, by kexec or at the next UEFI boot |
//! | [`hardware`] | the inventory of the machine |
//! | `operation` | futures for programs on tokio (feature `tokio`) |
//! | `testing` | disks in memory, for tests (feature `testing`) |
//!
//! Shared by both:
//!
//! | module | contents |
//! |---|---|
//! | [`progress`] | [`Event`]s for an [`Observer`], and the [`CancelToken`] |
//! | [`error`] | [`Error`], [`ErrorKind`] and [`Remedy`] |
//! | [`size`] | parses and formats sizes |
//! | [`text`], [`redact`] | make untrusted text safe to print; remove passwords from addresses |
//!
//! # Conventions
//!
//! - Sizes and offsets are bytes, as `u64`.
//! - Every [`Error`] has a [kind](ErrorKind) to match on, and most have a [hint](Error::next_step)
//!   that says what to do next. `{error:#}` shows an error with its causes.
//! - Options and reports are `#[non_exhaustive]`. Options have a setter for each field:
//!   `FlashOptions::default().fix_gpt(true)`.
//! - Functions block and may be called from any thread: the library runs its network requests on
//!   threads of its own. Long operations take a [`CancelToken`], and end within a second after it
//!   is cancelled. With the feature `tokio`, functions that end in `_async` return futures.
//! - The library never prints, never exits, and reads no environment variable.
//!
//! # Features
//!
//! These are on by default. Without any, raw, gzip and zstd images in files and pipes are read,
//! also in tar archives. What needs a feature that is off is refused with an error that names it.
//!
//! | feature | adds |
//! |---|---|
//! | `http` | images and catalogs on web servers, and `Client::exchange` |
//! | `oci` | images in OCI registries; turns on `http` |
//! | `qcow2` | reading and creating qcow2 images |
//! | `bzip2`, `lz4`, `xz` | images compressed in this format |
//! | `zip` | images in zip archives |
//!
//! These are off by default, and cost nothing then:
//!
//! | feature | adds |
//! |---|---|
//! | `tokio` | `operation`: opening, reading, flashing and verifying as futures, with their events as a stream |
//! | `tracing` | spans for the crate `tracing`: see [Tracing](#tracing) |
//! | `testing` | `testing`: disks in memory, and a host that has them |
//!
//! # Tracing
//!
//! With the feature `tracing`, the library records spans of level `INFO`. A thread or a request of
//! an operation is inside the span of the operation.
//!
//! | span | fields |
//! |---|---|
//! | `open` | `reference` |
//! | `read` | `image`, `source_bytes`, `disk_bytes` |
//! | `flash` | `image`, `targets` |
//! | `verify` | `image`, `disk`, `compared_bytes`, `different_bytes` |
//! | `create` | `disk`, `path`, `disk_bytes`, `file_bytes` |
//! | `phase`, in `flash` | `phase`, `source_bytes`, `decoded_bytes` |
//! | `target`, in `flash` and `verify` | `disk`, `written_bytes`, `zeroed_bytes`, `verified_bytes` |
//!
//! A request that is sent again is an event of level `WARN`, with `attempt`, `delay_ms` and
//! `error`. A target that fails is an event of level `ERROR`, with `error`. Users and
//! passwords in addresses are left out.

#![cfg_attr(
    not(all(
        feature = "bzip2",
        feature = "lz4",
        feature = "oci",
        feature = "qcow2",
        feature = "xz",
        feature = "zip"
    )),
    allow(dead_code, reason = "some helpers serve only features that are off")
)]

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
#[cfg(feature = "tokio")]
pub mod operation;
pub mod pack;
pub mod progress;
pub mod redact;
pub mod size;
pub mod source;
#[cfg(feature = "testing")]
pub mod testing;
pub mod text;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

#[cfg(test)]
mod conventions;
mod decode;
mod extent;
mod features;
mod partition_table;
mod read_context;
mod setters;
mod signatures;
mod string_enum;
mod threads;
#[cfg_attr(not(feature = "tracing"), path = "trace_absent.rs")]
mod trace;
mod transport;

pub use client::{Client, ClientOptions};
pub use device::Device;
pub use digest::Digest;
pub use disks::{Disk, DiskHost, Selector, SystemHost};
pub use error::{Context, Error, ErrorKind, Remedy, Result};
pub use image::Image;
pub use progress::{CancelGuard, CancelToken, Event, Observer, Phase};
pub use source::{Location, Source};
