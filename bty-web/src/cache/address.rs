//! The URL of an object at its origin, its encoding in a URL of the cache host, and the key of the
//! cached object.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bty::oci::OciReference;
use bty::{Digest, Location};
use url::Url;

use crate::domain::error::{Error, ErrorKind, Result};

/// Maximum length of a URL in bytes.
const ADDRESS_BYTES_MAX: usize = 4096;

/// Key of an object, and name of its file: a SHA-256 in 64 hexadecimal digits.
pub type Key = Digest;

/// The URL of an object at its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// On a web server.
    Web(Url),
    /// In a registry, by a tag or a digest.
    Registry(OciReference),
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let malformed = |why: &str| {
            Err(Error::new(ErrorKind::Malformed, format!("the address of the origin {why}")))
        };
        if text.len() > ADDRESS_BYTES_MAX {
            return malformed("is longer than 4096 bytes");
        }
        match text.parse::<Location>() {
            Ok(Location::Oci(reference)) => Ok(Self::Registry(reference)),
            Ok(Location::Http(url)) if !url.username().is_empty() || url.password().is_some() => {
                malformed("contains a user name or a password, and anybody can read what is cached")
            }
            Ok(Location::Http(mut url)) => {
                url.set_fragment(None);
                Ok(Self::Web(url))
            }
            _ => malformed("must begin with http://, https:// or oras://"),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Web(url) => url.fmt(f),
            Self::Registry(reference) => reference.fmt(f),
        }
    }
}

impl Address {
    /// Decodes a segment of a URL path: URL-safe Base64, with or without padding.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if it is not Base64, or not an address.
    pub fn decode(text: &str) -> Result<Self> {
        // some clients percent-encode the padding, as in a query
        let text = text.replace("%3D", "=").replace("%3d", "=");
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
        let decoded = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        decoded
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Malformed,
                    "the path does not contain an address in URL-safe Base64",
                )
            })?
            .parse()
    }

    /// Returns the key of the object: the hash of a web URL, with its query only if `keep_query`,
    /// or the digest of a registry's blob. A tag must first be resolved to a digest.
    #[must_use]
    pub fn key(&self, keep_query: bool) -> Key {
        match self {
            Self::Web(url) => {
                let mut url = url.clone();
                if !keep_query {
                    url.set_query(None);
                }
                Digest::of(url.as_str().as_bytes())
            }
            Self::Registry(reference) => match reference.digest() {
                Some(digest) => blob_key(digest),
                None => Digest::of(reference.to_string().as_bytes()),
            },
        }
    }

    /// Returns `host:port`, or only the host if the URL has no port.
    #[must_use]
    pub fn host(&self) -> String {
        match self {
            Self::Web(url) => {
                let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
                format!("{}{port}", url.host_str().unwrap_or_default())
            }
            Self::Registry(reference) => reference.registry().to_ascii_lowercase(),
        }
    }

    /// Returns scheme, host and port of the origin, the unit in which a catalog allows URLs.
    #[must_use]
    pub fn origin(&self) -> String {
        match self {
            Self::Web(url) => url.origin().ascii_serialization(),
            Self::Registry(_) => format!("oras://{}", self.host()),
        }
    }

    /// Returns the host and port to connect to; `None` if the URL has no host.
    #[must_use]
    pub fn target(&self) -> Option<(String, u16)> {
        match self {
            Self::Web(url) => Some((url.host_str()?.to_owned(), url.port_or_known_default()?)),
            Self::Registry(_) => {
                let url = Url::parse(&format!("https://{}/", self.host())).ok()?;
                Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
            }
        }
    }
}

/// Returns the key of a registry's blob, which is the same in every repository.
#[must_use]
pub fn blob_key(digest: Digest) -> Key {
    Digest::of(format!("sha256:{digest}").as_bytes())
}

/// Returns the URL of `origin` on the cache host at `base`: `/b/<address>/<name>`. With `sha256`,
/// the cache host refuses to send content with any other digest.
#[must_use]
pub fn blob_url(base: &str, origin: &str, name: &str, sha256: Option<&str>) -> String {
    let encoded = URL_SAFE_NO_PAD.encode(origin);
    let name = plain_name(name);
    let expected = sha256.map_or_else(String::new, |sha256| format!("?sha256={sha256}"));
    format!("{}/b/{encoded}/{name}{expected}", base.trim_end_matches('/'))
}

