//! SHA-256 digests: as given by people, catalogs, registries and `.sha256` files.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::{Error, ErrorKind, Result};

/// A SHA-256 digest. Parses from 64 hexadecimal digits, with or without `sha256:` in front; shows as lower-case digits.
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
        let bad = || {
            Error::new(ErrorKind::Usage, format!("{text:?} is not a SHA-256 digest"))
                .hint("give 64 hexadecimal digits, with or without sha256: in front")
        };
        let hex = text.trim();
        let hex = hex.strip_prefix("sha256:").unwrap_or(hex);
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(pair).map_err(|_| bad())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
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

/// Finds the digest of `name` in a checksum file: a bare digest, or the lines that `sha256sum` writes
/// (`<hex>  name`, `<hex> *name`, `./` before the name). A bare digest matches any name.
///
/// Returns `None` when the text is no checksum file or does not mention `name`.
#[must_use]
pub fn find_in_checksums(text: &str, name: &str) -> Option<Digest> {
    let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let only = lines.clone().count() == 1;
    lines.find_map(|line| {
        let (hex, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let digest = hex.parse().ok()?;
        let listed = rest.trim_start().trim_start_matches('*').trim_start_matches("./");
        let listed = Path::new(listed).file_name().and_then(|n| n.to_str()).unwrap_or("");
        (listed == name || (only && listed.is_empty())).then_some(digest)
    })
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
    }

    #[test]
    fn finds_a_name_in_every_usual_checksum_file() {
        let digest = Some(Digest::of(b""));
        assert_eq!(find_in_checksums(HEX, "a.img"), digest);
        assert_eq!(find_in_checksums(&format!("{HEX}  a.img\n"), "a.img"), digest);
        assert_eq!(find_in_checksums(&format!("{HEX} *./a.img\n"), "a.img"), digest);
        assert_eq!(find_in_checksums(&format!("# sums\n{HEX}  b\n{HEX}  dir/a.img"), "a.img"), digest);
        assert_eq!(find_in_checksums(&format!("{HEX}  b.img"), "a.img"), None);
        assert_eq!(find_in_checksums("<html>", "a.img"), None);
    }
}
