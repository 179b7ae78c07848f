//! `bty catalog`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use bty::catalog::{self, Catalog, Entry};
use bty::digest::{Checksums, Hasher};
use bty::size::human;
use bty::{CancelToken, Client, Error, ErrorKind, Location, Result, text};
use serde_json::json;

use crate::cli::{AddImages, CatalogAction, Network};
use crate::output::{NoticePrinter, Output};
use crate::{exit, network, signals};

pub(super) fn run(action: CatalogAction, network: &Network, output: &Output) -> Result<ExitCode> {
    let cancel = signals::cancel_on_signal()?;
    let client = network::client(network, Arc::new(NoticePrinter { is_json: output.is_json() }))?;
    match action {
        CatalogAction::Show { src, .. } => match CatalogPlace::of(&src) {
            CatalogPlace::Directory(dir) => return super::images::run(&dir, output),
            CatalogPlace::File(src) => show(&Catalog::load(&client, &src, &cancel)?, output),
        },
        CatalogAction::Check { src, .. } => return check(&client, &src, output, &cancel),
        CatalogAction::Add(images) => add_all(&client, &images, output, &cancel)?,
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

/// What `--catalog` names.
pub(super) enum CatalogPlace {
    /// A catalog, by its reference.
    File(String),
    /// A directory of images without a catalog.
    Directory(PathBuf),
}

impl CatalogPlace {
    /// In a directory, the catalog is the file `catalog.toml`.
    pub(super) fn of(reference: &str) -> Self {
        let dir = text::path_of_reference(reference);
        let file = dir.join("catalog.toml");
        match dir.is_dir() {
            true if file.is_file() => Self::File(text::path_reference(file)),
            true => Self::Directory(dir),
            false => Self::File(reference.to_owned()),
        }
    }
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

fn add_all(
    client: &Client,
    images: &AddImages,
    output: &Output,
    cancel: &CancelToken,
) -> Result<()> {
    let given = Checksums { sha256: images.sha256, sha512: images.sha512 };
    for src in &images.src {
        let mut entry = match &images.base_url {
            Some(base) => examine_file(client, src, base, images.name.as_deref(), cancel)?,
            None => examine(client, src, images.name.as_deref(), cancel)?,
        };
        let listed = images.sha_url.as_deref().map(|url| {
            let is_web = matches!(src.parse(), Ok(Location::Http(_)));
            let file = if is_web { None } else { catalog::file_name(src) };
            let image = file.unwrap_or_else(|| src.clone());
            catalog::fetch_checksum(client, url, &image, cancel)
        });
        let promised = listed.transpose()?.unwrap_or(given);
        entry.sha256 = promised.sha256.or(entry.sha256);
        entry.sha512 = promised.sha512;
        entry.description.clone_from(&images.description);
        add(&images.catalog, &entry, output)?;
    }
    Ok(())
}

/// Creates an entry for `src`, with the size and digest that its server reports.
fn examine(client: &Client, src: &str, name: Option<&str>, cancel: &CancelToken) -> Result<Entry> {
    if Path::new(src).is_file() {
        let message = format!("{src} is a file, and a catalog names what other machines can reach");
        return Err(Error::new(ErrorKind::Usage, message)
            .hint("serve its directory, and add --base-url with the URL of that directory"));
    }
    catalog::canonical_src(src)?;
    let source = client.open(src, cancel)?;
    let mut entry = Entry::new(name.unwrap_or(source.name()), src)?;
    entry.size_bytes = source.len_bytes();
    entry.sha256 = source.expected_digest();
    Ok(entry)
}

/// Creates an entry for the file `src`, which machines find below `base_url`, with its size and
/// digest.
fn examine_file(
    client: &Client,
    src: &str,
    base_url: &str,
    name: Option<&str>,
    cancel: &CancelToken,
) -> Result<Entry> {
    let source = client.open(src, cancel)?;
    let Location::File(path) = source.location() else {
        return Err(Error::new(ErrorKind::Usage, format!("{src} is not a file"))
            .hint("leave out --base-url for images on servers"));
    };
    let file = path.file_name().unwrap_or_default();
    let address = format!("{}/{}", base_url.trim_end_matches('/'), percent_encoded(file));
    let mut entry = Entry::new(name.unwrap_or(source.name()), address)?;
    let mut hasher = Hasher::new();
    let read = hasher.read(&mut source.reader(cancel)?);
    let doing = || format!("reading {}", path.display());
    entry.size_bytes = Some(read.map_err(|e| Error::from_io(ErrorKind::Source, doing(), e))?);
    entry.sha256 = Some(hasher.finish());
    // a checksum file beside the image must have the same digest
    source.expect_all(entry.checksums())?;
    Ok(entry)
}

/// A file name as the last part of a URL.
fn percent_encoded(name: &OsStr) -> String {
    let encoded = |&byte: &u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.as_encoded_bytes().iter().map(encoded).collect()
}

fn add(path: &Path, entry: &Entry, output: &Output) -> Result<()> {
    Catalog::append_to_file(path, entry)?;
    output.result(entry, || {
        format!("added {} to {}", text::escape(&entry.name), text::escape_name(path))
    });
    Ok(())
}
