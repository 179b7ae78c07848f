//! Writes a [`Catalog`] as TOML, and appends entries to a catalog file.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{Catalog, Entry, VERSION};
use crate::{Context, Error, ErrorKind, Result};

impl Catalog {
    /// The catalog as TOML, ready to be published. [`parse`](Self::parse) reads it back unchanged.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut toml = format!("version = {VERSION}\n");
        for entry in &self.entries {
            toml.push('\n');
            toml.push_str(&entry_toml(entry));
        }
        toml
    }

    /// Appends `entry` to the catalog file at `path`, and returns the new catalog.
    ///
    /// The file keeps its comments and layout, and is created if it does not exist. It is replaced
    /// atomically: readers see either the old or the new file, even after a power failure.
    ///
    /// # Errors
    /// The file is unchanged in each case.
    /// - [`ErrorKind::Catalog`]: the file is not a valid catalog, already has the image, or has a
    ///   layout that cannot be extended.
    /// - [`ErrorKind::Host`]: the file cannot be read or written.
    pub fn append_to_file(path: &Path, entry: &Entry) -> Result<Self> {
        append(path, entry).context(|| format!("adding to the catalog {}", path.display()))
    }
}

fn append(path: &Path, entry: &Entry) -> Result<Catalog> {
    let failed = |e: io::Error| {
        Error::new(ErrorKind::Host, "updating the file").because(e).with_path(path.display())
    };
    // resolved, so that a symbolic link is not replaced by a file
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir_file = File::open(dir).map_err(failed)?;
    // the lock keeps concurrent writers from losing an entry; without it (a file system that has
    // none), writing is still atomic
    let _ = rustix::fs::flock(&dir_file, rustix::fs::FlockOperation::LockExclusive);
    let old = match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            format!("version = {VERSION}\n").into_bytes()
        }
        read => read.map_err(failed)?,
    };
    let mut catalog = Catalog::parse(&old)?;
    catalog.add(entry.clone())?;
    let old = String::from_utf8_lossy(&old);
    let new = with_entry(&old, entry)
        .filter(|new| Catalog::parse(new.as_bytes()).is_ok_and(|read| read == catalog));
    let new = new.ok_or_else(|| {
        Error::new(ErrorKind::Catalog, "the file has a layout that cannot be extended")
            .with_path(path.display())
            .hint("write each image as a [[images]] table")
    })?;
    replace(path, new.as_bytes()).map_err(failed)?;
    dir_file.sync_all().map_err(failed)?;
    Ok(catalog)
}

/// The text of a catalog file with `entry` at its end.
fn with_entry(old: &str, entry: &Entry) -> Option<String> {
    let mut document: toml_edit::DocumentMut = old.parse().ok()?;
    match document.get_mut("images").and_then(toml_edit::Item::as_array_mut) {
        // after `images = [...]`, a [[images]] table would be invalid
        Some(array) if !array.is_empty() => {
            let table: toml_edit::DocumentMut = fields_toml(entry).parse().ok()?;
            array.push(table.as_table().clone().into_inline_table());
            return Some(document.to_string());
        }
        Some(_) => document.remove("images"),
        None => None,
    };
    let mut new = document.to_string();
    if !new.is_empty() && !new.ends_with('\n') {
        new.push('\n');
    }
    Some(new + "\n" + &entry_toml(entry))
}

fn entry_toml(entry: &Entry) -> String {
    format!("[[images]]\n{}", fields_toml(entry))
}

/// The fields of an entry, in the order of existing catalogs.
fn fields_toml(entry: &Entry) -> String {
    let mut toml = String::new();
    let mut field = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            toml.extend([key, " = ", &value, "\n"]);
        }
    };
    let optional = |text: &Option<String>| text.as_deref().map(quote);
    field("name", Some(quote(&entry.name)));
    field("src", Some(quote(&entry.src)));
    field("sha256", entry.sha256.map(|digest| quote(&digest.to_string())));
    field("sha512", entry.sha512.map(|digest| quote(&digest.to_string())));
    field("packed", optional(&entry.packed));
    field("index_sha256", entry.index_sha256.map(|digest| quote(&digest.to_string())));
    field("format", optional(&entry.format));
    // TOML integers end at 2^63 - 1
    field(
        "size_bytes",
        entry.size_bytes.filter(|&n| i64::try_from(n).is_ok()).map(|n| n.to_string()),
    );
    field("description", optional(&entry.description));
    field("arch", optional(&entry.arch));
    field("raw", entry.raw.then(|| "true".to_owned()));
    toml
}

/// A TOML basic string. All control characters are escaped, even those that TOML allows.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                write!(quoted, "\\u{:04X}", u32::from(c)).expect("a string takes all writes");
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Atomically replaces the content of the file at `path`.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let write = || {
        let mut file = File::create(&temporary)?;
        if let Ok(meta) = fs::metadata(path) {
            file.set_permissions(meta.permissions())?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}
