//! Writes an image to a disk, with a progress bar. Ctrl-C cancels, and leaves a disk that does not
//! boot.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bty::flash::{FlashOptions, FlashPlan};
use bty::image::OpenOptions;
use bty::{
    CancelToken, Client, DiskHost, Error, ErrorKind, Event, Image, Phase, Result, SystemHost,
};
use bty::{size, text};

const WIDTH: u64 = 40;

/// Draws one line over the last one.
fn show(event: &Event) {
    let Event::Progress { phase, counts, targets, .. } = event else { return };
    let (done, total) = match phase {
        Phase::Verify => (targets[0].verified_bytes, targets[0].verify_total),
        _ => (counts.decoded_bytes, counts.decoded_total),
    };
    // the size of a compressed image may be unknown: its file is read at the same pace
    let (at, end) = match (total, counts.source_total) {
        (Some(total), _) => (done, total),
        (None, Some(total)) => (counts.source_bytes, total),
        (None, None) => (0, 1),
    };
    let filled = usize::try_from(at.min(end) * WIDTH / end.max(1)).unwrap_or(0);
    let bar = "#".repeat(filled) + &".".repeat(WIDTH as usize - filled);
    eprint!("\r{phase:>7} [{bar}] {:<10}", size::human(done));
}

fn flash(reference: &str, path: &str, cancel: &CancelToken) -> Result<bool> {
    let image = Image::open(&Client::default(), reference, &OpenOptions::default(), cancel)?;
    let host = SystemHost::new();
    let disk = host.probe(path.as_ref())?;
    let plan = FlashPlan::new(image.info(), vec![disk], FlashOptions::default());
    let report = plan.execute(&image, &host, &show, cancel);
    eprintln!();
    Ok(report?.is_success())
}

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [reference, path] = &arguments[..] else {
        return Err(Error::new(ErrorKind::Usage, "expected two arguments: IMAGE DISK"));
    };
    let is_interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&is_interrupted))
        .map_err(|e| Error::new(ErrorKind::Host, "waiting for Ctrl-C").because(e))?;
    match flash(reference, path, &is_interrupted.into()) {
        Err(error) if error.is_cancelled() => {
            let has_written = if error.has_written() { "does not boot" } else { "is unchanged" };
            println!("cancelled: {} {has_written}", text::escape(path));
            Ok(ExitCode::from(130))
        }
        result => {
            println!("flashed and verified: {}", result?);
            Ok(ExitCode::SUCCESS)
        }
    }
}
