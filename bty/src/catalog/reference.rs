//! The canonical form of a `src`, and the reference by which servers assign images to machines.
//!
//! | scheme | normalized | kept as written |
//! |---|---|---|
//! | `http`, `https` | lower-case scheme and host; no default port, user, empty `?`, `#` | path, query, fragment |
//! | `oras` | host and repository in lower case | port, tag, digest |
//! | `file` | no leading `/`, no empty and `.` segments | case |
//!
//! Servers store these references, and other implementations compute the same ones. A change here
//! would detach machines from their images.

use url::Url;

use crate::{Digest, Error, ErrorKind, Result, redact};

/// Maximum number of characters of untrusted text in a message.
const QUOTED_CHARS: usize = 80;

/// The canonical form of `src`, which is equal for addresses that differ only in insignificant
/// ways: letter case of the host, a default port, user information.
///
/// ```
/// use bty::catalog::canonical_src;
///
/// assert_eq!(canonical_src("HTTPS://me@Example.org:443/A?x")?, "https://example.org/A?x");
/// assert_eq!(canonical_src("oras://GHCR.io/Me/Disk:Latest")?, "oras://ghcr.io/me/disk:Latest");
/// # Ok::<(), bty::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Usage`] when `src` is not a valid `http://`, `https://`, `oras://` or `file://`
/// address.
pub fn canonical_src(src: &str) -> Result<String> {
    let bad = |why: &str| {
        Error::new(ErrorKind::Usage, format!("{} {why}", quote(src)))
            .hint("write an http:// or https:// address, or oras://host/repository:tag")
    };
    let Some((scheme, rest)) = src.split_once("://") else {
        return Err(bad("has no scheme"));
    };
    if src.contains(char::is_control) {
        return Err(bad("contains a control character"));
    }
    match scheme.to_ascii_lowercase().as_str() {
        "http" => http("http", "80", rest),
        "https" => http("https", "443", rest),
        "oras" => oras(rest),
        "file" => file(rest),
        _ => Err("has a scheme that is not supported"),
    }
    .map_err(bad)
}

/// The reference of an image: the SHA-256 of its [canonical](canonical_src) `src`. It identifies
/// where an image comes from, not its content, so it stays the same when a rolling tag moves.
///
/// # Errors
/// [`ErrorKind::Usage`] when `src` is not a valid address, as [`canonical_src`].
pub fn image_ref(src: &str) -> Result<Digest> {
    Ok(Digest::of(canonical_src(src)?.as_bytes()))
}

/// The name that `src` suggests for an image: the file name of a web address, or the last component
/// of a repository.
#[must_use]
pub fn file_name(src: &str) -> Option<String> {
    let canonical = canonical_src(src).ok()?;
    let (scheme, rest) = canonical.split_once("://")?;
    let end = if scheme == "oras" { "@" } else { "?#" };
    let path = rest.split(|c| end.contains(c)).next()?.split_once('/')?.1;
    let last = path.rsplit('/').next()?;
    let name = if scheme == "oras" { last.split(':').next()? } else { last };
    (!name.is_empty()).then(|| name.to_owned())
}

/// The canonical form, or the reason why there is none, which follows the quoted `src` in the
/// error.
type Canonical = std::result::Result<String, &'static str>;

fn http(scheme: &str, default_port: &str, rest: &str) -> Canonical {
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let address = authority.rsplit('@').next().unwrap_or(authority);
    let (host, port) = split_port(address)?;
    if host.is_empty() {
        return Err("has no host");
    }
    // browsers and the HTTP client treat a backslash as a slash, and would connect to another host
    // than the one that is checked here
    if host.contains('\\') {
        return Err("has an invalid host");
    }
    let mut canonical = format!("{scheme}://{}", host.to_lowercase());
    let port = port.trim_start_matches('0');
    if !port.is_empty() && port != default_port {
        canonical.push(':');
        canonical.push_str(port);
    }
    let (path, fragment) = path.split_once('#').unwrap_or((path, ""));
    canonical.push_str(path.strip_suffix('?').filter(|p| !p.contains('?')).unwrap_or(path));
    if !fragment.is_empty() {
        canonical.push('#');
        canonical.push_str(fragment);
    }
    Url::parse(&canonical).map_err(|_| "has an invalid host")?;
    Ok(canonical)
}

