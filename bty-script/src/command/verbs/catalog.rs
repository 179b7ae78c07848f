//! `bty catalog`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use bty::catalog::{self, Catalog, Entry};
use bty::digest::Checksums;
use bty::size::human;
use bty::{CancelToken, Client, ErrorKind, Location, Result, text};
use serde_json::json;

use crate::cli::{CatalogAction, Network};
use crate::output::{NoticePrinter, Output};
use crate::{exit, network, signals};

pub(super) fn run(action: CatalogAction, network: &Network, output: &Output) -> Result<ExitCode> {
    let cancel = signals::cancel_on_signal()?;
    let client = network::client(network, Arc::new(NoticePrinter { is_json: output.is_json() }))?;
    match action {
        CatalogAction::Show { src, .. } => show(&Catalog::load(&client, &src, &cancel)?, output),
        CatalogAction::Check { src, .. } => return check(&client, &src, output, &cancel),
        CatalogAction::Add { catalog, src, name, sha256, sha512, sha_url, description, .. } => {
            let given = Checksums { sha256, sha512 };
            for src in &src {
                let mut entry = examine(&client, src, name.as_deref(), &cancel)?;
                let listed = sha_url.as_deref().map(|url| {
                    let is_web = matches!(src.parse(), Ok(Location::Http(_)));
                    let file = if is_web { None } else { catalog::file_name(src) };
                    let image = file.unwrap_or_else(|| src.clone());
                    catalog::fetch_checksum(&client, url, &image, &cancel)
                });
                let promised = listed.transpose()?.unwrap_or(given);
                entry.sha256 = promised.sha256.or(entry.sha256);
                entry.sha512 = promised.sha512;
                entry.description.clone_from(&description);
                add(&catalog, &entry, output)?;
            }
        }
        CatalogAction::Ref { src, .. } => {
            for src in &src {
                let canonical = catalog::canonical_src(src)?;
                let reference = catalog::image_ref(src)?;
                output.result(&json!({ "src": canonical, "ref": reference }), || {
                    format!("{reference}  {canonical}")
                });
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(catalog: &Catalog, output: &Output) {
    for entry in catalog.entries() {
        output.result(entry, || describe(entry));
    }
}

fn describe(entry: &Entry) -> String {
    let mut shown = format!("{}\n    {}", text::escape(&entry.name), text::escape(entry.src()));
    let size = entry.size_bytes.map(human);
    let digests = Some(entry.checksums().to_string()).filter(|digests| !digests.is_empty());
    let facts: Vec<String> =
        [entry.format.clone(), entry.arch.clone(), size, digests].into_iter().flatten().collect();
    if !facts.is_empty() {
        shown.push_str(&format!("\n    {}", text::escape(&facts.join(", "))));
    }
    if let Some(description) = &entry.description {
        shown.push_str(&format!("\n    {}", text::escape(description)));
    }
    shown
}

fn check(client: &Client, src: &str, output: &Output, cancel: &CancelToken) -> Result<ExitCode> {
    let catalog = Catalog::load(client, src, cancel)?;
    let checks = catalog::check(client, &catalog, cancel)?;
    for check in &checks {
        output.result(check, || match check.problems.as_slice() {
            [] => format!("ok      {}", text::escape(&check.name)),
            problems => format!(
                "failed  {}: {}",
                text::escape(&check.name),
                text::escape(&problems.join("; "))
            ),
        });
    }
    let bad = checks.iter().filter(|c| !c.is_ok()).count();
    output.say(&format!("{} checked, {bad} with problems", text::count(checks.len(), "image")));
    Ok(if bad == 0 { ExitCode::SUCCESS } else { exit::code(ErrorKind::Source) })
}

/// Creates an entry for `src`, with the size and digest that its server reports.
fn examine(client: &Client, src: &str, name: Option<&str>, cancel: &CancelToken) -> Result<Entry> {
    catalog::canonical_src(src)?;
    let source = client.open(src, cancel)?;
    let mut entry = Entry::new(name.unwrap_or(source.name()), src)?;
    entry.size_bytes = source.len_bytes();
    entry.sha256 = source.expected_digest();
    Ok(entry)
}

fn add(path: &Path, entry: &Entry, output: &Output) -> Result<()> {
    Catalog::append_to_file(path, entry)?;
    output.result(entry, || {
        format!("added {} to {}", text::escape(&entry.name), text::escape_name(path))
    });
    Ok(())
}
