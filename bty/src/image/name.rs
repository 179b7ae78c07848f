//! Derives format and architecture from the name of an image, for lists and catalogs. Whether and
//! how an image is written depends only on its content.

/// Format ids, which are also file name suffixes. The first six are those of existing catalogs.
const FORMATS: &[&str] = &[
    "img.zst", "img.xz", "img.gz", "img.bz2", "qcow2", "img", // in existing catalogs
    "img.lz4", "raw", "raw.zst", "raw.xz", "raw.gz", "raw.bz2", "raw.lz4", "iso", "iso.zst",
    "iso.xz", "iso.gz", "iso.bz2",
];

const TARBALLS: &[&str] =
    &["tar.gz", "tar.xz", "tar.bz2", "tar.zst", "tgz", "txz", "tbz2", "tzst", "tar"];

/// Words in file names, and the architecture that they mean. Longer words come before shorter ones
/// that they contain.
const ARCHITECTURES: &[(&str, &str)] = &[
    ("aarch64", "arm64"),
    ("ppc64le", "ppc64le"),
    ("riscv64", "riscv64"),
    ("armv6l", "armv6"),
    ("armv7l", "arm"),
    ("x86-64", "x86_64"),
    ("x86_64", "x86_64"),
    ("amd64", "x86_64"),
    ("arm64", "arm64"),
    ("armhf", "arm"),
    ("s390x", "s390x"),
    ("i386", "i386"),
    ("i686", "i386"),
];

/// The format id that `name` suggests, such as `img.zst`. Ignores letter case.
///
/// ```
/// assert_eq!(bty::image::name::format("Debian-13.IMG.ZST"), Some("img.zst"));
/// assert_eq!(bty::image::name::format("notes.txt"), None);
/// ```
#[must_use]
pub fn format(name: &str) -> Option<&'static str> {
    suffix_among(name, FORMATS)
}

/// True when `name` is that of a tar archive.
#[must_use]
pub fn is_tarball(name: &str) -> bool {
    suffix_among(name, TARBALLS).is_some()
}

/// The processor architecture that `name` suggests, such as `x86_64` or `arm64`. For display only.
///
/// ```
/// assert_eq!(bty::image::name::architecture("debian-13-amd64.img.zst"), Some("x86_64"));
/// ```
#[must_use]
pub fn architecture(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    ARCHITECTURES.iter().find(|(token, _)| name.contains(token)).map(|(_, arch)| *arch)
}

/// The static string of a format id, or `None` for an unknown one.
pub(super) fn known_format(id: &str) -> Option<&'static str> {
    FORMATS.iter().copied().find(|known| *known == id)
}

/// The static string of an architecture, or `None` for an unknown one.
pub(super) fn known_architecture(name: &str) -> Option<&'static str> {
    ARCHITECTURES.iter().map(|(_, arch)| *arch).find(|arch| *arch == name)
}

/// The one of `suffixes` that `name` ends with, after a dot. Ignores letter case.
fn suffix_among(name: &str, suffixes: &[&'static str]) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    suffixes
        .iter()
        .copied()
        .find(|suffix| name.strip_suffix(suffix).is_some_and(|stem| stem.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_whole_suffix_in_any_case() {
        for (name, expected) in [
            ("a.img.zst", Some("img.zst")),
            ("a.IMG.XZ", Some("img.xz")),
            ("a.img.gz", Some("img.gz")),
            ("a.img.bz2", Some("img.bz2")),
            ("a.qcow2", Some("qcow2")),
            ("a.b.img", Some("img")),
            ("netinst.iso", Some("iso")),
            ("disk.raw.xz", Some("raw.xz")),
            ("a.zst", None),
            ("img", None),
            ("aimg", None),
            ("a.tar.gz", None),
            ("a.img.zst.sha256", None),
            ("", None),
        ] {
            assert_eq!(format(name), expected, "{name:?}");
        }
    }

    #[test]
    fn tarballs_are_distinguished_from_images() {
        for name in
            ["a.tar.gz", "a.tar.xz", "a.tar.bz2", "a.tar.zst", "a.tgz", "a.TXZ", "a.tbz2", "a.tzst"]
        {
            assert!(is_tarball(name), "{name}");
        }
        assert!(!is_tarball("a.img.gz"));
        assert!(!is_tarball("star.gz"));
    }

    #[test]
    fn architectures_are_named_as_catalogs_name_them() {
        for (name, expected) in [
            ("d-x86_64.img", Some("x86_64")),
            ("d-x86-64.img", Some("x86_64")),
            ("D-AMD64.img", Some("x86_64")),
            ("d-aarch64.img", Some("arm64")),
            ("d-arm64.img", Some("arm64")),
            ("d-armhf.img", Some("arm")),
            ("d-armv7l.img", Some("arm")),
            ("d-armv6l.img", Some("armv6")),
            ("d-riscv64.img", Some("riscv64")),
            ("d-ppc64le.img", Some("ppc64le")),
            ("d-s390x.img", Some("s390x")),
            ("d-i686.img", Some("i386")),
            ("d-i386.img", Some("i386")),
            ("nosi headless (x86_64, stable)", Some("x86_64")),
            ("debian.img", None),
        ] {
            assert_eq!(architecture(name), expected, "{name:?}");
        }
    }
}
