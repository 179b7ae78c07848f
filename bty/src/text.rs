//! Makes untrusted text (names in a catalog, file names, disk models, replies of servers) safe to
//! show in a terminal, and writes paths as text.
//!
//! Every program of bty prints through these functions, so that no name can move the cursor, change
//! the title of the window, hide a line or reverse the direction of writing.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Escapes text for one line: control characters, line ends included, become `\u{1b}`, `\n` and
/// `\t`.
///
/// ```
/// assert_eq!(bty::text::escape("debian 13"), "debian 13");
/// assert_eq!(bty::text::escape("x\x1b[2K\n"), r"x\u{1b}[2K\n");
/// ```
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_except(text, |_| false)
}

/// Escapes text of several lines: like [`escape`], but keeps line ends and tabs.
#[must_use]
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    escape_except(text, |c| c == '\n' || c == '\t')
}

/// Escapes a file name like [`escape`]. Bytes that are not UTF-8 become `\xff`.
///
/// ```
/// use std::os::unix::ffi::OsStrExt;
///
/// let name = std::ffi::OsStr::from_bytes(b"a\xff\x1b.img");
/// assert_eq!(bty::text::escape_name(name), r"a\xff\u{1b}.img");
/// ```
#[must_use]
pub fn escape_name(name: impl AsRef<OsStr>) -> String {
    escape(&shown_name(name.as_ref())).into_owned()
}

/// Formats a file name for messages and reports. Bytes that are not UTF-8 become `\xff`; control
/// characters are not escaped.
#[must_use]
pub(crate) fn shown_name(name: &OsStr) -> String {
    let chunks = name.as_bytes().utf8_chunks();
    let parts = chunks.map(|chunk| {
        let bytes: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("{}{bytes}", chunk.valid())
    });
    parts.collect()
}

/// A number with its noun, which takes an `s` unless the number is one.
///
/// ```
/// assert_eq!(bty::text::count(1, "disk"), "1 disk");
/// assert_eq!(bty::text::count(0, "disk"), "0 disks");
/// ```
#[must_use]
#[allow(clippy::needless_pass_by_value)] // a number
pub fn count<N: fmt::Display + PartialEq + From<bool>>(number: N, noun: &str) -> String {
    let ending = if number == N::from(true) { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// Escapes characters that JSON allows but a terminal acts on. The result is an equivalent JSON
/// document.
#[must_use]
pub fn escape_json(json: &str) -> Cow<'_, str> {
    let acts = |c: char| is_active(c) && c != '\n' && c != '\t' && c != '\r';
    if !json.contains(acts) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        // all active characters are in the basic multilingual plane
        let _ = if acts(c) {
            write!(escaped, "\\u{:04x}", u32::from(c))
        } else {
            escaped.write_char(c)
        };
    }
    Cow::Owned(escaped)
}

/// Writes `path` as text that parses back as a [`Location`](crate::Location): the path itself, or a
/// percent-encoded `file://` URL if the path is not UTF-8 or contains `://`.
///
/// JSON, command-line options and scripts are text, and could not hold such a path otherwise.
///
/// ```
/// use std::ffi::OsStr;
/// use std::os::unix::ffi::OsStrExt;
///
/// use bty::text::path_reference;
///
/// assert_eq!(path_reference("/images/a b.img"), "/images/a b.img");
/// let invalid = OsStr::from_bytes(b"/images/a \xff.img");
/// assert_eq!(path_reference(invalid), "file:///images/a%20%FF.img");
/// ```
#[must_use]
pub fn path_reference(path: impl AsRef<OsStr>) -> String {
    let path = path.as_ref();
    if let Some(text) = path.to_str().filter(|text| !text.contains("://")) {
        return text.to_owned();
    }
    // a relative path starts with `.`, because `localhost` would be taken for a host
    let mut address =
        String::from(if path.as_bytes().starts_with(b"/") { "file://" } else { "file://./" });
    for &byte in path.as_bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
        let _ = if is_plain {
            address.write_char(char::from(byte))
        } else {
            write!(address, "%{byte:02X}")
        };
    }
    address
}

/// A command-line argument as text: the argument itself, or its [`path_reference`] if it is not
/// UTF-8.
#[must_use]
pub fn argument(argument: &OsStr) -> String {
    argument.to_str().map_or_else(|| path_reference(argument), str::to_owned)
}

