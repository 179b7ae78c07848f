//! Catalogs: lists of images that can be had from the network.
//!
//! A catalog is a TOML file, read from anywhere a [`Client`] reaches, a registry included:
//!
//! ```toml
//! version = 1
//!
//! [[images]]
//! name = "debian 13 (x86_64)"
//! src = "oras://registry.example.org/images/debian:13"
//! sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
//! format = "img.zst"
//! size_bytes = 734003200
//! description = "server, no desktop"
//! arch = "x86_64"
//! ```
//!
//! | field | needed | meaning |
//! |---|---|---|
//! | `name` | yes | unique within the catalog |
//! | `src` | yes | `http://`, `https://` or `oras://`; never `file://`, which would mean nothing to another machine, and never with a user or a password, since everybody reads a catalog |
//! | `sha256` | no | of the bytes as they come over the wire, 64 hexadecimal digits |
//! | `sha512` | no | the same with SHA-512, 128 hexadecimal digits, for images whose publisher has nothing else |
//! | `ref` | no | must be [`image_ref`] of `src`; a check on who wrote the catalog |
//! | `format` | no | a hint; else from `name`, then from `src` |
//! | `size_bytes` | no | size over the wire |
//! | `description` | no | for people |
//! | `arch` | no | for display; else from `name` |
//!
//! Other keys are ignored. [`Catalog::parse`] reports all problems of a file at once.

use serde::Serialize;

use crate::digest::{Checksums, Sha512};
use crate::image::name;
use crate::{CancelToken, Client, Digest, Error, ErrorKind, Result, redact};

mod check;
mod close;
mod reference;
mod schema;
mod write;

pub use check::{EntryCheck, check, fetch_checksum};
pub use reference::{canonical_src, file_name, image_ref};

/// Where the public catalog of ready-made images is.
pub const DEFAULT_URL: &str = "https://github.com/safl/nosi/releases/latest/download/catalog.toml";

/// The version of the schema that is read and written.
pub const VERSION: u32 = 1;

/// A catalog larger than this is refused, in bytes.
pub const MAX_BYTES: u64 = 4 << 20;

/// One image of a catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Entry {
    /// Unique within the catalog.
    pub name: String,
    src: String,
    #[serde(rename = "ref")]
    image_ref: Digest,
    /// What the bytes over the wire must digest to.
    pub sha256: Option<Digest>,
    /// What they must digest to with SHA-512.
    pub sha512: Option<Sha512>,
    /// Format id such as `img.zst`; a hint.
    pub format: Option<String>,
    /// Size over the wire in bytes.
    pub size_bytes: Option<u64>,
    /// For people.
    pub description: Option<String>,
    /// Architecture such as `x86_64`; for display.
    pub arch: Option<String>,
    /// It is written although nothing in it may say that it is a disk: see
    /// [`FlashOptions::raw`](crate::flash::FlashOptions::raw).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub raw: bool,
}

impl Entry {
    /// An entry with format and architecture as the names suggest, and nothing promised.
    ///
    /// # Errors
    /// [`ErrorKind::Catalog`] when `name` is empty or `src` is no address that a catalog may carry.
    pub fn new(name: impl Into<String>, src: impl Into<String>) -> Result<Self> {
        let (name, src) = (name.into(), src.into());
        if name.trim().is_empty() {
            return Err(Error::new(ErrorKind::Catalog, "the name of an image is empty"));
        }
        let image_ref = check_src(&src)?;
        let from_src = || file_name(&src).and_then(|file| name::format(&file));
        let format = name::format(&name).or_else(from_src).map(str::to_owned);
        let arch = name::architecture(&name).map(str::to_owned);
        let (sha256, sha512, size_bytes, description) = (None, None, None, None);
        Ok(Self {
            name,
            src,
            image_ref,
            sha256,
            sha512,
            format,
            size_bytes,
            description,
            arch,
            raw: false,
        })
    }

    /// Where the image is, as written in the catalog.
    #[must_use]
    pub fn src(&self) -> &str {
        &self.src
    }

    /// All digests that the image must have.
    #[must_use]
    pub fn checksums(&self) -> Checksums {
        Checksums { sha256: self.sha256, sha512: self.sha512 }
    }

