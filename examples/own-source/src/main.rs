//! Flashes an image that is stored in parts (`split -b 1M disk.img part.`) to a disk in memory.

#![allow(clippy::print_stdout)]

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use bty::flash::{FlashOptions, FlashPlan};
use bty::image::OpenOptions;
use bty::source::CustomSource;
use bty::testing::{MemoryDisk, MemoryHost};
use bty::{CancelToken, Client, DiskHost, Image, Result};

struct Parts(Vec<PathBuf>);

impl CustomSource for Parts {
    fn len_bytes(&self) -> Option<u64> {
        self.0.iter().map(|part| Some(part.metadata().ok()?.len())).sum()
    }

    fn stream(&self, _offset: u64, _: &CancelToken) -> io::Result<Box<dyn Read + Send>> {
        let empty: Box<dyn Read + Send> = Box::new(io::empty());
        let parts = self.0.iter().map(File::open).collect::<io::Result<Vec<_>>>()?;
        Ok(parts.into_iter().fold(empty, |all, part| Box::new(all.chain(part))))
    }
}

fn main() -> Result<()> {
    let (client, cancel) = (Client::default(), CancelToken::new());
    let parts = Parts(std::env::args_os().skip(1).map(PathBuf::from).collect());
    let image = Image::from_source(&client, "parts", parts, &OpenOptions::default(), &cancel)?;
    let host = MemoryHost::with(&Arc::new(MemoryDisk::new(64 << 20)));
    let plan = FlashPlan::new(image.info(), host.list()?, FlashOptions::default());
    let report = plan.execute(&image, &host, &(), &cancel)?;
    println!("flashed and verified: {}", report.is_success());
    for partition in &host.list()?[0].partitions {
        println!("partition {} at {}", partition.number, partition.start_bytes);
    }
    Ok(())
}