/// The path that [`path_reference`] has written as `reference`.
#[must_use]
pub fn path_of_reference(reference: &str) -> PathBuf {
    file_url_path(reference).unwrap_or_else(|| PathBuf::from(reference))
}

/// The path in a `file://` URL; `None` for other text, and for a path with a NUL byte. The host
/// `localhost` is this machine (RFC 8089). Nothing but `%` has a special meaning in the rest.
pub(crate) fn file_url_path(url: &str) -> Option<PathBuf> {
    let (scheme, rest) = url.split_at_checked("file://".len())?;
    if !scheme.eq_ignore_ascii_case("file://") {
        return None;
    }
    let path = match rest.get(..10) {
        Some(host) if host.eq_ignore_ascii_case("localhost/") => &rest[9..],
        _ => rest,
    };
    let bytes = percent_decode(path);
    (!bytes.contains(&0)).then(|| PathBuf::from(OsString::from_vec(bytes)))
}

/// Replaces `%41` by `A`. A malformed escape stays as it is.
pub(crate) fn percent_decode(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|d| byte == b'%' && d.iter().all(u8::is_ascii_hexdigit));
        let value = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        decoded.push(value.unwrap_or(byte));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    decoded
}

/// `#[serde(with)]` for fields of type `PathBuf`, by [`path_reference`].
pub(crate) mod path {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::path_reference(path))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        Ok(super::path_of_reference(&String::deserialize(deserializer)?))
    }
}

/// `#[serde(with)]` for fields of type `Option<PathBuf>`.
pub(crate) mod optional_path {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::ref_option)] // the signature that serde calls
    pub(crate) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match path {
            Some(path) => serializer.serialize_some(&super::path_reference(path)),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(|text| super::path_of_reference(&text)))
    }
}

fn escape_except(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let acts = |c: char| is_active(c) && !keep(c);
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if acts(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    Cow::Owned(escaped)
}

/// True for characters that a terminal acts on instead of showing them: C0 and C1 control
/// characters, line separators, and marks that change the direction of writing.
fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_that_is_not_utf8_survives_json() {
        let path = PathBuf::from(OsStr::from_bytes(b"/d/a\xff.img"));
        let disk = crate::Disk::planned_file(&path, 1);
        let json = serde_json::to_value(&disk).unwrap();
        assert_eq!(json["path"], "file:///d/a%FF.img");
        assert_eq!(serde_json::from_value::<crate::Disk>(json).unwrap().path, path);
    }

    #[test]
    fn every_control_character_is_escaped() {
        for code in (0..0x20).chain(0x7f..0xa0).chain([0x200e, 0x2028, 0x202e, 0x2066, 0xfeff]) {
            let c = char::from_u32(code).unwrap();
            let text = format!("a{c}b");
            let shown = escape(&text);
            assert!(
                shown.is_ascii() && shown.starts_with("a\\") && shown.ends_with('b'),
                "{shown:?}"
            );
        }
        assert_eq!(escape_lines("a\n\tb\r\u{9b}c"), "a\n\tb\\r\\u{9b}c");
        assert!(matches!(escape("Ünïcödé 日本 🖥"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn path_references_are_reversible(bytes in prop::collection::vec(1u8.., 1..20)) {
            let path = PathBuf::from("/d").join(OsStr::from_bytes(&bytes));
            prop_assert_eq!(path_of_reference(&path_reference(&path)), path);
        }

        #[test]
        fn escaping_keeps_the_json_document_equivalent(text in any::<String>()) {
            let value = serde_json::json!({ &text: [&text, "\u{7f}\u{9b}\u{202e}"] });
            let json = serde_json::to_string(&value).unwrap();
            let escaped = escape_json(&json);
            prop_assert!(!escaped.contains(is_active));
            let same = serde_json::from_str::<serde_json::Value>(&escaped).unwrap();
            prop_assert_eq!(same, serde_json::from_str::<serde_json::Value>(&json).unwrap());
        }

        #[test]
        fn no_active_character_is_left(text in any::<String>(), bytes in any::<Vec<u8>>()) {
            prop_assert!(!escape(&text).contains(is_active));
            prop_assert!(!escape_name(OsStr::from_bytes(&bytes)).contains(is_active));
        }
    }
}