/// Splits an address into the host (an IPv6 address in brackets) and the digits of the port, which
/// may be empty.
fn split_port(address: &str) -> Result<(&str, &str), &'static str> {
    let after_brackets = if address.starts_with('[') {
        address.find(']').ok_or("has an invalid host")? + 1
    } else {
        0
    };
    let colon = address[after_brackets..].find(':').map_or(address.len(), |i| after_brackets + i);
    let (host, port) = (&address[..colon], address.get(colon + 1..).unwrap_or(""));
    let valid = port.is_empty()
        || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok());
    if valid { Ok((host, port)) } else { Err("has a port that is not a number below 65536") }
}

fn oras(rest: &str) -> Canonical {
    let (host, rest) = rest.split_once('/').ok_or("has no repository")?;
    let (name, digest) =
        rest.split_once('@').map_or((rest, None), |(name, digest)| (name, Some(digest)));
    let (repository, tag) =
        name.split_once(':').map_or((name, None), |(name, tag)| (name, Some(tag)));
    let (host, repository) = (host.to_lowercase(), repository.to_lowercase());
    split_port(&host)?;
    Url::parse(&format!("https://{host}/")).map_err(|_| "has an invalid host")?;
    if host.contains(['@', '\\', '?', '#']) || host.starts_with(':') {
        return Err("has an invalid host");
    }
    let word = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !repository
        .split('/')
        .all(|part| part.starts_with(|c: char| c.is_ascii_alphanumeric()) && word(part))
    {
        return Err("has an invalid repository");
    }
    if tag.is_some_and(|tag| {
        tag.is_empty() || tag.len() > 128 || tag.starts_with(['.', '-']) || !word(tag)
    }) {
        return Err("has an invalid tag");
    }
    if digest.is_some_and(|digest| !digest.strip_prefix("sha256:").is_some_and(is_hex)) {
        return Err("has an invalid digest");
    }
    match (tag, digest) {
        (None, None) => Err("has neither a tag nor a digest"),
        (Some(tag), None) => Ok(format!("oras://{host}/{repository}:{tag}")),
        (None, Some(digest)) => Ok(format!("oras://{host}/{repository}@{digest}")),
        (Some(tag), Some(digest)) => Ok(format!("oras://{host}/{repository}:{tag}@{digest}")),
    }
}

