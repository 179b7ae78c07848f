//! `bty image pull`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use bty::catalog::Catalog;
use bty::create::{self, PullReport};
use bty::digest::Checksums;
use bty::size::human;
use bty::{CancelToken, Client, Result, Source, text};
use bty_script::terminal::Style;

use crate::cli::{Network, PullImage};
use crate::output::Output;
use crate::progress::ProgressDisplay;
use crate::verbs::catalog::CatalogPlace;
use crate::verbs::flash::file_in;
use crate::{network, signals};

pub(super) fn run(arguments: &PullImage, network: &Network, output: &Output) -> Result<ExitCode> {
    let cancel = signals::cancel_on_signal()?;
    let progress = Arc::new(ProgressDisplay::new(output.is_json()));
    let client = network::client(network, progress.clone())?;
    let source = open(arguments, &client, &cancel)?;
    let path = file_for(arguments.out.as_deref(), source.name());
    let report = create::pull(&source, &path, &*progress, &cancel);
    progress.clear();
    let report = report?;
    output.event("report", &report);
    output.say_styled("", Style::Good, "done", &format!(" {}", describe(&report)));
    Ok(ExitCode::SUCCESS)
}

/// The source, with all digests that are known.
fn open(arguments: &PullImage, client: &Client, cancel: &CancelToken) -> Result<Source> {
    let (mut src, mut listed) = (arguments.src.clone(), Checksums::default());
    match arguments.catalog.as_deref().map(CatalogPlace::of) {
        None => {}
        Some(CatalogPlace::Directory(dir)) => src = file_in(&dir, &src)?,
        Some(CatalogPlace::File(catalog)) => {
            let catalog = Catalog::load(client, &catalog, cancel)?;
            let entry = catalog.find(&src)?;
            listed = entry.checksums();
            src = entry.src().to_owned();
        }
    }
    let given = Checksums { sha256: arguments.sha256, sha512: arguments.sha512 };
    client.open_expecting(&src.parse()?, given, cancel)?.expect_all(listed)
}

/// The file to create: `out`, or the file `name` in it if it is a directory.
fn file_for(out: Option<&Path>, name: &str) -> PathBuf {
    match out {
        None => name.into(),
        Some(out) if out.is_dir() => out.join(name),
        Some(out) => out.to_owned(),
    }
}

fn describe(report: &PullReport) -> String {
    let proof = if report.is_digest_checked {
        "the digest matches"
    } else {
        "no digest was expected; it is in the .sha256 file now"
    };
    format!(
        "{}: {}, {proof}\n  sha256 {}",
        text::escape_name(&report.path),
        human(report.file_bytes),
        report.sha256
    )
}
