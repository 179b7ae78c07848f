//! Writes an image to several disks at once, each as a task of tokio with a time limit, while the
//! program does something else.

use std::path::Path;
use std::time::Duration;

use bty::flash::{FlashOptions, FlashPlan};
use bty::image::OpenOptions;
use bty::{Client, DiskHost, Error, ErrorKind, Event, Image, Result, SystemHost};

const TIME_LIMIT: Duration = Duration::from_secs(3600);

/// Flashes one disk, and prints its phases.
async fn flash(image: Image, path: String) -> Result<bool> {
    let host = SystemHost::new();
    let disk = host.probe(Path::new(&path))?;
    let plan = FlashPlan::new(image.info(), vec![disk], FlashOptions::default());
    let flash = plan.execute_async(&image, host);
    let mut events = flash.events();
    let show = async {
        while let Some(event) = events.next().await {
            if let Event::Phase { phase } = event {
                println!("{path}: {phase}");
            }
        }
    };
    // when the time is over, the flash is dropped, which cancels it
    let (report, ()) = tokio::join!(tokio::time::timeout(TIME_LIMIT, flash), show);
    let late = |e| Error::new(ErrorKind::Target, format!("flashing {path}")).because(e);
    Ok(report.map_err(late)??.is_success())
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let reference = arguments
        .next()
        .ok_or_else(|| Error::new(ErrorKind::Usage, "expected arguments: IMAGE DISK…"))?;
    let image = Image::open_async(&Client::default(), &reference, &OpenOptions::default()).await?;
    let tasks: Vec<_> = arguments.map(|path| tokio::spawn(flash(image.clone(), path))).collect();
    for task in tasks {
        println!("flashed and verified: {}", task.await.expect("no task panics")?);
    }
    Ok(())
}
