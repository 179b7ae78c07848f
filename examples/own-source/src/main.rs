//! Flashes an image that is stored in parts (`split -b 1M disk.img part.`) to a disk in memory.

use std::{fs, io::Read, sync::Arc};

use bty::testing::{MemoryDisk, MemoryHost};
use bty::{CancelToken, Client, DiskHost, Image, flash, image::OpenOptions, source::CustomSource};

struct Parts(Vec<String>);

impl CustomSource for Parts {
    fn len_bytes(&self) -> Option<u64> {
        self.0.iter().map(|part| Some(fs::metadata(part).ok()?.len())).sum()
    }

    fn stream(&self, _: u64, _: &CancelToken) -> std::io::Result<Box<dyn Read + Send>> {
        let none: Box<dyn Read + Send> = Box::new(std::io::empty());
        self.0
            .iter()
            .try_fold(none, |all, part| Ok(Box::new(all.chain(fs::File::open(part)?)) as _))
    }
}

fn main() -> bty::Result<()> {
    let (client, options, cancel) = (Client::default(), OpenOptions::default(), CancelToken::new());
    let parts = Parts(std::env::args().skip(1).collect());
    let image = Image::from_source(&client, "parts", parts, &options, &cancel)?;
    let host = MemoryHost::with(&Arc::new(MemoryDisk::new(64 << 20)));
    let plan = flash::FlashPlan::new(image.info(), host.list()?, flash::FlashOptions::default());
    let is_flashed = plan.execute(&image, &host, &(), &cancel)?.is_success();
    println!("flashed and verified: {is_flashed}; {}", host.list()?[0].contents());
    Ok(())
}
