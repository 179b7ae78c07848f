//! SHA-256 and SHA-512 digests of files, and the checksum files that list them.
//!
//! ```
//! use bty::Digest;
//! use bty::digest::ChecksumList;
//!
//! let digest = Digest::of(b"the bytes of an image");
//! let list = ChecksumList::parse(&format!("{digest}  debian.img\n"));
//! assert_eq!(list.find("debian.img", "")?.sha256, Some(digest));
//! # Ok::<(), bty::digest::NotListed>(())
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::{Error, ErrorKind, Result};

mod list;

pub use list::{ChecksumList, NotListed};

/// A SHA-256 digest. Parses from 64 hexadecimal digits with an optional `sha256:` prefix, and
/// displays as lower-case digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Computes the digest of `bytes`.
    ///
    /// ```
    /// let empty = bty::Digest::of(b"");
    /// assert!(empty.to_string().starts_with("e3b0c442"));
    /// ```
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The 32 bytes of the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse_hex(text, "sha256:")
            .map(Self)
            .ok_or_else(|| parse_error(text, "SHA-256", 64, "sha256:"))
    }
}

/// Parses `2 * N` hexadecimal digits with an optional `prefix`.
fn parse_hex<const N: usize>(text: &str, prefix: &str) -> Option<[u8; N]> {
    let hex = text.trim();
    let hex = hex.strip_prefix(prefix).unwrap_or(hex);
    if hex.len() != 2 * N || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn parse_error(text: &str, kind: &str, digits: usize, prefix: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("{text:?} is not a {kind} digest"))
        .hint(format!("give {digits} hexadecimal digits, with or without {prefix} in front"))
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// A SHA-512 digest. Parses from 128 hexadecimal digits with an optional `sha512:` prefix, and
/// displays as lower-case digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha512([u8; 64]);

impl Sha512 {
    /// Computes the digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha512::digest(bytes).into())
    }
}

impl fmt::Display for Sha512 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha512 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha512:{self}")
    }
}

impl FromStr for Sha512 {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse_hex(text, "sha512:")
            .map(Self)
            .ok_or_else(|| parse_error(text, "SHA-512", 128, "sha512:"))
    }
}

impl TryFrom<String> for Sha512 {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Sha512> for String {
    fn from(digest: Sha512) -> Self {
        digest.to_string()
    }
}

/// The known digests of one file. A file with expected digests must match all of them.
///
/// Displays each with its kind in front: `sha256 e3b0…, sha512 cf83…`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Checksums {
    /// SHA-256 of the file.
    pub sha256: Option<Digest>,
    /// SHA-512 of the file.
    pub sha512: Option<Sha512>,
}

impl Checksums {
    /// True if no digest is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Combines the digests of `self` and `other`. `None` when they contradict each other.
    #[must_use]
    pub fn merged(self, other: Self) -> Option<Self> {
        fn one<T: PartialEq>(a: Option<T>, b: Option<T>) -> Option<Option<T>> {
            match (a, b) {
                (Some(a), Some(b)) if a != b => None,
                (a, b) => Some(a.or(b)),
            }
        }
        Some(Self {
            sha256: one(self.sha256, other.sha256)?,
            sha512: one(self.sha512, other.sha512)?,
        })
    }
}

impl fmt::Display for Checksums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sha256 = self.sha256.map(|digest| format!("sha256 {digest}"));
        let sha512 = self.sha512.map(|digest| format!("sha512 {digest}"));
        f.write_str(&sha256.into_iter().chain(sha512).collect::<Vec<_>>().join(", "))
    }
}

impl From<Digest> for Checksums {
    fn from(digest: Digest) -> Self {
        Self { sha256: Some(digest), sha512: None }
    }
}

/// Computes the SHA-256 of a stream.
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// A hasher that has seen no bytes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `bytes` to the stream.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Appends all remaining bytes of `reader`, and returns their number.
    ///
    /// # Errors
    /// The first error of `reader` other than an interruption.
    pub fn read(&mut self, reader: &mut impl std::io::Read) -> std::io::Result<u64> {
        let (mut chunk, mut len) = (vec![0; 1 << 20], 0);
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok(len),
                Ok(n) => {
                    self.update(&chunk[..n]);
                    len += n as u64;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The digest of the stream.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Computes the SHA-256 of a stream, and its SHA-512 only if one is expected, since that doubles
/// the cost.
pub(crate) struct FileHasher {
    sha256: Hasher,
    sha512: Option<sha2::Sha512>,
}

impl FileHasher {
    /// Computes the digests that are needed to check `expected`.
    pub(crate) fn new(expected: &Checksums) -> Self {
        Self { sha256: Hasher::new(), sha512: expected.sha512.map(|_| sha2::Sha512::new()) }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }

    pub(crate) fn finish(self) -> Checksums {
        let sha512 = self.sha512.map(|hasher| Sha512(hasher.finalize().into()));
        Checksums { sha256: Some(self.sha256.finish()), sha512 }
    }
}

/// Finds the SHA-256 of `name` in the text of a checksum file. A bare digest matches any name. See
/// [`ChecksumList`] for the formats.
///
/// Returns `None` when the text is not a checksum file, does not list `name`, or has different
/// digests for it. [`ChecksumList::find`] tells these cases apart.
#[must_use]
pub fn find_in_checksums(text: &str, name: &str) -> Option<Digest> {
    ChecksumList::parse(text).find(name, "").ok()?.sha256
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_parse_in_any_case_and_display_in_lower_case() {
        let upper = format!("sha256:{}", HEX.to_uppercase());
        assert_eq!(upper.parse::<Digest>().unwrap().to_string(), HEX);
        for bad in ["", "abc", &HEX[1..], "sha512:00", &format!("{}é", &HEX[2..])] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?}");
        }
        let long = Sha512::of(b"").to_string();
        assert!(long.starts_with("cf83e1357eefb8bd"));
        assert_eq!(
            format!("sha512:{}", long.to_uppercase()).parse::<Sha512>().unwrap(),
            Sha512::of(b"")
        );
        assert!(HEX.parse::<Sha512>().unwrap_err().to_string().contains("not a SHA-512 digest"));
    }

    #[test]
    fn a_name_is_found_in_the_usual_checksum_files() {
        let digest = Some(Digest::of(b""));
        assert_eq!(find_in_checksums(HEX, "a.img"), digest);
        assert_eq!(find_in_checksums(&format!("{HEX}  a.img\n"), "a.img"), digest);
        assert_eq!(find_in_checksums(&format!("{HEX} *./a.img\n"), "a.img"), digest);
        assert_eq!(
            find_in_checksums(&format!("# sums\n{HEX}  b\n{HEX}  dir/a.img"), "a.img"),
            digest
        );
        assert_eq!(find_in_checksums(&format!("{HEX}  b.img"), "a.img"), None);
        assert_eq!(find_in_checksums("<html>", "a.img"), None);
    }
}