    /// What machines are bound by; see [`image_ref`](fn@image_ref).
    #[must_use]
    pub fn image_ref(&self) -> Digest {
        self.image_ref
    }
}

/// The reference of a `src` that a catalog may carry.
fn check_src(src: &str) -> Result<Digest> {
    let refused = |why: String| Error::new(ErrorKind::Catalog, why);
    let canonical = canonical_src(src).map_err(|e| refused(e.to_string()))?;
    if canonical.starts_with("file://") {
        return Err(refused(format!(
            "{} is a local file; a catalog names only what other machines can reach",
            reference::quote(src)
        ))
        .hint("serve the file over HTTP or push it to a registry; local images are found by their directory"));
    }
    if redact::has_credentials(src) {
        return Err(refused(format!("{} is written with a user or a password, and a catalog is for everybody", reference::quote(src)))
            .hint("write the address without them, and serve the image where machines need no login, for example through a proxy that logs in for them"));
    }
    Ok(Digest::of(canonical.as_bytes()))
}

/// A list of images, each with a name of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Catalog {
    entries: Vec<Entry>,
}

impl Catalog {
    /// An empty catalog.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses a catalog.
    ///
    /// # Errors
    /// [`ErrorKind::Catalog`], with all problems, their lines, entries and fields.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        schema::parse(bytes)
    }

    /// Reads the catalog at `reference`: a path, or an `http://`, `https://`, `oras://` or
    /// `file://` address.
    ///
    /// # Errors
    /// [`ErrorKind::Catalog`] when it cannot be had, is larger than [`MAX_BYTES`] or cannot be
    /// understood, [`ErrorKind::Usage`] when `reference` is no path or address.
    pub fn load(client: &Client, reference: &str, cancel: &CancelToken) -> Result<Self> {
        let shown = &*redact::address(reference);
        let doing = || format!("reading the catalog {shown}");
        let bytes = client.read_small(reference, MAX_BYTES, cancel).map_err(|error| match error
            .kind()
        {
            ErrorKind::Source => {
                let hint = error.next_step().map(str::to_owned);
                let error = Error::new(ErrorKind::Catalog, doing()).because(error).with_path(shown);
                if let Some(hint) = hint { error.hint(hint) } else { error }
            }
            _ => error.context(doing()),
        })?;
        Self::parse(&bytes).map_err(|error| error.context(doing()).with_path(shown))
    }

    /// The schema version.
    #[must_use]
    pub fn version(&self) -> u32 {
        VERSION
    }

    /// The images, in the order of the file.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The image called exactly `name`.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The first image with this reference.
    #[must_use]
    pub fn by_ref(&self, image_ref: &Digest) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.image_ref == *image_ref)
    }

    /// The image that `text` means: a name, or a reference as 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`]; the hint lists names that are close.
    pub fn find(&self, text: &str) -> Result<&Entry> {
        let by_ref = || text.parse().ok().and_then(|image_ref| self.by_ref(&image_ref));
        self.by_name(text).or_else(by_ref).ok_or_else(|| {
            let names = close::names(text, self.entries.iter().map(|entry| entry.name.as_str()));
            let error = Error::new(ErrorKind::Usage, format!("the catalog has no image {text:?}"));
            match (names.as_slice(), self.entries.len()) {
                ([], 0) => error.hint("the catalog is empty"),
                ([], n) => error.hint(format!("list the catalog; it has {n} images")),
                (names, _) => error.hint(format!("did you mean {}?", names.join(" or "))),
            }
        })
    }

    /// Adds `entry` at the end.
    ///
    /// # Errors
    /// [`ErrorKind::Catalog`] when its name or its `src` is there already.
    pub fn add(&mut self, entry: Entry) -> Result<()> {
        let taken = |other: &Entry| {
            Error::new(
                ErrorKind::Catalog,
                format!("{:?} from {} is in the catalog already", other.name, other.src),
            )
        };
        if let Some(other) = self.by_name(&entry.name) {
            return Err(taken(other).hint("choose another name"));
        }
        if let Some(other) = self.by_ref(&entry.image_ref) {
            return Err(taken(other).hint("use that entry"));
        }
        self.entries.push(entry);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