/// Returns the URL of the packed form of the object with the digest `sha256` on the cache host at
/// `base`. `name` is the file name of the object.
#[must_use]
pub fn packed_url(base: &str, sha256: &str, name: &str) -> String {
    let format = bty::image::name::format(name);
    let stem = format.and_then(|format| {
        let at = name.len().checked_sub(format.len() + 1)?;
        name.get(..at)
    });
    let name = plain_name(stem.unwrap_or(name));
    format!("{}/packed/{sha256}/{name}.img.zst", base.trim_end_matches('/'))
}

/// Returns `name` without characters that have a meaning in a URL.
fn plain_name(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    let name: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    if name.trim_matches('.').is_empty() { "image".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn keys_match_the_reference_cache_host() {
        // sha256 of "https://h.example/a/B.img"
        let plain = address("HTTPS://H.Example/a/B.img");
        assert_eq!(plain.key(false), Digest::of(b"https://h.example/a/B.img"));
        assert_eq!(address("https://h.example/a/B.img?sig=1#x").key(false), plain.key(false));
        assert_ne!(address("https://h.example/a/B.img?sig=1").key(true), plain.key(true));
        let digest = Digest::of(b"x");
        let (one, other) =
            (format!("oras://a/b/c@sha256:{digest}"), format!("oras://x/y/z@sha256:{digest}"));
        assert_eq!(
            address(&one).key(false),
            address(&other).key(false),
            "a blob is the same wherever it is"
        );
    }

    #[test]
    fn invalid_addresses_are_refused() {
        for text in [
            "",
            "/etc/passwd",
            "file:///etc/passwd",
            "ftp://h/x",
            "http://user:pw@h/x",
            "http://user@h/x",
            "oras://h",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert!(format!("http://h/{}", "x".repeat(5000)).parse::<Address>().is_err());
        for path in ["", "!", "_w", "aHR0", "aHR0cDovL2g="] {
            let _ = Address::decode(path);
        }
        for text in ["aHR0cDovL2gvYS5pbWc=", "aHR0cDovL2gvYS5pbWc", "aHR0cDovL2gvYS5pbWc%3D"] {
            assert_eq!(Address::decode(text).unwrap(), address("http://h/a.img"));
        }
    }

    #[test]
    fn a_packed_form_is_named_after_its_image() {
        for (name, file) in [
            ("debian.img.xz", "debian.img.zst"),
            ("Debian 13.QCOW2", "Debian_13.img.zst"),
            ("disk", "disk.img.zst"),
            ("", "image.img.zst"),
        ] {
            assert_eq!(
                packed_url("http://c:3000/", "ab", name),
                format!("http://c:3000/packed/ab/{file}")
            );
        }
    }

    #[test]
    fn a_blob_url_decodes_to_its_origin() {
        let url = blob_url("http://c:3000/", "oras://ghcr.io/a/b:tag", "../x y.img", Some("ab"));
        let path = url.strip_prefix("http://c:3000/b/").unwrap();
        let (encoded, name) = path.split_once('/').unwrap();
        assert_eq!(Address::decode(encoded).unwrap(), address("oras://ghcr.io/a/b:tag"));
        assert_eq!(name, ".._x_y.img?sha256=ab");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (text, origin, target) in [
            ("HTTPS://H.Example/a?b", "https://h.example", ("h.example", 443)),
            ("http://h:80/a", "http://h", ("h", 80)),
            ("http://h:8080/a", "http://h:8080", ("h", 8080)),
            ("oras://GHCR.io/a/b:t", "oras://ghcr.io", ("ghcr.io", 443)),
            ("oras://h:5000/a/b:t", "oras://h:5000", ("h", 5000)),
            ("http://[::1]:81/a", "http://[::1]:81", ("[::1]", 81)),
        ] {
            let address = address(text);
            assert_eq!(address.origin(), origin);
            assert_eq!(address.target(), Some((target.0.to_owned(), target.1)));
        }
    }

    proptest::proptest! {
        #[test]
        fn decoding_never_panics(text in "\\PC{0,80}") {
            let _ = Address::decode(&text);
        }

        #[test]
        fn encoding_and_decoding_round_trip(path in "[a-zA-Z0-9/._-]{1,40}") {
            let origin = format!("http://h.example/{path}");
            let url = blob_url("http://c", &origin, "n", None);
            let encoded = url.split('/').nth(4).unwrap().to_owned();
            proptest::prop_assert_eq!(Address::decode(&encoded).unwrap(), origin.parse::<Address>().unwrap());
        }
    }
}
