//! Checksum files, as written by `sha256sum`, `sha512sum`, `shasum`, `openssl dgst` and the BSDs.

use std::fmt;

use crate::digest::{Checksums, Sha512};
use crate::{Digest, text};

/// Maximum number of names that an error lists.
const NAMES_MAX: usize = 4;

/// The algorithm of a line that does not name it, by the number of hexadecimal digits.
const BY_DIGITS: [(usize, &str); 6] =
    [(32, "MD5"), (40, "SHA1"), (56, "SHA224"), (64, "SHA256"), (96, "SHA384"), (128, "SHA512")];

/// A parsed checksum file: digests of files by name.
///
/// | written by | line |
/// |---|---|
/// | `sha256sum`, `sha512sum`, `shasum` | `HEX  name`, `HEX *name`; `\HEX …` if escaped |
/// | `sha256sum --tag`, BSD, Fedora, AlmaLinux | `SHA256 (name) = HEX` |
/// | `openssl dgst` | `SHA256(name)= HEX`, `SHA2-256(name)= HEX` |
/// | hand | `HEX` alone, for the file next to it |
///
/// Comments, blank lines, PGP signatures and all other lines are ignored.
#[derive(Clone, Debug, Default)]
pub struct ChecksumList {
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    /// Empty for a bare digest.
    name: String,
    kind: String,
    hex: String,
}

/// The reason why a checksum file has no digest for a file. Displays as the end of a sentence that
/// begins with the name of the checksum file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotListed {
    /// The text is not a checksum file.
    NoList,
    /// The file is not listed.
    Missing,
    /// The file is listed only with unsupported algorithms, such as `MD5` or `SHA1`.
    OtherKind(Vec<String>),
    /// Several files of this name are listed with different digests, and the path does not tell
    /// them apart.
    Ambiguous(Vec<String>),
}

impl NotListed {
    /// What to do next, as an imperative.
    #[must_use]
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::NoList => "give a file that sha256sum or sha512sum wrote, or one in BSD format",
            Self::Missing => "look for the file name of the image in the list",
            Self::OtherKind(_) => {
                "give a list made with SHA-256 or SHA-512, as sha256sum writes it"
            }
            Self::Ambiguous(_) => "copy the digest of the right file from the list, and give that",
        }
    }
}

impl fmt::Display for NotListed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoList => f.write_str("holds no digest"),
            Self::Missing => f.write_str("does not mention the image"),
            Self::OtherKind(kinds) => {
                write!(
                    f,
                    "holds only {} for the image, which is not supported",
                    kinds.join(" and ")
                )
            }
            Self::Ambiguous(names) => {
                let shown = names[..names.len().min(NAMES_MAX)].join(", ");
                let more = names.len().saturating_sub(NAMES_MAX);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                write!(f, "has different digests for files of this name: {shown}{more}")
            }
        }
    }
}

impl std::error::Error for NotListed {}

impl ChecksumList {
    /// Parses the text of a checksum file. Text without any digest yields an empty list.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
        Self {
            lines: lines.filter(|line| !line.starts_with('#')).filter_map(Line::parse).collect(),
        }
    }

    /// Finds the digests of the file at `path`. `directory` is the directory of the checksum file.
    /// Components of both are separated by `/`, and leading components of `path` may be missing.
    ///
    /// If several listed files have the same name, the one whose path relative to `directory`
    /// matches is chosen, else the one with the longest matching suffix of its path.
    ///
    /// # Errors
    /// The reason why there is no digest.
    pub fn find(&self, path: &str, directory: &str) -> Result<Checksums, NotListed> {
        if self.lines.is_empty() {
            return Err(NotListed::NoList);
        }
        let path = components(path);
        let directory = components(directory);
        let ranked =
            self.lines.iter().filter_map(|line| Some((line.rank(&path, &directory)?, line)));
        let ranked: Vec<_> = ranked.collect();
        let best = ranked.iter().map(|(rank, _)| *rank).max();
        let lines: Vec<&Line> =
            ranked.into_iter().filter(|(rank, _)| Some(*rank) == best).map(|(_, l)| l).collect();
        match lines.is_empty() {
            false => merged(&lines),
            true => self.only_bare(),
        }
    }

    /// The digests of the only file in the list, regardless of its name.
    #[must_use]
    pub fn only(&self) -> Option<Checksums> {
        let first = self.lines.first()?;
        let is_one = self.lines.iter().all(|line| line.name == first.name);
        is_one.then(|| merged(&self.lines.iter().collect::<Vec<_>>()).ok()).flatten()
    }

    /// The digest of a list that consists of one bare digest, which is that of the file next to it.
    fn only_bare(&self) -> Result<Checksums, NotListed> {
        match self.lines.as_slice() {
            [line] if line.name.is_empty() => merged(&[line]),
            _ => Err(NotListed::Missing),
        }
    }
}

