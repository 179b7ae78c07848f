//! Catalogs: lists of images on the network.
//!
//! A catalog is a TOML file. A [`Client`] reads it from a path, a web server or an OCI registry:
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
//! | field | required | meaning |
//! |---|---|---|
//! | `name` | yes | unique within the catalog |
//! | `src` | yes | an `http://`, `https://` or `oras://` address, without user and password |
//! | `sha256` | no | SHA-256 of the file as published, 64 hexadecimal digits |
//! | `sha512` | no | SHA-512 of the file as published, 128 hexadecimal digits |
//! | `packed` | no | address of the same disk image as a [packed image](crate::pack) |
//! | `index_sha256` | no | SHA-256 of the index of the packed image |
//! | `ref` | no | must equal [`image_ref`] of `src`; detects mistakes of catalog generators |
//! | `format` | no | a hint for display; by default derived from `name`, then from `src` |
//! | `size_bytes` | no | size of the file as published |
//! | `description` | no | description for display |
//! | `arch` | no | architecture for display; by default derived from `name` |
//! | `raw` | no | `true` for an image without a partition table, file system or boot sector |
//!
//! Local files (`file://`) are refused, because other machines cannot reach them. Unknown keys are
//! ignored. [`Catalog::parse`] reports all problems of a file at once.
//!
//! ```
//! use bty::catalog::Catalog;
//!
//! let text = "version = 1\n[[images]]\nname = \"a\"\nsrc = \"https://images.example/a.img\"\n";
//! let catalog = Catalog::parse(text.as_bytes())?;
//! assert_eq!(catalog.find("a")?.src(), "https://images.example/a.img");
//! # Ok::<(), bty::Error>(())
//! ```

use serde::Serialize;

use crate::digest::{Checksums, Sha512};
use crate::image::{OpenOptions, name};
use crate::{CancelToken, Client, Digest, Error, ErrorKind, Result, redact, text};

mod check;
mod forms;
mod reference;
mod schema;
mod suggest;
mod write;

pub use check::{EntryCheck, check, fetch_checksum};
pub use forms::ImageForms;
pub use reference::{canonical_src, file_name, image_ref};

/// Address of the public catalog of ready-made images.
pub const DEFAULT_URL: &str = "https://github.com/safl/nosi/releases/latest/download/catalog.toml";

/// Version of the schema that this library reads and writes.
pub const VERSION: u32 = 1;

/// Maximum size of a catalog in bytes. A larger one is refused.
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
    /// SHA-256 of the file as published.
    pub sha256: Option<Digest>,
    /// SHA-512 of the file as published.
    pub sha512: Option<Sha512>,
    /// Address of the same disk image as a [packed image](crate::pack), if there is one besides
    /// the image itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packed: Option<String>,
    /// SHA-256 of the index of the packed image: the one at `packed`, or the image itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_sha256: Option<Digest>,
    /// Format id such as `img.zst`, for display. bty recognizes the format from the content.
    pub format: Option<String>,
    /// Size of the file as published, in bytes.
    pub size_bytes: Option<u64>,
    /// One line for display: what the image contains.
    pub description: Option<String>,
    /// Architecture such as `x86_64`, for display.
    pub arch: Option<String>,
    /// Write the image even if it has no partition table, file system or boot sector; see
    /// [`FlashOptions::raw`](crate::flash::FlashOptions::raw).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub raw: bool,
}

impl Entry {
    /// Creates an entry without digests and size. Derives format and architecture from `name` and
    /// `src`.
    ///
    /// # Errors
    /// [`ErrorKind::Catalog`] when `name` is empty, or `src` is malformed, a local file, or has a
    /// user or a password.
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
            packed: None,
            index_sha256: None,
            format,
            size_bytes,
            description,
            arch,
            raw: false,
        })
    }

    /// Address of the image, as written in the catalog.
    #[must_use]
    pub fn src(&self) -> &str {
        &self.src
    }

    /// All digests that the image must have.
    #[must_use]
    pub fn checksums(&self) -> Checksums {
        Checksums { sha256: self.sha256, sha512: self.sha512 }
    }

    /// Options that require all digests of this entry.
    #[must_use]
    pub fn open_options(&self) -> OpenOptions {
        OpenOptions::default()
            .sha256(self.sha256)
            .sha512(self.sha512)
            .pack_index_sha256(self.index_sha256.filter(|_| self.packed.is_none()))
    }

    /// The reference by which servers assign this image to machines; see
    /// [`image_ref`](fn@image_ref).
    #[must_use]
    pub fn image_ref(&self) -> Digest {
        self.image_ref
    }
}

