//! Digests of files: SHA-256 and SHA-512, as given by people, catalogs, registries and lists of
//! digests.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::{Error, ErrorKind, Result};

mod list;

pub use list::{ChecksumList, NotListed};

/// A SHA-256 digest. Parses from 64 hexadecimal digits, with or without `sha256:` in front; shows
/// as lower-case digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Digests `bytes`.
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

    /// The 32 bytes.
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
            .ok_or_else(|| unreadable(text, "SHA-256", 64, "sha256:"))
    }
}

/// The bytes of `2 * N` hexadecimal digits, with or without `prefix`.
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

fn unreadable(text: &str, kind: &str, digits: usize, prefix: &str) -> Error {
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

/// A SHA-512 digest. Parses from 128 hexadecimal digits, with or without `sha512:` in front; shows
/// as lower-case digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha512([u8; 64]);

impl Sha512 {
    /// Digests `bytes`.
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
            .ok_or_else(|| unreadable(text, "SHA-512", 128, "sha512:"))
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

/// The digests of one file, as far as they are known. Those that somebody promised must all hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Checksums {
    /// Its SHA-256.
    pub sha256: Option<Digest>,
    /// Its SHA-512.
    pub sha512: Option<Sha512>,
}

impl Checksums {
    /// True when no digest is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These digests, and those of `others` where these lack one. `None` when the two contradict
    /// each other.
    #[must_use]
    pub fn merged(self, others: Self) -> Option<Self> {
        fn one<T: PartialEq>(a: Option<T>, b: Option<T>) -> Option<Option<T>> {
            match (a, b) {
                (Some(a), Some(b)) if a != b => None,
                (a, b) => Some(a.or(b)),
            }
        }
        Some(Self {
            sha256: one(self.sha256, others.sha256)?,
            sha512: one(self.sha512, others.sha512)?,
        })
    }
}

/// The digests, each with its kind in front: `sha256 e3b0…`.
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

/// Digests a stream piece by piece.
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// Nothing digested yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds all that `reader` has from here on; gives how much that was.
    ///
    /// # Errors
    /// Those of `reader`.
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

    /// The digest of all that was added.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Digests a stream with SHA-256, and with SHA-512 where that was promised: it costs as much again.
pub(crate) struct FileHasher {
    sha256: Hasher,
    sha512: Option<sha2::Sha512>,
}

impl FileHasher {
    /// With what is needed to check `promised`.
    pub(crate) fn new(promised: &Checksums) -> Self {
        Self { sha256: Hasher::new(), sha512: promised.sha512.map(|_| sha2::Sha512::new()) }
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

/// Finds the SHA-256 digest of `name` in a list of digests; a bare digest matches any name. See
/// [`ChecksumList`] for the formats.
///
/// Returns `None` when the text is no such list, does not mention `name`, or has different digests
/// for it.
#[must_use]
pub fn find_in_checksums(text: &str, name: &str) -> Option<Digest> {
    ChecksumList::parse(text).find(name, "").ok()?.sha256
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn parses_and_shows_lower_case() {
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
    fn finds_a_name_in_every_usual_checksum_file() {
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
