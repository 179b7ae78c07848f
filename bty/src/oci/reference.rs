//! `oras://` references.

use std::fmt;
use std::str::FromStr;

use crate::{Digest, Error, ErrorKind, Result};

const SCHEME: &str = "oras://";
const REPOSITORY_LEN_MAX: usize = 255;
const TAG_LEN_MAX: usize = 128;

/// A reference to an artifact: `oras://host[:port]/owner/repository:tag`, or
/// `...@sha256:<64 hexadecimal digits>`.
///
/// The digest is that of a manifest or of a blob. Names follow the OCI distribution specification
/// 1.1, section "Pulling manifests"; the repository must have at least two components.
///
/// ```
/// let reference: bty::oci::OciReference = "oras://ghcr.io/example/images:debian-13".parse()?;
/// assert_eq!(reference.repository(), "example/images");
/// assert_eq!(reference.tag(), Some("debian-13"));
/// # Ok::<(), bty::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OciReference {
    registry: String,
    repository: String,
    version: TagOrDigest,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum TagOrDigest {
    Tag(String),
    Digest(Digest),
}

impl OciReference {
    /// Host of the registry, with the port if one was given.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Repository in the registry, as `owner/name`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Tag; `None` if the reference has a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match &self.version {
            TagOrDigest::Tag(tag) => Some(tag),
            TagOrDigest::Digest(_) => None,
        }
    }

    /// Digest; `None` if the reference has a tag.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match self.version {
            TagOrDigest::Tag(_) => None,
            TagOrDigest::Digest(digest) => Some(digest),
        }
    }

    /// The tag or the digest, as in the URL of a manifest.
    pub(super) fn version(&self) -> String {
        match &self.version {
            TagOrDigest::Tag(tag) => tag.clone(),
            TagOrDigest::Digest(digest) => format!("sha256:{digest}"),
        }
    }

    /// A reference to `digest` in the same repository.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { version: TagOrDigest::Digest(digest), ..self.clone() }
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.registry, self.repository)?;
        match &self.version {
            TagOrDigest::Tag(tag) => write!(f, ":{tag}"),
            TagOrDigest::Digest(digest) => write!(f, "@sha256:{digest}"),
        }
    }
}

impl FromStr for OciReference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(ErrorKind::Usage, format!("{text:?} is not a registry reference: {why}"))
                .hint(
                    "write oras://host/owner/repository:tag, or @sha256:<digest> in place of :tag",
                )
        };
        let rest = match text.get(..SCHEME.len()) {
            Some(scheme) if scheme.eq_ignore_ascii_case(SCHEME) => &text[SCHEME.len()..],
            _ => return Err(bad("it does not begin with oras://")),
        };
        let (registry, path) =
            rest.split_once('/').ok_or_else(|| bad("no repository follows the host"))?;
        if !is_registry(registry) {
            return Err(bad("the host is malformed"));
        }
        let (repository, version) = if let Some((repository, digest)) = path.split_once('@') {
            let digest =
                digest.strip_prefix("sha256:").ok_or_else(|| bad("its digest is not sha256"))?;
            if digest.len() != 64 {
                return Err(bad("its digest does not have 64 hexadecimal digits"));
            }
            (repository, TagOrDigest::Digest(digest.parse()?))
        } else if let Some((repository, tag)) = path.split_once(':') {
            if !is_tag(tag) {
                return Err(bad("the tag is malformed"));
            }
            (repository, TagOrDigest::Tag(tag.to_owned()))
        } else {
            return Err(bad("it has neither a tag nor a digest"));
        };
        if repository.contains(':') {
            return Err(bad("it has both a tag and a digest"));
        }
        if !repository.contains('/') {
            return Err(bad("the repository needs an owner and a name"));
        }
        if !is_repository(repository) {
            return Err(bad("the repository is malformed; names are lower-case"));
        }
        Ok(Self {
            registry: registry.to_ascii_lowercase(),
            repository: repository.to_owned(),
            version,
        })
    }
}

