//! The machine that this process runs on.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bty::catalog::Catalog;
use bty::client::{Reply, Request};
use bty::create::{self, CreateOptions, CreateReport};
use bty::flash::{self, FlashPlan, FlashReport, VerifyOptions, VerifyReport};
use bty::hardware::{self, Dmi, HardwareRoots, Inventory};
use bty::image::directory::{self, ImageFile};
use bty::image::{Contents, OpenOptions};
use bty::pack::{self, PackCheck, PackOptions, PackReport};
use bty::{CancelToken, Client, Disk, DiskHost, Error, ErrorKind, Observer, Result, SystemHost};

use super::{Flasher, Image, Images, Platform, ProgressSink, Web, World};
use crate::terminal::Terminal;

/// Interval at which a sleep checks for cancellation.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// The machine on which the program runs.
pub struct SystemWorld {
    client: Client,
    disks: Arc<dyn DiskHost>,
}

impl SystemWorld {
    /// This machine; network access goes through `client`.
    #[must_use]
    pub fn world(
        client: Client,
        terminal: Arc<dyn Terminal>,
        observer: Arc<dyn ProgressSink>,
    ) -> World {
        Self::world_with(Arc::new(SystemHost::new()), client, terminal, observer)
    }

    /// This machine with the disks of another host.
    #[must_use]
    pub fn world_with(
        disks: Arc<dyn DiskHost>,
        client: Client,
        terminal: Arc<dyn Terminal>,
        observer: Arc<dyn ProgressSink>,
    ) -> World {
        let system = Arc::new(Self { client, disks: Arc::clone(&disks) });
        World {
            disks,
            images: system.clone(),
            flasher: system.clone(),
            platform: system.clone(),
            web: system,
            files: Arc::new(super::files::NoFiles),
            terminal,
            observer,
        }
    }
}

/// The error for a simulated image, which has no data.
fn no_data() -> Error {
    Error::new(ErrorKind::Usage, "cannot read the image: it is simulated")
        .hint("open it with images::open")
}

fn opened(image: &Image) -> Result<&bty::Image> {
    image.opened.as_ref().ok_or_else(no_data)
}

impl Images for SystemWorld {
    fn open(&self, reference: &str, options: &OpenOptions, cancel: &CancelToken) -> Result<Image> {
        bty::Image::open(&self.client, reference, options, cancel).map(Image::from)
    }

    fn list(&self, dir: &Path) -> Result<Vec<ImageFile>> {
        directory::list(dir)
    }

    fn read_fully(
        &self,
        image: &Image,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<Contents> {
        opened(image)?.read_fully(observer, cancel)
    }

    fn check_packed(&self, image: &Image, cancel: &CancelToken) -> Result<PackCheck> {
        pack::check(opened(image)?.source(), cancel)
    }

    fn catalog(&self, reference: &str, cancel: &CancelToken) -> Result<Catalog> {
        Catalog::load(&self.client, reference, cancel)
    }

    fn resolve_oci(&self, reference: &str, cancel: &CancelToken) -> Result<serde_json::Value> {
        let blob = self.client.resolve_oci(&reference.parse()?, cancel)?;
        Ok(serde_json::json!({
            "digest": blob.digest, "size_bytes": blob.size_bytes, "title": blob.title,
        }))
    }
}

impl Flasher for SystemWorld {
    fn execute(
        &self,
        plan: &FlashPlan,
        image: &Image,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<FlashReport> {
        plan.execute(opened(image)?, &*self.disks, observer, cancel)
    }

    fn verify(
        &self,
        image: &Image,
        disk: &Disk,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<VerifyReport> {
        let options = VerifyOptions::default();
        flash::verify(opened(image)?, disk, &*self.disks, &options, observer, cancel)
    }

    fn create(&self, path: &Path, size_bytes: u64) -> Result<Disk> {
        let disk = SystemHost::new().plan_file(path, size_bytes)?;
        self.disks.create(&disk.path, disk.size_bytes)?;
        self.disks.probe(&disk.path)
    }

    fn pack(
        &self,
        image: &Image,
        path: &Path,
        options: &PackOptions,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<PackReport> {
        pack::pack(opened(image)?, path, options, observer, cancel)
    }

    fn create_image(
        &self,
        disk: &Disk,
        path: &Path,
        options: &CreateOptions,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<CreateReport> {
        create::create(disk, path, options, &*self.disks, observer, cancel)
    }
}

impl Platform for SystemWorld {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep(&self, time: Duration, cancel: &CancelToken) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            cancel.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(CANCEL_POLL));
        }
    }

    fn hostname(&self) -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }

    fn cmdline(&self) -> String {
        std::fs::read_to_string("/proc/cmdline").unwrap_or_default().trim().to_owned()
    }

    fn dmi(&self) -> Dmi {
        hardware::dmi(&HardwareRoots::default())
    }

    fn inventory(&self) -> Result<Inventory> {
        Inventory::collect(&*self.disks, &HardwareRoots::default())
    }

    fn load_kernel(&self, disk: &Path) -> Result<()> {
        // read its partitions again: a flash has replaced them
        let disk = self.disks.probe(disk)?;
        bty::boot::load_kernel(&disk).map(drop)
    }

    fn log(&self, line: &str) {
        let _ = std::fs::write("/dev/kmsg", format!("<6>bty: {line}\n"));
    }
}

impl Web for SystemWorld {
    fn exchange(&self, request: &Request<'_>, cancel: &CancelToken) -> Result<Reply> {
        self.client.exchange(request, cancel)
    }
}
