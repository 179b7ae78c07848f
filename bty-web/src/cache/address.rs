//! What clients ask for: the address of an origin, in the path or in the query, and the key that
//! its object is kept by.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bty::oci::OciReference;
use bty::{Digest, Location};
use url::Url;

use crate::domain::error::{Error, ErrorKind, Result};

/// Longer addresses are not understood.
const ADDRESS_BYTES_MAX: usize = 4096;

/// Name of an object's file: SHA-256, as 64 hexadecimal digits.
pub type Key = Digest;

/// An object on an origin.
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
        let wrong = |why: &str| {
            Err(Error::new(ErrorKind::Malformed, format!("the address of the origin {why}")))
        };
        if text.len() > ADDRESS_BYTES_MAX {
            return wrong("is too long");
        }
        match text.parse::<Location>() {
            Ok(Location::Oci(reference)) => Ok(Self::Registry(reference)),
            Ok(Location::Http(url)) if !url.username().is_empty() || url.password().is_some() => {
                wrong("has a user or a password: what is cached is for everybody")
            }
            Ok(Location::Http(mut url)) => {
                url.set_fragment(None);
                Ok(Self::Web(url))
            }
            _ => wrong("must begin with http://, https:// or oras://"),
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
    /// From the part of a path that has it in the URL-safe alphabet of Base64, with or without `=`
    /// at the end.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`].
    pub fn decode(text: &str) -> Result<Self> {
        // some clients write the = of the end as they write it in a query
        let text = text.replace("%3D", "=").replace("%3d", "=");
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
        let decoded = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        decoded
            .ok_or_else(|| Error::new(ErrorKind::Malformed, "the path holds no address in Base64"))?
            .parse()
    }

    /// What a web object is kept by: its address without the query, or with it. Objects of
    /// registries are kept by their digests.
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

    /// `host:port` as it is written.
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
}

impl Address {
    /// Scheme, host and port of the origin, as a catalog allows them.
    #[must_use]
    pub fn origin(&self) -> String {
        match self {
            Self::Web(url) => url.origin().ascii_serialization(),
            Self::Registry(_) => format!("oras://{}", self.host()),
        }
    }

    /// Host and port that a client connects to.
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

/// What a blob of a registry is kept by, whichever repository it is in.
#[must_use]
pub fn blob_key(digest: Digest) -> Key {
    Digest::of(format!("sha256:{digest}").as_bytes())
}

/// `/b/<address>/<name>` on the cache host at `base`; with `sha256`, only these bytes are served.
#[must_use]
pub fn blob_url(base: &str, origin: &str, name: &str, sha256: Option<&str>) -> String {
    let encoded = URL_SAFE_NO_PAD.encode(origin);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    let name: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let name = if name.trim_matches('.').is_empty() { "image" } else { name.as_str() };
    let expected = sha256.map_or_else(String::new, |sha256| format!("?sha256={sha256}"));
    format!("{}/b/{encoded}/{name}{expected}", base.trim_end_matches('/'))
}

/// Origins that may be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl FromStr for Origins {
    type Err = String;

    /// Separated by commas or blanks: `example.org`, `*.example.org`, `example.org:8443`, or the
    /// beginning of an address such as `https://example.org/images/`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split([',', ' ']).filter(|part| !part.is_empty());
        let known = |part: &str| match part.split_once("://") {
            Some((scheme, rest)) => {
                matches!(scheme, "http" | "https" | "oras") && rest.contains('/')
            }
            None => !part.contains('/'),
        };
        parts
            .map(|part| match known(part) {
                true => Ok(part.to_ascii_lowercase()),
                false => Err(format!(
                    "{part:?} is neither a host nor the beginning of an address with a path"
                )),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Origins {
    /// True when none are named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when `address` is one of them.
    #[must_use]
    pub fn allow(&self, address: &Address) -> bool {
        let (host, text) = (address.host(), address.to_string());
        let bare = host.rsplit_once(':').map_or(host.as_str(), |(bare, _)| bare);
        let is = |pattern: &String| match (pattern.contains("://"), pattern.strip_prefix("*.")) {
            // only whole components: https://h/images does not allow https://h/images-of-others
            (true, _) => text
                .to_ascii_lowercase()
                .strip_prefix(pattern.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@', '?'])),
            (false, Some(domain)) => {
                bare.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
            }
            (false, None) => *pattern == host || pattern == bare,
        };
        self.0.iter().any(is)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn keys_are_those_of_the_reference() {
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
    fn what_is_no_public_address_is_refused() {
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
    fn a_blob_url_leads_back_to_its_origin() {
        let url = blob_url("http://c:3000/", "oras://ghcr.io/a/b:tag", "../x y.img", Some("ab"));
        let path = url.strip_prefix("http://c:3000/b/").unwrap();
        let (encoded, name) = path.split_once('/').unwrap();
        assert_eq!(Address::decode(encoded).unwrap(), address("oras://ghcr.io/a/b:tag"));
        assert_eq!(name, ".._x_y.img?sha256=ab");
    }

    #[test]
    fn only_named_origins_are_allowed() {
        let origins: Origins =
            "example.org, *.lan h:8443 https://mirror/images/ oras://ghcr.io/me/".parse().unwrap();
        for (text, is_allowed) in [
            ("http://example.org/x", true),
            ("https://example.org:99/x", true),
            ("http://sub.example.org/x", false),
            ("http://a.lan/x", true),
            ("http://lan/x", false),
            ("http://evillan/x", false),
            ("https://h:8443/x", true),
            ("https://h/x", false),
            ("https://mirror/images/x", true),
            ("https://mirror/images-of-others/x", false),
            ("http://mirror/images/x", false),
            ("oras://ghcr.io/me/x:t", true),
            ("oras://ghcr.io/other/x:t", false),
        ] {
            assert_eq!(origins.allow(&address(text)), is_allowed, "{text}");
        }
        assert!(Origins::default().is_empty() && !origins.is_empty());
        for text in ["https://h", "a/b", "ftp://h/x"] {
            assert!(text.parse::<Origins>().is_err(), "{text}");
        }
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
        fn no_path_makes_decoding_fail_badly(text in "\\PC{0,80}") {
            let _ = Address::decode(&text);
            let _ = text.parse::<Origins>();
        }

        #[test]
        fn every_address_comes_back(path in "[a-zA-Z0-9/._-]{1,40}") {
            let origin = format!("http://h.example/{path}");
            let url = blob_url("http://c", &origin, "n", None);
            let encoded = url.split('/').nth(4).unwrap().to_owned();
            proptest::prop_assert_eq!(Address::decode(&encoded).unwrap(), origin.parse::<Address>().unwrap());
        }
    }
}