/// Merges the digests of several lines about the same file.
fn merged(lines: &[&Line]) -> Result<Checksums, NotListed> {
    let mut found = Checksums::default();
    for line in lines {
        let merged = line.checksums().map(|checksums| found.merged(checksums));
        match merged {
            Some(Some(merged)) => found = merged,
            Some(None) => return Err(NotListed::Ambiguous(names(lines))),
            None => {}
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let mut kinds: Vec<String> = lines.iter().map(|line| line.kind.clone()).collect();
    kinds.dedup();
    Err(NotListed::OtherKind(kinds))
}

fn names(lines: &[&Line]) -> Vec<String> {
    let mut names: Vec<String> = lines.iter().map(|line| line.name.clone()).collect();
    names.dedup();
    names
}

/// How well a line matches a path; better matches are greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Only the file names are equal.
    Name,
    /// The listed path, which has this many components, is a suffix of the path.
    Suffix(usize),
    /// The listed path, relative to the directory of the list, is the path.
    Exact,
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        Self::tagged(line).or_else(|| Self::plain(line))
    }

    /// Parses `SHA256 (name) = HEX`. The name may contain parentheses.
    fn tagged(line: &str) -> Option<Self> {
        let (kind, rest) = line.trim_start_matches('\\').split_once('(')?;
        let (name, hex) = rest.rsplit_once('=')?;
        let name = name.trim_end().strip_suffix(')')?;
        let (kind, hex) = (kind.trim(), hex.trim());
        let is_kind = !kind.is_empty()
            && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b"-/_".contains(&b));
        let is_hex = hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let kind = kind.to_ascii_uppercase().replace("SHA2-", "SHA").replace("SHA-", "SHA");
        (is_kind && is_hex).then(|| Self { name: unescaped(line, name), kind, hex: hex.to_owned() })
    }

    /// Parses `HEX  name`, `HEX *name` or `HEX`.
    fn plain(line: &str) -> Option<Self> {
        let bare = line.strip_prefix('\\').unwrap_or(line);
        let (hex, rest) = bare.split_once(char::is_whitespace).unwrap_or((bare, ""));
        let hex =
            hex.strip_prefix("sha256:").or_else(|| hex.strip_prefix("sha512:")).unwrap_or(hex);
        let (_, kind) = BY_DIGITS.iter().find(|(digits, _)| *digits == hex.len())?;
        if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let name = rest.trim_start();
        let name = name.strip_prefix('*').unwrap_or(name);
        Some(Self { name: unescaped(line, name), kind: (*kind).to_owned(), hex: hex.to_owned() })
    }

    /// `None` for an unsupported algorithm.
    fn checksums(&self) -> Option<Checksums> {
        match self.kind.as_str() {
            "SHA256" => {
                Some(Checksums { sha256: Some(self.hex.parse::<Digest>().ok()?), sha512: None })
            }
            "SHA512" => {
                Some(Checksums { sha256: None, sha512: Some(self.hex.parse::<Sha512>().ok()?) })
            }
            _ => None,
        }
    }

    /// How well the line matches `path` in a list that lies in `directory`. `None` when it is about
    /// another file.
    fn rank(&self, path: &[&str], directory: &[&str]) -> Option<Rank> {
        let listed = components(&self.name);
        let matches = |listed: &str, component: &str| {
            listed == component || text::percent_decode(listed) == component.as_bytes()
        };
        if !matches(listed.last()?, path.last()?) {
            return None;
        }
        let is_suffix = listed.len() <= path.len()
            && listed.iter().rev().zip(path.iter().rev()).all(|(l, c)| matches(l, c));
        let is_below_directory =
            path.len() == directory.len() + listed.len() && path.starts_with(directory);
        Some(match is_suffix {
            true if is_below_directory => Rank::Exact,
            true => Rank::Suffix(listed.len()),
            false => Rank::Name,
        })
    }
}

/// Undoes the escaping of `sha256sum`, which escapes backslashes and line ends in names, and marks
/// such a line by a leading backslash.
fn unescaped(line: &str, name: &str) -> String {
    match line.starts_with('\\') {
        true => name.replace("\\n", "\n").replace("\\r", "\r").replace("\\\\", "\\"),
        false => name.to_owned(),
    }
}

