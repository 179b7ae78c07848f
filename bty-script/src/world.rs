//! What scripts act on: the real machine, or a simulated one.
//!
//! A [`World`] is a set of small parts, so that one can be replaced without the others:
//!
//! | part | the machine ([`System`]) | a dry run ([`DryRunWorld`]) | a described machine ([`SimulatedWorld`]) |
//! |---|---|---|---|
//! | disks | sysfs | as they are | from the description |
//! | images | files, web servers, registries | as they are | from the description |
//! | flasher | writes | takes note | takes note, and changes the described disks |
//! | machine | waits, reboots, logs | takes note | a recorded clock; takes note |
//! | web | asks | asks, but sends nothing | answers from the description |
//! | terminal | the terminal | the terminal | a scripted one |

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bty::catalog::Catalog;
use bty::client::{Reply, Request};
use bty::flash::{FlashPlan, FlashReport, VerifyReport};
use bty::hardware::{Dmi, Inventory};
use bty::image::directory::ImageFile;
use bty::image::{Contents, ImageInfo, OpenOptions};
use bty::{CancelToken, Disk, Observer, Result};

mod description;
mod dry_run;
mod effect;
mod nothing;
mod one_disk;
mod simulated;
mod system;

pub use dry_run::DryRunWorld;
pub use effect::{Effect, Effects};
pub use one_disk::OneDisk;
pub use simulated::SimulatedWorld;
pub use system::System;

use crate::terminal::Terminal;

/// An image: opened, or only described.
#[derive(Clone)]
pub struct Image {
    /// What is known of it.
    pub info: Arc<ImageInfo>,
    /// The image itself; absent in a described world.
    pub opened: Option<bty::Image>,
}

impl From<bty::Image> for Image {
    fn from(image: bty::Image) -> Self {
        Self { info: Arc::new(image.info().clone()), opened: Some(image) }
    }
}

/// Where images and catalogs come from.
pub trait Images: Send + Sync {
    /// Opens the image at `reference`, which must have the digests that are given.
    ///
    /// # Errors
    /// As of [`bty::Image::open`].
    fn open(&self, reference: &str, options: &OpenOptions, cancel: &CancelToken) -> Result<Image>;

    /// The image files in a directory.
    ///
    /// # Errors
    /// As of [`bty::image::directory::list`].
    fn list(&self, dir: &Path) -> Result<Vec<ImageFile>>;

    /// Reads all of an image.
    ///
    /// # Errors
    /// As of [`bty::Image::read_fully`].
    fn read_fully(
        &self,
        image: &Image,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<Contents>;

    /// The catalog at `reference`.
    ///
    /// # Errors
    /// As of [`Catalog::load`].
    fn catalog(&self, reference: &str, cancel: &CancelToken) -> Result<Catalog>;

    /// The blob behind an `oras://` reference, as data: `digest`, `size_bytes`, `title`.
    ///
    /// # Errors
    /// As of [`bty::Client::resolve_oci`].
    fn resolve_oci(&self, reference: &str, cancel: &CancelToken) -> Result<serde_json::Value>;
}

/// What writes.
pub trait Flasher: Send + Sync {
    /// Carries out `plan`.
    ///
    /// # Errors
    /// As of [`FlashPlan::execute`].
    fn execute(
        &self,
        plan: &FlashPlan,
        image: &Image,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<FlashReport>;

    /// Compares a disk with an image.
    ///
    /// # Errors
    /// As of [`bty::flash::verify`].
    fn verify(
        &self,
        image: &Image,
        disk: &Disk,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<VerifyReport>;

    /// Creates a file to be used as a disk.
    ///
    /// # Errors
    /// As of [`bty::DiskHost::create`].
    fn create(&self, path: &Path, size_bytes: u64) -> Result<Disk>;
}

/// The machine around the disks.
pub trait Machine: Send + Sync {
    /// The time.
    fn now(&self) -> SystemTime;

    /// Waits.
    ///
    /// # Errors
    /// When cancelled.
    fn sleep(&self, time: Duration, cancel: &CancelToken) -> Result<()>;

    /// The host name.
    fn hostname(&self) -> String;

    /// The kernel command line.
    fn cmdline(&self) -> String;

    /// What the firmware says about the machine.
    fn dmi(&self) -> Dmi;

    /// Disks and hardware.
    ///
    /// # Errors
    /// When the system does not tell.
    fn inventory(&self) -> Result<Inventory>;

    /// Makes the kernel of the system on a disk ready, to be started instead of a restart.
    ///
    /// # Errors
    /// When none is found, or it cannot be loaded.
    fn load_kernel(&self, disk: &Path) -> Result<()>;

    /// Takes note of a line, in the log.
    fn log(&self, line: &str);
}

/// Other machines, over HTTP.
pub trait Web: Send + Sync {
    /// One request, one answer.
    ///
    /// # Errors
    /// As of [`bty::Client::exchange`].
    fn exchange(&self, request: &Request<'_>, cancel: &CancelToken) -> Result<Reply>;
}

/// All parts together. Cheap to clone.
#[derive(Clone)]
pub struct World {
    /// Lists and opens disks.
    pub disks: Arc<dyn bty::DiskHost>,
    /// Where images and catalogs come from.
    pub images: Arc<dyn Images>,
    /// What writes.
    pub flasher: Arc<dyn Flasher>,
    /// The machine around the disks.
    pub machine: Arc<dyn Machine>,
    /// Other machines.
    pub web: Arc<dyn Web>,
    /// The person.
    pub terminal: Arc<dyn Terminal>,
    /// Who watches long work that the script does not watch itself.
    pub observer: Arc<dyn ProgressSink>,
}

/// Somebody who watches one work after another.
pub trait ProgressSink: Observer {
    /// The work that was watched is over: bars can go.
    fn over(&self) {}
}

impl ProgressSink for () {}

impl World {
    /// A world without anything, for scripts that only compute. What is printed is lost.
    #[must_use]
    pub fn nothing() -> Self {
        let nothing = Arc::new(nothing::Nothing);
        Self {
            disks: nothing.clone(),
            images: nothing.clone(),
            flasher: nothing.clone(),
            machine: nothing.clone(),
            web: nothing.clone(),
            terminal: nothing,
            observer: Arc::new(()),
        }
    }
}
