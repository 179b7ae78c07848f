//! What scripts act on: this machine, a dry run, or a simulated machine.
//!
//! A [`World`] consists of parts that can be replaced one by one:
//!
//! | part | this machine ([`SystemWorld`]) | dry run ([`DryRunWorld`]) | simulated ([`SimulatedWorld`]) |
//! |---|---|---|---|
//! | disks | sysfs | sysfs | from the description |
//! | images | files, web servers, registries | the same | from the description |
//! | flasher | writes | records the effect | records the effect, updates the simulated disks |
//! | platform | clock, sleep, kernel log | records the effect | simulated clock, records the effect |
//! | web | sends requests | sends only requests without a body | answers from the description |
//! | files | below a directory | reads; records what would be written | from the description |
//! | terminal | the terminal | the terminal | [`ScriptedTerminal`](crate::terminal::ScriptedTerminal) |

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bty::catalog::Catalog;
use bty::client::{Reply, Request};
use bty::create::{CreateOptions, CreateReport};
use bty::flash::{FlashPlan, FlashReport, VerifyReport};
use bty::hardware::{Dmi, Inventory};
use bty::image::directory::ImageFile;
use bty::image::{Contents, ImageInfo, OpenOptions};
use bty::pack::{PackCheck, PackOptions, PackReport};
use bty::{CancelToken, Disk, Observer, Result};

mod description;
mod dry_run;
mod effect;
mod empty;
mod files;
mod simulated;
mod single_disk;
mod system;

pub use dry_run::DryRunWorld;
pub use effect::{Effect, EffectLog};
pub use files::FilesBelow;
pub use simulated::SimulatedWorld;
pub use single_disk::SingleDiskHost;
pub use system::SystemWorld;

use crate::terminal::Terminal;

/// An image, opened or simulated; the script value `Image`.
#[derive(Clone)]
pub struct Image {
    /// Format, sizes, contents and expected digests.
    pub info: Arc<ImageInfo>,
    /// The opened image; `None` on a simulated machine.
    pub opened: Option<bty::Image>,
}

impl From<bty::Image> for Image {
    fn from(image: bty::Image) -> Self {
        Self { info: Arc::new(image.info().clone()), opened: Some(image) }
    }
}

/// A flash plan together with the image that it names; the script value `Plan`.
#[derive(Clone)]
pub(crate) struct PlannedFlash {
    pub(crate) plan: FlashPlan,
    pub(crate) image: Image,
}

/// Opens images and catalogs.
pub trait Images: Send + Sync {
    /// Opens the image at `reference`. `options` has the digests to require.
    ///
    /// # Errors
    /// - [`ErrorKind::Usage`](bty::ErrorKind::Usage): the reference is malformed or ambiguous, or
    ///   an option does not fit the image
    /// - [`ErrorKind::Source`](bty::ErrorKind::Source): the source does not exist or cannot be read
    /// - [`ErrorKind::Format`](bty::ErrorKind::Format): it is not an image that can be written to a
    ///   disk
    /// - [`ErrorKind::Integrity`](bty::ErrorKind::Integrity): two declared digests contradict each
    ///   other
    /// - [`ErrorKind::Host`](bty::ErrorKind::Host): a resource of this machine is missing
    fn open(&self, reference: &str, options: &OpenOptions, cancel: &CancelToken) -> Result<Image>;

    /// Lists the image files in a directory.
    ///
    /// # Errors
    /// - [`ErrorKind::Source`](bty::ErrorKind::Source): the directory cannot be read
    fn list(&self, dir: &Path) -> Result<Vec<ImageFile>>;