/// Returns the reference of `src`, or an error if a catalog must not contain it.
fn check_src(src: &str) -> Result<Digest> {
    let refused = |why: String| Error::new(ErrorKind::Catalog, why);
    let canonical = canonical_src(src).map_err(|e| refused(format!("{e:#}")))?;
    if canonical.starts_with("file://") {
        return Err(refused(format!(
            "{} is a local file; a catalog names only what other machines can reach",
            reference::quote(src)
        ))
        .hint(
            "serve the file over HTTP or push it to a registry; local images are found \
             by their directory",
        ));
    }
    if redact::has_credentials(src) {
        return Err(refused(format!(
            "{} has a user or a password, but anyone may read a catalog",
            reference::quote(src)
        ))
        .hint(
            "write the address without them, and serve the image where machines need no \
             login, for example through a proxy that logs in for them",
        ));
    }
    Ok(Digest::of(canonical.as_bytes()))
}

/// A list of images with unique names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Catalog {
    entries: Vec<Entry>,
}

impl Catalog {
    /// A catalog without images, to which a program adds some.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses a catalog from TOML.
    ///
    /// # Errors
    /// [`ErrorKind::Catalog`]; the message lists every problem with its line, entry and field.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        schema::parse(bytes)
    }

    /// Reads the catalog at `reference`: a path, or an `http://`, `https://`, `oras://` or
    /// `file://` address.
    ///
    /// # Errors
    /// - [`ErrorKind::Catalog`]: the catalog cannot be read, is larger than [`MAX_BYTES`], or
    ///   violates the schema.
    /// - [`ErrorKind::Usage`]: `reference` is malformed.
    /// - Other kinds as [`Client::read_small`].
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

    /// Version of the schema.
    #[must_use]
    pub fn version(&self) -> u32 {
        VERSION
    }

    /// The entries in the order of the file.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry whose name is exactly `name`.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The first entry with this [reference](fn@image_ref).
    #[must_use]
    pub fn by_ref(&self, image_ref: &Digest) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.image_ref == *image_ref)
    }

    /// The entry named `text`, or the one whose [reference](fn@image_ref) is `text`, 64 hexadecimal
    /// digits.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is no such entry. The hint lists similar names.
    pub fn find(&self, text: &str) -> Result<&Entry> {
        let by_ref = || text.parse().ok().and_then(|image_ref| self.by_ref(&image_ref));
        self.by_name(text).or_else(by_ref).ok_or_else(|| {
            let names =
                suggest::similar(text, self.entries.iter().map(|entry| entry.name.as_str()));
            let error = Error::new(ErrorKind::Usage, format!("the catalog has no image {text:?}"));
            match (names.as_slice(), self.entries.len()) {
                ([], 0) => error.hint("the catalog is empty"),
                ([], n) => {
                    error.hint(format!("list the catalog; it has {}", text::count(n, "image")))
                }
                (names, _) => error.hint(format!("did you mean {}?", names.join(" or "))),
            }
        })
    }

    /// Appends `entry`.
    ///
    /// # Errors
    /// [`ErrorKind::Catalog`] when the catalog already contains an entry with the same name or
    /// `src`.
    pub fn add(&mut self, entry: Entry) -> Result<()> {
        let taken = |other: &Entry| {
            Error::new(
                ErrorKind::Catalog,
                format!("{:?} from {} is already in the catalog", other.name, other.src),
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
