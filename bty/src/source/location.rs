//! References to images, as people write them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use crate::oci::reference::OciReference;
use crate::{Error, ErrorKind, Result, redact, text};

/// The location of an image, parsed from a reference that a person wrote.
///
/// | reference | location |
/// |---|---|
/// | `http://…`, `https://…` | an object on a web server |
/// | `oras://…` | an artifact in an OCI registry |
/// | `file://…` | a path, percent-encoded |
/// | `-` | stdin |
/// | anything else without a scheme | a path, taken literally; `./-` is a file called `-` |
///
/// `Display` leaves out user and password, because it ends up in messages and lists.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// A local file, or a named pipe.
    File(PathBuf),
    /// Standard input of this process.
    Stdin,
    /// An object on a web server.
    Http(Url),
    /// A layer of an artifact in an OCI registry.
    Oci(OciReference),
    /// A [`CustomSource`](super::CustomSource) or a reader of the program, by its name for
    /// messages. No reference parses to it.
    Custom(String),
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        let Some((scheme, _)) = text.split_once("://") else {
            return Ok(Self::File(PathBuf::from(text)));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => {
                let url = Url::parse(text).map_err(|e| {
                    Error::new(
                        ErrorKind::Usage,
                        format!("{:?} is not a valid address", redact::address(text)),
                    )
                    .because(e)
                })?;
                if url.host_str().is_none_or(str::is_empty) {
                    return Err(Error::new(
                        ErrorKind::Usage,
                        format!("{:?} has no host", redact::address(text)),
                    ));
                }
                Ok(Self::Http(url))
            }
            "oras" => text.parse().map(Self::Oci),
            "file" => text::file_url_path(text).map(Self::File).ok_or_else(|| {
                Error::new(ErrorKind::Usage, format!("{text:?} has no file name"))
                    .hint("%00 cannot be part of a path")
            }),
            other => Err(Error::new(ErrorKind::Usage, format!("{other}:// is not supported"))
                .with_path(redact::address(text))
                .hint("give a path, or an http://, https:// or oras:// address")),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(&text::path_reference(path)),
            Self::Stdin => f.write_str("stdin"),
            Self::Http(url) => fmt::Display::fmt(&redact::url(url), f),
            Self::Oci(reference) => reference.fmt(f),
            Self::Custom(name) => f.write_str(&redact::address(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_urls_are_percent_decoded() {
        use std::os::unix::ffi::OsStrExt;
        for (address, path) in [
            ("file:///a/b%20c%2B.img", &b"/a/b c+.img"[..]),
            ("FILE://localhost/a", b"/a"),
            ("file:///a%ff", b"/a\xff"),
            ("file:///a%zz?x#y", b"/a%zz?x#y"),
            ("file://a/b", b"a/b"),
            ("/a%20b", b"/a%20b"),
        ] {
            let Location::File(found) = address.parse().unwrap() else { panic!("{address}") };
            assert_eq!(found.as_os_str().as_bytes(), path, "{address}");
        }
        assert_eq!("file:///a%00b".parse::<Location>().unwrap_err().kind(), ErrorKind::Usage);
    }
}