    /// Reads a whole image and computes its digests.
    ///
    /// # Errors
    /// - [`ErrorKind::Source`](bty::ErrorKind::Source),
    ///   [`ErrorKind::Format`](bty::ErrorKind::Format) or
    ///   [`ErrorKind::Integrity`](bty::ErrorKind::Integrity): the image cannot be read, is damaged,
    ///   or differs from what was expected
    /// - [`ErrorKind::Cancelled`](bty::ErrorKind::Cancelled): `cancel` was cancelled
    fn read_fully(
        &self,
        image: &Image,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<Contents>;

    /// Compares the frames of a packed image with its index.
    ///
    /// # Errors
    /// - [`ErrorKind::Format`](bty::ErrorKind::Format): the image is not packed, or its index is
    ///   damaged
    /// - [`ErrorKind::Integrity`](bty::ErrorKind::Integrity): a frame differs from the index
    /// - [`ErrorKind::Source`](bty::ErrorKind::Source): the image cannot be read
    /// - [`ErrorKind::Cancelled`](bty::ErrorKind::Cancelled)
    fn check_packed(&self, image: &Image, cancel: &CancelToken) -> Result<PackCheck>;

    /// Loads the catalog at `reference`.
    ///
    /// # Errors
    /// - [`ErrorKind::Catalog`](bty::ErrorKind::Catalog): the catalog cannot be read, is too large,
    ///   or violates the schema
    /// - [`ErrorKind::Usage`](bty::ErrorKind::Usage): `reference` is malformed
    /// - [`ErrorKind::Source`](bty::ErrorKind::Source): the server does not answer
    /// - [`ErrorKind::Cancelled`](bty::ErrorKind::Cancelled): `cancel` was cancelled
    fn catalog(&self, reference: &str, cancel: &CancelToken) -> Result<Catalog>;

    /// Resolves an `oras://` reference to its blob: `digest`, `size_bytes`, `title`.
    ///
    /// # Errors
    /// - [`ErrorKind::Source`](bty::ErrorKind::Source): the registry does not answer, or has no
    ///   such artifact
    /// - [`ErrorKind::Usage`](bty::ErrorKind::Usage): the reference is malformed, or an index of
    ///   several artifacts
    /// - [`ErrorKind::Format`](bty::ErrorKind::Format): the manifest is malformed, or has no disk
    ///   image
    /// - [`ErrorKind::Integrity`](bty::ErrorKind::Integrity): the manifest has another digest than
    ///   the reference
    /// - [`ErrorKind::Host`](bty::ErrorKind::Host): the network threads cannot be started
    fn resolve_oci(&self, reference: &str, cancel: &CancelToken) -> Result<serde_json::Value>;
}

/// Writes disks and images.
pub trait Flasher: Send + Sync {
    /// Executes `plan` with `image`.
    ///
    /// # Errors
    /// - [`ErrorKind::Refused`](bty::ErrorKind::Refused): the plan does not fit the image or the
    ///   disks, or a rule forbids it; nothing was written
    /// - [`ErrorKind::Source`](bty::ErrorKind::Source),
    ///   [`ErrorKind::Format`](bty::ErrorKind::Format) or
    ///   [`ErrorKind::Integrity`](bty::ErrorKind::Integrity): the image cannot be read, is damaged,
    ///   or differs from what was expected
    /// - [`ErrorKind::Cancelled`](bty::ErrorKind::Cancelled): `cancel` was cancelled
    ///
    /// Failures of single targets are in the report.
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
    /// - [`ErrorKind::Refused`](bty::ErrorKind::Refused): the disk is smaller than the image, or
    ///   another one than was probed
    /// - [`ErrorKind::Target`](bty::ErrorKind::Target): the disk cannot be opened or read
    /// - [`ErrorKind::Source`](bty::ErrorKind::Source),
    ///   [`ErrorKind::Format`](bty::ErrorKind::Format) or
    ///   [`ErrorKind::Integrity`](bty::ErrorKind::Integrity): the image cannot be read, is damaged,
    ///   or differs from what was expected
    /// - [`ErrorKind::Cancelled`](bty::ErrorKind::Cancelled): `cancel` was cancelled
    ///
    /// A difference is not an error: the report says where it is.
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
    /// - [`ErrorKind::Refused`](bty::ErrorKind::Refused): there is something at `path` already
    /// - [`ErrorKind::Target`](bty::ErrorKind::Target): the file cannot be created
    fn create(&self, path: &Path, size_bytes: u64) -> Result<Disk>;

