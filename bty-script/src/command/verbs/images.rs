//! `bty images`.

use std::path::Path;
use std::process::ExitCode;

use bty::Result;
use bty::image::directory;
use bty::size::human;
use bty::text;

use crate::output::Output;

pub(super) fn run(dir: &Path, output: &Output) -> Result<ExitCode> {
    let images = directory::list(dir)?;
    if images.is_empty() && !output.is_json() {
        output.say(&format!("no images in {}", text::escape_name(dir)));
    }
    for image in &images {
        output.result(image, || {
            let digest = if image.sha256.is_some() { "  with digest" } else { "" };
            let arch = image.arch.as_ref().map_or(String::new(), |a| format!("  {a}"));
            format!(
                "{:>10}  {:<8}  {}{arch}{digest}",
                human(image.size_bytes),
                image.format,
                text::escape(&image.name)
            )
        });
    }
    Ok(ExitCode::SUCCESS)
}
