//! `bty image`.

use std::process::ExitCode;
use std::sync::Arc;

use bty::image::{Contents, ImageInfo, OpenOptions};
use bty::size::human;
use bty::{Event, Image, Result, text};

use crate::cli::Network;
use crate::output::Output;
use crate::progress::ProgressDisplay;
use crate::{network, signals};

pub(super) fn run(src: &str, full: bool, network: &Network, output: &Output) -> Result<ExitCode> {
    let cancel = signals::cancel_on_signal()?;
    let progress = Arc::new(ProgressDisplay::new(output.is_json()));
    let client = network::client(network, progress.clone())?;
    let image = Image::open(&client, src, &OpenOptions::default(), &cancel)?;
    let info = image.info();
    let observed = |event: &Event| progress.event_for_people(event);
    let contents = full.then(|| image.read_fully(&observed, &cancel)).transpose();
    progress.clear();
    let contents = contents?;
    image.warnings().iter().for_each(|note| output.warn(note));
    let mut value = serde_json::to_value(info).unwrap_or_default();
    if let (Some(contents), Some(fields)) = (&contents, value.as_object_mut()) {
        fields.insert("contents".into(), serde_json::to_value(contents).unwrap_or_default());
    }
    output.result(&value, || describe(info, contents.as_ref()));
    Ok(ExitCode::SUCCESS)
}

/// Describes an image on several lines.
pub(super) fn describe(info: &ImageInfo, contents: Option<&Contents>) -> String {
    let mut shown =
        format!("{}\n    {}", text::escape(&info.source), text::escape(&info.summary()));
    for p in &info.partitions {
        let name = p
            .name
            .as_deref()
            .map_or(String::new(), |n| format!(" {}", text::escape(&format!("{n:?}"))));
        shown.push_str(&format!(
            "\n    partition {}{name}: {} at {}",
            p.number,
            human(p.size_bytes),
            human(p.start_bytes)
        ));
    }
    if contents.is_none() {
        info.expected_digests()
            .iter()
            .for_each(|promise| shown.push_str(&format!("\n    {promise}")));
    }
    if let Some(all) = contents {
        shown.push_str(&format!(
            "\n    read completely: {} decoded, {} not zero\n    sha256 {}",
            human(all.disk_bytes),
            human(all.data_bytes),
            all.source_sha256
        ));
    }
    shown
}