    /// Writes an image to `path` as a packed image.
    ///
    /// # Errors
    /// - [`ErrorKind::Refused`](bty::ErrorKind::Refused): the name does not end in `.zst`, or there
    ///   is something at `path` already
    /// - [`ErrorKind::Usage`](bty::ErrorKind::Usage): an option is out of range
    /// - [`ErrorKind::Source`](bty::ErrorKind::Source),
    ///   [`ErrorKind::Format`](bty::ErrorKind::Format),
    ///   [`ErrorKind::Integrity`](bty::ErrorKind::Integrity): the image cannot be read, is damaged,
    ///   or has another digest than expected
    /// - [`ErrorKind::Host`](bty::ErrorKind::Host): the packed image cannot be written
    /// - [`ErrorKind::Cancelled`](bty::ErrorKind::Cancelled)
    fn pack(
        &self,
        image: &Image,
        path: &Path,
        options: &PackOptions,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<PackReport>;

    /// Writes an image of a disk to `path`.
    ///
    /// # Errors
    /// - [`ErrorKind::Refused`](bty::ErrorKind::Refused): the disk is in use, the name has no known
    ///   ending, or there is something at `path` already
    /// - [`ErrorKind::Source`](bty::ErrorKind::Source): the disk cannot be read
    /// - [`ErrorKind::Host`](bty::ErrorKind::Host): the image cannot be written
    /// - [`ErrorKind::Integrity`](bty::ErrorKind::Integrity): the image differs from the disk
    /// - [`ErrorKind::Cancelled`](bty::ErrorKind::Cancelled)
    fn create_image(
        &self,
        disk: &Disk,
        path: &Path,
        options: &CreateOptions,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<CreateReport>;
}

/// The rest of the machine: clock, firmware, kernel.
pub trait Platform: Send + Sync {
    /// The time of the machine's clock.
    fn now(&self) -> SystemTime;

    /// Sleeps for `time`.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`](bty::ErrorKind::Cancelled).
    fn sleep(&self, time: Duration, cancel: &CancelToken) -> Result<()>;

    /// The machine's host name.
    fn hostname(&self) -> String;

    /// The kernel command line.
    fn cmdline(&self) -> String;

    /// What the firmware reports about the machine.
    fn dmi(&self) -> Dmi;

    /// Disks and hardware.
    ///
    /// # Errors
    /// [`ErrorKind::Host`](bty::ErrorKind::Host): sysfs cannot be read.
    fn inventory(&self) -> Result<Inventory>;

    /// Loads the kernel of the system on a disk, so that kexec can start it.
    ///
    /// # Errors
    /// - [`ErrorKind::Host`](bty::ErrorKind::Host): the disk has no kernel, or the running kernel
    ///   refuses to load it
    fn load_kernel(&self, disk: &Path) -> Result<()>;

    /// Writes a line to the kernel log.
    fn log(&self, line: &str);
}

/// Sends HTTP requests for scripts.
pub trait Web: Send + Sync {
    /// Sends one request and returns the response, whatever its status.
    ///
    /// # Errors
    /// - [`ErrorKind::Usage`](bty::ErrorKind::Usage): the URL or the method is malformed
    /// - [`ErrorKind::Source`](bty::ErrorKind::Source): the server does not answer, or its address
    ///   is not allowed
    /// - [`ErrorKind::Host`](bty::ErrorKind::Host): the network threads cannot be started
    fn exchange(&self, request: &Request<'_>, cancel: &CancelToken) -> Result<Reply>;
}

/// Reads and writes text files. Paths are relative to a directory that scripts cannot leave.
pub trait Files: Send + Sync {
    /// The text of the file at `path`.
    ///
    /// # Errors
    /// - [`ErrorKind::Usage`](bty::ErrorKind::Usage): `path` is not below the directory
    /// - [`ErrorKind::Source`](bty::ErrorKind::Source): the file does not exist
    /// - [`ErrorKind::Format`](bty::ErrorKind::Format): the file is not text in UTF-8
    /// - [`ErrorKind::Refused`](bty::ErrorKind::Refused): there is no directory, or the file is not
    ///   a regular one, or too large
    /// - [`ErrorKind::Host`](bty::ErrorKind::Host): reading fails
    fn read_text(&self, path: &str) -> Result<String>;

    /// Writes a file, or replaces it as a whole.
    ///
    /// # Errors
    /// - [`ErrorKind::Usage`](bty::ErrorKind::Usage): `path` is not below the directory
    /// - [`ErrorKind::Source`](bty::ErrorKind::Source): the directory of the file does not exist
    /// - [`ErrorKind::Refused`](bty::ErrorKind::Refused): scripts have no directory, or `text` is
    ///   too large
    /// - [`ErrorKind::Host`](bty::ErrorKind::Host): writing fails
    fn write_text(&self, path: &str, text: &str) -> Result<()>;
}

/// Everything that scripts act on. Cheap to clone.
#[derive(Clone)]
pub struct World {
    /// Lists and opens disks.
    pub disks: Arc<dyn bty::DiskHost>,
    /// Opens images and catalogs.
    pub images: Arc<dyn Images>,
    /// Writes disks and images.
    pub flasher: Arc<dyn Flasher>,
    /// The rest of the machine: clock, firmware, kernel.
    pub platform: Arc<dyn Platform>,
    /// Sends HTTP requests for the script.
    pub web: Arc<dyn Web>,
    /// Reads and writes text files; by default none.
    pub files: Arc<dyn Files>,
    /// Shows text and reads answers.
    pub terminal: Arc<dyn Terminal>,
    /// Gets the progress of operations for which the script does not take it itself.
    pub observer: Arc<dyn ProgressSink>,
}

/// Displays the progress of one operation after another.
pub trait ProgressSink: Observer {
    /// Called at the end of each operation, to remove progress bars.
    fn finished(&self) {}
}

impl ProgressSink for () {}

impl World {
    /// A world in which every operation fails, for scripts that only compute. Output of `print` is
    /// discarded.
    #[must_use]
    pub fn empty() -> Self {
        let nothing = Arc::new(empty::EmptyWorld);
        Self {
            disks: nothing.clone(),
            images: nothing.clone(),
            flasher: nothing.clone(),
            platform: nothing.clone(),
            web: nothing.clone(),
            files: Arc::new(files::NoFiles),
            terminal: nothing,
            observer: Arc::new(()),
        }
    }
}