/// Quotes untrusted text for a message: escaped, without passwords, at most [`QUOTED_CHARS`] long.
pub(super) fn quote(text: &str) -> String {
    let text = &*redact::address(text);
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// True for the 64 hexadecimal digits of a SHA-256.
fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn file(rest: &str) -> Canonical {
    let kept: Vec<&str> =
        rest.split('/').filter(|segment| !segment.is_empty() && *segment != ".").collect();
    if kept.contains(&"..") {
        return Err("contains ..");
    }
    if kept.is_empty() {
        return Err("has no file name");
    }
    Ok(format!("file://{}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn each_rule_of_the_canonical_form_holds() {
        let by_digest = format!("oras://h/a@sha256:{HEX}");
        for (src, canonical) in [
            ("HTTP://Example.ORG/Path/X.img", "http://example.org/Path/X.img"),
            ("http://h:80/a", "http://h/a"),
            ("http://h:443/a", "http://h:443/a"),
            ("https://h:443/a", "https://h/a"),
            ("https://h:0443/a", "https://h/a"),
            ("https://h:/a", "https://h/a"),
            ("https://h:8443/a", "https://h:8443/a"),
            ("https://user:secret@h/a", "https://h/a"),
            ("https://u@v@h/a", "https://h/a"),
            ("https://h", "https://h"),
            ("https://h/", "https://h/"),
            ("https://h/a/../b//c/%7e?Q=%41#Frag", "https://h/a/../b//c/%7e?Q=%41#Frag"),
            ("https://h/a?", "https://h/a"),
            ("https://h/a?#", "https://h/a"),
            ("https://h/a?#f?", "https://h/a#f?"),
            ("https://h/a??", "https://h/a??"),
            ("https://h?q=a@b:c", "https://h?q=a@b:c"),
            ("https://[FD00::1]:8443/a", "https://[fd00::1]:8443/a"),
            (
                "ORAS://Ghcr.IO/Safl/Nosi/Headless:2026.W1",
                "oras://ghcr.io/safl/nosi/headless:2026.W1",
            ),
            ("oras://localhost:5000/a/b:T", "oras://localhost:5000/a/b:T"),
            (&format!("oras://H/A@sha256:{HEX}"), &by_digest),
            ("file:///Images//./A.img", "file://Images/A.img"),
            ("FILE://a/b", "file://a/b"),
        ] {
            assert_eq!(canonical_src(src).unwrap_or_else(|e| e.to_string()), canonical, "{src}");
        }
    }

    #[test]
    fn malformed_addresses_are_refused_with_a_reason() {
        for (src, why) in [
            ("", "no scheme"),
            ("/tmp/a.img", "no scheme"),
            ("ftp://h/a", "not supported"),
            ("http:///a", "has no host"),
            ("http://u@/a", "has no host"),
            ("http://:80/a", "has no host"),
            ("http://h:65536/a", "port"),
            ("http://h:8x/a", "port"),
            ("http://h:1:2/a", "port"),
            ("http://[::1/a", "valid host"),
            ("http://h\\evil.org/a", "valid host"),
            ("http://h/a\nb", "control character"),
            ("oras://h", "has no repository"),
            ("oras://h/a", "neither a tag nor a digest"),
            ("oras://h:5000/a", "neither a tag nor a digest"),
            ("oras://h/a:", "valid tag"),
            ("oras://h/a//b:t", "valid repository"),
            ("oras://h/a@sha256:12", "valid digest"),
            ("oras:///a/b:t", "valid host"),
            ("file://", "has no file name"),
            ("file:///./", "has no file name"),
            ("file://a/../b", "contains .."),
            ("file://a\0b", "control character"),
        ] {
            let error = canonical_src(src).expect_err(src);
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains(why), "{src:?}: {error}");
        }
    }

    #[test]
    fn the_reference_is_the_digest_of_the_canonical_form() {
        let rolling = image_ref("ORAS://GHCR.io/safl/nosi/x:latest").unwrap();
        assert_eq!(rolling, Digest::of(b"oras://ghcr.io/safl/nosi/x:latest"));
        // printf %s https://example.org/a.img | sha256sum
        assert_eq!(
            image_ref("https://me@EXAMPLE.org:443/a.img").unwrap().to_string(),
            "f582e00951cb4791e0a0e031f8bd2ebf2f81447afe2f5d85b7084f5b771d59dc"
        );
    }

    #[test]
    fn the_file_name_of_a_src_is_its_last_component() {
        for (src, name) in [
            ("https://h/d/a.img.zst?token=1/2#x", Some("a.img.zst")),
            ("https://h/d/", None),
            ("https://h", None),
            ("oras://h:5000/safl/nosi/disk:v1", Some("disk")),
            (&format!("oras://h/disk@sha256:{HEX}"), Some("disk")),
        ] {
            assert_eq!(file_name(src).as_deref(), name, "{src}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn canonicalization_is_idempotent(
            src in concat!(
                "(HTTPS?|http|oras|File)://[ -~\u{e9}\u{130}]{0,24}",
                "|(http|oras)://[a-zA-Z.]{1,5}(:[0-9]{0,3})?",
                "(/[a-zA-Z:@?#%.]{0,6}){0,3}(:[a-zA-Z]{1,3})?"
            )
        ) {
            if let Ok(once) = canonical_src(&src) {
                prop_assert_eq!(canonical_src(&once).unwrap(), once);
            }
        }
    }
}