/// `host` or `host:port`; labels of letters, digits and inner hyphens.
fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "443"));
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.len() <= 253
        && host.split('.').all(is_label)
        && port.bytes().all(|b| b.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// As the OCI distribution specification has it: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= TAG_LEN_MAX
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

fn is_repository(text: &str) -> bool {
    text.len() <= REPOSITORY_LEN_MAX && text.split('/').all(is_component)
}

/// As the OCI distribution specification has it: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|end| end.is_some_and(|b| is_word(*b)))
        && bytes
            .split(|b| is_word(*b))
            .all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|b| *b == b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn parses_host_repository_and_tag_or_digest() {
        let tagged: OciReference =
            "oras://Registry.example:5000/team/sub/images:v1.0_rc-2".parse().unwrap();
        assert_eq!(tagged.registry(), "registry.example:5000");
        assert_eq!(tagged.repository(), "team/sub/images");
        assert_eq!((tagged.tag(), tagged.digest()), (Some("v1.0_rc-2"), None));
        assert_eq!(tagged.to_string(), "oras://registry.example:5000/team/sub/images:v1.0_rc-2");

        let pinned: OciReference = format!("ORAS://localhost/a/b@sha256:{HEX}").parse().unwrap();
        assert_eq!((pinned.tag(), pinned.digest()), (None, Some(Digest::of(b""))));
        assert_eq!(pinned.to_string(), format!("oras://localhost/a/b@sha256:{HEX}"));
        assert_eq!(tagged.with_digest(Digest::of(b"")).digest(), pinned.digest());
    }

    #[test]
    fn refuses_malformed_references() {
        let long_tag = format!("oras://h/a/b:{}", "t".repeat(129));
        let long_name = format!("oras://h/{}/b:t", "a".repeat(255));
        let both = format!("oras://h/a/b:t@sha256:{HEX}");
        let short = format!("oras://h/a/b@sha256:{}", &HEX[1..]);
        let sha512 = format!("oras://h/a/b@sha512:{HEX}{HEX}");
        for bad in [
            "",
            "oras://",
            "oras:///a/b:t",
            "oras://h",
            "oras://h/",
            "oras://h/a:t",
            "oras://h/a/b",
            "oras://h/a/b:",
            "oras://h/a/b:.t",
            "oras://h/a/b:-t",
            "oras://h/a/b:t:u",
            "oras://h/A/b:t",
            "oras://h/a//b:t",
            "oras://h/a/b/:t",
            "oras://h/a/_b:t",
            "oras://h/a/b_:t",
            "oras://h/a/b..c:t",
            "oras://h/a/b___c:t",
            "oras://h/a/../b:t",
            "oras://h:0/a/b:t",
            "oras://h:/a/b:t",
            "oras://h:65536/a/b:t",
            "oras://h:+1/a/b:t",
            "oras://-h/a/b:t",
            "oras://h_h/a/b:t",
            "oras://u@h/a/b:t",
            "oras://h/a/b?c:t",
            "http://h/a/b:t",
            &long_tag,
            &long_name,
            &both,
            &short,
            &sha512,
        ] {
            let error = bad.parse::<OciReference>().expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::Usage, "{bad}");
        }
        for good in
            ["oras://h/a/b--c__d.e_f:t", "oras://h/0/b:_", "oras://10.0.0.1:5000/a/b:latest"]
        {
            assert!(good.parse::<OciReference>().is_ok(), "{good}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn never_panics(text in "(oras://)?[a-zA-Z0-9:/@._\u{e9}-]{0,40}") {
            let _ = text.parse::<OciReference>();
        }

        #[test]
        fn a_displayed_reference_parses_back(
            text in concat!(
                "oras://[a-z]{1,5}(\\.[a-z]{2})?(:[1-9][0-9]{0,3})?",
                "/[a-z0-9]{1,4}/[a-z]([._-][a-z0-9]){0,3}:[a-zA-Z0-9_][a-z.-]{0,5}"
            ),
        ) {
            let reference: OciReference = text.parse().unwrap();
            prop_assert_eq!(reference.to_string(), text);
        }
    }
}
