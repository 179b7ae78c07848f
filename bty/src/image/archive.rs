//! Images inside archives: zip and tar, the latter also compressed.
//!
//! An archive is a layer between the source and the format of the image: its one image, or the
//! [`Member`] that a person named, is streamed out of it, with no temporary file. What is digested
//! and counted as read is the archive, since that is what was published.

use std::fmt;
use std::io::{self, Read};

use crate::decode::{self, Compression, DecodeOptions};
use crate::image::name;
use crate::{CancelToken, Error, ErrorKind, Result, Source};

mod tar;
mod zip;

/// Archives with more files than this are refused: nobody could choose from such a list.
const ENTRIES_MAX: usize = 10_000;

/// How many names an error lists.
const NAMES_SHOWN: usize = 10;

/// A kind of archive, as its first bytes show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Zip,
    Tar(Option<Compression>),
}

impl Kind {
    /// Recognizes `head`, the first bytes of a source, or of what it decodes to.
    pub(crate) fn sniff(head: &[u8], inside: Option<Compression>) -> Option<Self> {
        match inside {
            None if head.starts_with(b"PK\x03\x04") => Some(Self::Zip),
            _ if tar::is_header(head) => Some(Self::Tar(inside)),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
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
struct Entry {
    /// Name with its directories.
    name: String,
    /// Size in bytes, unpacked.
    size: u64,
}

/// The file of an archive that is the image.
#[derive(Debug)]
pub(crate) struct Member {
    name: String,
    size: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Zip(zip::Place),
    Tar(tar::Place, Option<Compression>),
}

impl Member {
    /// Finds the image in the archive `source`: the member called `wanted`, else the only one.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the list when there are several, or none of that name;
    /// [`ErrorKind::Format`] when there is none at all, or the archive is damaged.
    pub(crate) fn find(
        source: &Source,
        kind: Kind,
        wanted: Option<&str>,
        options: DecodeOptions,
        cancel: &CancelToken,
    ) -> Result<Self> {
        match kind {
            Kind::Zip => zip::find(source, wanted, cancel),
            Kind::Tar(compression) => {
                let wire = source.bytes.stream(0, cancel)?;
                let is_local = source.bytes.as_file().is_some();
                tar::find(unpacked(wire, compression, options)?, compression, wanted, is_local)
            }
        }
    }

    /// Its name in the archive, with its directories.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its size in bytes, unpacked.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Where in the archive reading may begin when nobody wants the digest of all of it.
    pub(crate) fn wire_offset(&self) -> u64 {
        match &self.place {
            Place::Zip(place) => place.offset(),
            Place::Tar(..) => 0,
        }
    }

    /// Its bytes, from those of the archive: from the start, or from
    /// [`wire_offset`](Self::wire_offset) on.
    pub(crate) fn reader(
        &self,
        wire: Box<dyn Read + Send>,
        from_start: bool,
        options: DecodeOptions,
    ) -> Result<Box<dyn Read + Send>> {
        Ok(match &self.place {
            Place::Zip(place) => place.reader(wire, from_start, &self.name),
            Place::Tar(place, compression) => {
                place.reader(unpacked(wire, *compression, options)?, &self.name)
            }
        })
    }
}

fn unpacked(
    wire: Box<dyn Read + Send>,
    compression: Option<Compression>,
    options: DecodeOptions,
) -> Result<Box<dyn Read + Send>> {
    match compression {
        Some(compression) => decode::decoder(compression, wire, options),
        None => Ok(wire),
    }
}

/// True for a file that is an image by its name. What macOS puts beside files is none.
fn is_image(name: &str) -> bool {
    let base = name.rsplit('/').next().unwrap_or(name);
    !base.starts_with("._") && name::format(base).is_some()
}

/// The one of `entries` that is the image.
fn choose(entries: &[Entry], wanted: Option<&str>) -> Result<usize> {
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
            format!("none of the {} files in the archive is called like an image", entries.len()),
        )
        .hint(format!(
            "choose one with ARCHIVE#NAME: {}",
            list(entries.iter().map(|e| e.name.as_str()))
        ))),
        _ => Err(several(&names(&images))),
    }
}

/// The entry called `wanted`, with its directories or, when there is only one such, without.
fn find_named(entries: &[Entry], wanted: &str) -> Option<usize> {
    let bare = |name: &str| name.trim_start_matches("./").to_owned();
    let exact = entries.iter().position(|e| bare(&e.name) == bare(wanted));
    exact.or_else(|| {
        let mut found =
            (0..entries.len()).filter(|&i| entries[i].name.rsplit('/').next() == Some(wanted));
        found.next().filter(|_| found.next().is_none())
    })
}

fn several(names: &str) -> Error {
    Error::new(ErrorKind::Usage, "the archive holds several images")
        .hint(format!("choose one with ARCHIVE#NAME: {names}"))
}

/// Names for an error, control characters escaped.
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

/// An I/O error of a decoder, as damage; an [`Error`] inside stays what it is.
fn explain(error: io::Error, what: impl fmt::Display) -> io::Error {
    match Error::unwrap_io(error) {
        Ok(error) => error.into(),
        Err(error) => damaged(what).because(error).into(),
    }
}

#[cfg(test)]
mod tests;