fn components(path: &str) -> Vec<&str> {
    path.split('/').filter(|component| !matches!(*component, "" | ".")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find(text: &str, path: &str) -> Result<Checksums, NotListed> {
        ChecksumList::parse(text).find(path, "")
    }

    #[test]
    fn every_notation_is_parsed() {
        let (short, long) = (Digest::of(b"a"), Sha512::of(b"a"));
        let (sha256, sha512) =
            (Checksums::from(short), Checksums { sha256: None, sha512: Some(long) });
        for (text, expected) in [
            (format!("{short}  d.img"), sha256),
            (format!("{short} *./d.img"), sha256),
            (format!("{short}"), sha256),
            (format!("# d.img: 16777216 bytes\nSHA256 (d.img) = {short}\n"), sha256),
            (format!("SHA256(d.img)= {short}"), sha256),
            (format!("SHA2-512(d.img)= {long}"), sha512),
            (format!("sha512:{long}  d.img"), sha512),
            (format!("SHA512 (./d.img) = {}", long.to_string().to_uppercase()), sha512),
            (format!("\u{feff}{short}  d.img\r\n"), sha256),
            (
                format!(
                    "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n\
                     SHA256 (d.img) = {short}\n-----BEGIN PGP SIGNATURE-----\niQIzBAEBCgAd\n"
                ),
                sha256,
            ),
            (
                format!("{short}  d.img\n{long}  d.img"),
                Checksums { sha256: Some(short), sha512: Some(long) },
            ),
        ] {
            assert_eq!(find(&text, "d.img"), Ok(expected), "{text}");
        }
        let bracket = format!("SHA256 (d (copy) = 1.img) = {short}");
        assert_eq!(find(&bracket, "d (copy) = 1.img"), Ok(sha256));
        let escaped = format!("\\{short}  a\\\\b.img");
        assert_eq!(find(&escaped, "a\\b.img"), Ok(sha256));
    }

    #[test]
    fn a_name_that_is_listed_twice_is_resolved_by_its_path_or_refused() {
        let list = format!(
            "{}  ./netboot/gtk/d.img\n{}  ./netboot/plain/d.img\n{}  ./plain/plain/d.img\n",
            Digest::of(b"gtk"),
            Digest::of(b"plain"),
            Digest::of(b"other")
        );
        let sha256 = |path: &str, directory: &str| {
            ChecksumList::parse(&list).find(path, directory).map(|found| found.sha256.unwrap())
        };
        assert_eq!(sha256("netboot/plain/d.img", ""), Ok(Digest::of(b"plain")));
        assert_eq!(sha256("/debian/netboot/plain/d.img", "/debian"), Ok(Digest::of(b"plain")));
        assert_eq!(sha256("/mirror/netboot/gtk/d.img", "/sums"), Ok(Digest::of(b"gtk")));
        let ambiguous = sha256("d.img", "").unwrap_err();
        assert!(
            ambiguous.to_string().contains("./netboot/gtk/d.img, ./netboot/plain/d.img"),
            "{ambiguous}"
        );
        assert!(sha256("/elsewhere/d.img", "").is_err());
    }

    #[test]
    fn a_file_next_to_its_list_is_not_one_in_a_subdirectory() {
        let list =
            format!("{}  d.img\n{}  plain/d.img\n", Digest::of(b"here"), Digest::of(b"below"));
        let find = |path| ChecksumList::parse(&list).find(path, "/x/plain").unwrap().sha256;
        assert_eq!(find("/x/plain/d.img"), Some(Digest::of(b"here")));
        assert_eq!(find("/x/plain/plain/d.img"), Some(Digest::of(b"below")));
    }

    #[test]
    fn names_may_be_percent_encoded_in_the_list() {
        let digest = Digest::of(b"a");
        for listed in ["a%20b%2B.img", "a b+.img", "dir/a%20b+.img"] {
            let found = find(&format!("{digest}  {listed}"), "dir/a b+.img");
            assert_eq!(found, Ok(digest.into()), "{listed}");
        }
        assert_eq!(
            find(&format!("{digest}  x%2B.img\n{digest}  y"), "x%2B.img"),
            Ok(digest.into())
        );
    }

    #[test]
    fn an_unsupported_algorithm_is_named() {
        for (text, kind) in [
            (format!("{}  d.img", &Digest::of(b"").to_string()[..32]), "MD5"),
            (format!("MD5 (d.img) = {}", &Digest::of(b"").to_string()[..32]), "MD5"),
            (format!("{}  d.img", &Digest::of(b"").to_string()[..40]), "SHA1"),
            (format!("SHA3-256 (d.img) = {}", Digest::of(b"")), "SHA3-256"),
            (format!("BLAKE2b (d.img) = {}", Sha512::of(b"")), "BLAKE2B"),
        ] {
            assert_eq!(
                find(&text, "d.img"),
                Err(NotListed::OtherKind(vec![kind.to_owned()])),
                "{text}"
            );
        }
        assert_eq!(find("<html>", "d.img"), Err(NotListed::NoList));
        assert_eq!(find(&format!("{}  other", Digest::of(b"")), "d.img"), Err(NotListed::Missing));
    }

    proptest! {
        #[test]
        fn no_text_panics(
            text in "([0-9a-f]{64}|SHA256|MD5|[ ()=*\\\\./%\n]|é|x){0,16}",
            path in "[a-z/%]{0,8}",
        ) {
            let list = ChecksumList::parse(&text);
            let _ = (list.find(&path, ""), list.only());
        }
    }
}
