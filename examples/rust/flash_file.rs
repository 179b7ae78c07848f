//! Writes an image to a new file, for example the disk of a virtual machine, and shows progress.
//! The same calls write to a real disk.
//!
//! cargo run -p bty-core --example flash_file -- IMAGE NEW-FILE

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;

use bty::flash::{FlashOptions, FlashPlan};
use bty::image::OpenOptions;
use bty::{CancelToken, Client, DiskHost, Error, ErrorKind, Event, Image, Result, SystemHost};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(reference), Some(target)) = (arguments.next(), arguments.next()) else {
        return Err(Error::new(ErrorKind::Usage, "expected two arguments: IMAGE NEW-FILE"));
    };
    let cancel = CancelToken::new();
    let image = Image::open(&Client::default(), &reference, &OpenOptions::default(), &cancel)?;
    let size = match image.info().disk_bytes {
        Some(size) => size,
        None => image.read_fully(&(), &cancel)?.disk_bytes,
    };

    let host = SystemHost::new();
    host.create(Path::new(&target), size.next_multiple_of(512))?;
    let disk = host.probe(Path::new(&target))?;

    let plan = FlashPlan::new(image.info(), vec![disk], FlashOptions::default());
    for refusal in plan.validate() {
        eprintln!("refused: {refusal}");
    }
    let show = |event: &Event| {
        if let Event::Progress { counts, .. } = event {
            eprintln!("{} bytes decoded", counts.decoded_bytes);
        }
    };
    let report = plan.execute(&image, &host, &show, &cancel)?;
    println!("flashed and verified: {}", report.is_success());
    Ok(())
}
