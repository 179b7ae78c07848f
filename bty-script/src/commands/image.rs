//! `bty image`.

use std::process::ExitCode;
use std::sync::Arc;

use bty::image::{Contents, Format, ImageInfo, OpenOptions};
use bty::size::human;
use bty::{Image, Result};

use crate::cli::Network;
use crate::host;
use crate::output::Output;
use crate::progress::Watcher;

pub(super) fn run(src: &str, full: bool, network: &Network, output: &Output) -> Result<ExitCode> {
    let cancel = host::cancel_on_signal()?;
    let watcher = Arc::new(Watcher::new(output.is_json()));
    let client = host::client(network, watcher.clone());
    let image = Image::open(&client, src, &OpenOptions::default(), &cancel)?;
    let info = image.info();
    let observed = |source, decoded| watcher.read(info, source, decoded);
    let contents = full.then(|| image.read_fully(&observed, &cancel)).transpose();
    watcher.clear();
    let contents = contents?;
    let mut value = serde_json::to_value(info).unwrap_or_default();
    if let (Some(contents), Some(fields)) = (&contents, value.as_object_mut()) {
        fields.insert("contents".into(), serde_json::to_value(contents).unwrap_or_default());
    }
    output.result(&value, || describe(info, contents.as_ref()));
    Ok(ExitCode::SUCCESS)
}

/// An image on a few lines.
pub(super) fn describe(info: &ImageInfo, contents: Option<&Contents>) -> String {
    let mut text = format!("{}\n    {}", info.source, summary(info));
    for p in &info.partitions {
        let name = p.name.as_deref().map_or(String::new(), |n| format!(" {n:?}"));
        text.push_str(&format!(
            "\n    partition {}{name}: {} at {}",
            p.number,
            human(p.size_bytes),
            human(p.start_bytes)
        ));
    }
    if let (Some(digest), None) = (info.expected_sha256, contents) {
        text.push_str(&format!("\n    sha256 {digest}"));
    }
    if let Some(all) = contents {
        text.push_str(&format!(
            "\n    read in full: {} decoded, {} of it not zero\n    sha256 {}",
            human(all.disk_bytes),
            human(all.data_bytes),
            all.source_sha256
        ));
    }
    text
}

/// Format, sizes and partition table in one line.
pub(super) fn summary(info: &ImageInfo) -> String {
    let mut parts = vec![info.format.to_string()];
    if let Some(bytes) = info.source_bytes {
        parts.push(human(bytes));
    }
    match info.disk_bytes {
        Some(_) if info.format == Format::Raw => {}
        Some(bytes) => parts.push(format!("decodes to {}", human(bytes))),
        None => parts.push("decodes to a size that it does not tell".into()),
    }
    if let Some(table) = info.table {
        let sectors = info.sector_bytes.map_or(String::new(), |s| format!(" in {s}-byte sectors"));
        parts.push(format!("{}{sectors}", format!("{table:?}").to_uppercase()));
    }
    parts.join(", ")
}
