//! Images inside zip and tar archives. A tar archive may be compressed.
//!
//! An archive is a layer between the source and the image: its only image, or the [`Member`] that
//! the user named, is streamed out of it without a temporary file. Digests and progress are those
//! of the archive, because that is the published file.

use std::fmt;
use std::io::{self, Read};

use crate::decode::{self, Compression, DecodeOptions};
use crate::image::name;
use crate::{CancelToken, Error, ErrorKind, Result, Source};

mod tar;
#[cfg_attr(not(feature = "zip"), path = "archive/zip_absent.rs")]
mod zip;

/// Maximum number of files in an archive. Nobody could choose from a longer list.
const ENTRIES_MAX: usize = 10_000;

/// Maximum number of names that an error lists.
const NAMES_SHOWN: usize = 10;

/// A kind of archive, recognized by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveKind {
    Zip,
    Tar(Option<Compression>),
}

impl ArchiveKind {
    /// Recognizes an archive by `head`, the first bytes of a source after decoding. `inside` is the
    /// compression that was decoded, if any.
    pub(crate) fn sniff(head: &[u8], inside: Option<Compression>) -> Option<Self> {
        match inside {
            None if head.starts_with(b"PK\x03\x04") => Some(Self::Zip),
            _ if tar::is_header(head) => Some(Self::Tar(inside)),
            _ => None,
        }
    }
}

impl fmt::Display for ArchiveKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zip => f.write_str("a zip archive"),
            Self::Tar(None) => f.write_str("a tar archive"),
            Self::Tar(Some(compression)) => {
                write!(f, "a tar archive inside {}", compression.as_str())
            }
        }
    }
}

/// A regular file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ArchiveEntry {
    /// Path in the archive.
    name: String,
    /// Unpacked size in bytes.
    size: u64,
}

/// The file in an archive that is the image.
#[derive(Debug)]
pub(crate) struct Member {
    name: String,
    size: u64,
    place: MemberPlace,
}

#[derive(Debug)]
enum MemberPlace {
    Zip(zip::ZipPlace),
    Tar(tar::TarPlace, Option<Compression>),
}

impl Member {
    /// Finds the image in the archive `source`: the member called `wanted`, or else the only image.
    ///
    /// # Errors
    /// - [`ErrorKind::Usage`]: there are several images, or no member of that name. The hint lists
    ///   the names.
    /// - [`ErrorKind::Format`]: there is no image, or the archive is damaged.
    pub(crate) fn find(
        source: &Source,
        kind: ArchiveKind,
        wanted: Option<&str>,
        options: DecodeOptions,
        cancel: &CancelToken,
    ) -> Result<Self> {
        match kind {
            ArchiveKind::Zip => zip::find(source, wanted, cancel),
            ArchiveKind::Tar(compression) => {
                let wire = source.bytes.stream(0, cancel)?;
                let is_local = source.bytes.as_file().is_some();
                tar::find(decompressed(wire, compression, options)?, compression, wanted, is_local)
            }
        }
    }

    /// Path in the archive.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Unpacked size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Offset in the archive where reading may start if the digest of the archive is not needed.
    pub(crate) fn wire_offset(&self) -> u64 {
        match &self.place {
            MemberPlace::Zip(place) => place.offset(),
            MemberPlace::Tar(..) => 0,
        }
    }

    /// Reads the member from the bytes of the archive, which start at the beginning of the archive
    /// if `from_start`, otherwise at [`wire_offset`](Self::wire_offset).
    pub(crate) fn reader(
        &self,
        wire: Box<dyn Read + Send>,
        from_start: bool,
        options: DecodeOptions,
    ) -> Result<Box<dyn Read + Send>> {
        Ok(match &self.place {
            MemberPlace::Zip(place) => place.reader(wire, from_start, &self.name),
            MemberPlace::Tar(place, compression) => {
                place.reader(decompressed(wire, *compression, options)?, &self.name)
            }
        })
    }
}

fn decompressed(
    wire: Box<dyn Read + Send>,
    compression: Option<Compression>,
    options: DecodeOptions,
) -> Result<Box<dyn Read + Send>> {
    match compression {
        Some(compression) => decode::decoder(compression, wire, options),
        None => Ok(wire),
    }
}

/// True for the name of an image. Excludes the `._` files that macOS adds.
fn is_image(name: &str) -> bool {
    let base = name.rsplit('/').next().unwrap_or(name);
    !base.starts_with("._") && name::format(base).is_some()
}

/// Chooses the image among `entries`.
fn choose(entries: &[ArchiveEntry], wanted: Option<&str>) -> Result<usize> {
    let images: Vec<usize> = (0..entries.len()).filter(|&i| is_image(&entries[i].name)).collect();
    let names = |of: &[usize]| list(of.iter().map(|&i| entries[i].name.as_str()));
    if let Some(wanted) = wanted {
        return find_named(entries, wanted).ok_or_else(|| {
            let all: Vec<usize> = (0..entries.len()).collect();
            Error::new(ErrorKind::Usage, format!("the archive holds no file {wanted:?}")).hint(
                format!("choose one of: {}", names(if images.is_empty() { &all } else { &images })),
            )
        });
    }
    match (&images[..], entries) {
        ([only], _) => Ok(*only),
        ([], [_]) => Ok(0),
        ([], []) => Err(Error::new(ErrorKind::Format, "the archive holds no files")
            .hint("is this the file you meant?")),
        ([], _) => Err(Error::new(
            ErrorKind::Format,
            format!("none of the {} files in the archive is named like an image", entries.len()),
        )
        .hint(format!(
            "choose one with ARCHIVE#NAME: {}",
            list(entries.iter().map(|e| e.name.as_str()))
        ))),
        _ => Err(ambiguous(&names(&images))),
    }
}

/// Finds the entry with the path `wanted`, or the only one with this file name.
fn find_named(entries: &[ArchiveEntry], wanted: &str) -> Option<usize> {
    let bare = |name: &str| name.trim_start_matches("./").to_owned();
    let exact = entries.iter().position(|e| bare(&e.name) == bare(wanted));
    exact.or_else(|| {
        let mut found =
            (0..entries.len()).filter(|&i| entries[i].name.rsplit('/').next() == Some(wanted));
        found.next().filter(|_| found.next().is_none())
    })
}

fn ambiguous(names: &str) -> Error {
    Error::new(ErrorKind::Usage, "the archive holds several images")
        .hint(format!("choose one with ARCHIVE#NAME: {names}"))
}

/// Formats names for an error, with control characters escaped.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<String> = names.map(|name| name.escape_debug().to_string()).collect();
    let more = all.len().saturating_sub(NAMES_SHOWN);
    let mut text = all[..all.len().min(NAMES_SHOWN)].join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn damaged(what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Format, format!("the archive is damaged: {what}"))
        .hint("fetch it again, and compare its SHA-256 with the publisher's")
}

fn too_many() -> Error {
    Error::new(ErrorKind::Format, format!("the archive holds more than {ENTRIES_MAX} files"))
        .hint("unpack it, and flash the image inside")
}

/// Turns an I/O error of a decoder into an error about damage, unless it carries an [`Error`].
fn explain(error: io::Error, what: impl fmt::Display) -> io::Error {
    match Error::unwrap_io(error) {
        Ok(error) => error.into(),
        Err(error) => damaged(what).because(error).into(),
    }
}

#[cfg(test)]
mod tests;
