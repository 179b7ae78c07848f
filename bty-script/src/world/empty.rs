//! The world of scripts that only compute. Capabilities are checked first, so these functions are
//! reached only by mistake.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bty::catalog::Catalog;
use bty::client::{Reply, Request};
use bty::create::{CreateOptions, CreateReport};
use bty::flash::{FlashPlan, FlashReport, VerifyReport};
use bty::hardware::{Dmi, Inventory};
use bty::image::directory::ImageFile;
use bty::image::{Contents, OpenOptions};
use bty::pack::{PackCheck, PackOptions, PackReport};
use bty::{CancelToken, Device, Disk, DiskHost, Error, ErrorKind, Observer, Result};

use super::{Flasher, Image, Images, Platform, Web};
use crate::terminal::{Terminal, TerminalSize};

pub(super) struct EmptyWorld;

fn nothing<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Host, "this script can only compute").hint("run it with bty run"))
}

impl DiskHost for EmptyWorld {
    fn list(&self) -> Result<Vec<Disk>> {
        nothing()
    }
    fn probe(&self, _: &Path) -> Result<Disk> {
        nothing()
    }
    fn open(&self, _: &Disk) -> Result<Arc<dyn Device>> {
        nothing()
    }
    fn open_read_only(&self, _: &Disk) -> Result<Arc<dyn Device>> {
        nothing()
    }
    fn create(&self, _: &Path, _: u64) -> Result<()> {
        nothing()
    }
}

impl Images for EmptyWorld {
    fn open(&self, _: &str, _: &OpenOptions, _: &CancelToken) -> Result<Image> {
        nothing()
    }
    fn list(&self, _: &Path) -> Result<Vec<ImageFile>> {
        nothing()
    }
    fn read_fully(&self, _: &Image, _: &dyn Observer, _: &CancelToken) -> Result<Contents> {
        nothing()
    }
    fn check_packed(&self, _: &Image, _: &CancelToken) -> Result<PackCheck> {
        nothing()
    }
    fn catalog(&self, _: &str, _: &CancelToken) -> Result<Catalog> {
        nothing()
    }
    fn resolve_oci(&self, _: &str, _: &CancelToken) -> Result<serde_json::Value> {
        nothing()
    }
}

impl Flasher for EmptyWorld {
    fn execute(
        &self,
        _: &FlashPlan,
        _: &Image,
        _: &dyn Observer,
        _: &CancelToken,
    ) -> Result<FlashReport> {
        nothing()
    }
    fn verify(
        &self,
        _: &Image,
        _: &Disk,
        _: &dyn Observer,
        _: &CancelToken,
    ) -> Result<VerifyReport> {
        nothing()
    }
    fn create(&self, _: &Path, _: u64) -> Result<Disk> {
        nothing()
    }
    fn pack(
        &self,
        _: &Image,
        _: &Path,
        _: &PackOptions,
        _: &dyn Observer,
        _: &CancelToken,
    ) -> Result<PackReport> {
        nothing()
    }
    fn create_image(
        &self,
        _: &Disk,
        _: &Path,
        _: &CreateOptions,
        _: &dyn Observer,
        _: &CancelToken,
    ) -> Result<CreateReport> {
        nothing()
    }
}

impl Platform for EmptyWorld {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
    fn sleep(&self, _: Duration, _: &CancelToken) -> Result<()> {
        nothing()
    }
    fn hostname(&self) -> String {
        String::new()
    }
    fn cmdline(&self) -> String {
        String::new()
    }
    fn dmi(&self) -> Dmi {
        Dmi::default()
    }
    fn inventory(&self) -> Result<Inventory> {
        nothing()
    }
    fn load_kernel(&self, _: &Path) -> Result<()> {
        nothing()
    }

    fn log(&self, _: &str) {}
}

impl Web for EmptyWorld {
    fn exchange(&self, _: &Request<'_>, _: &CancelToken) -> Result<Reply> {
        nothing()
    }
}

impl Terminal for EmptyWorld {
    fn size(&self) -> TerminalSize {
        TerminalSize::default()
    }
    fn print(&self, _: &str) {}
    fn say(&self, _: &str) {}
    fn read_line(&self, _: &str, _: &CancelToken) -> Result<Option<String>> {
        nothing()
    }
}
