//! What the library refuses when all its features are off. `make features` runs this.

#![cfg(not(any(
    feature = "bzip2",
    feature = "http",
    feature = "lz4",
    feature = "qcow2",
    feature = "xz",
    feature = "zip"
)))]

use bty::image::{Format, OpenOptions};
use bty::{CancelToken, Client, Error, ErrorKind, Image, Result};

fn open(reference: &str) -> Result<Image> {
    Image::open(&Client::default(), reference, &OpenOptions::default(), &CancelToken::new())
}

/// Opens a file that consists of `parts` and some padding.
fn open_file(parts: &[&[u8]]) -> Result<Image> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    std::fs::write(&path, [parts.concat(), vec![0; 4096]].concat()).unwrap();
    open(path.to_str().unwrap())
}

fn assert_names(error: &Error, feature: &str) {
    assert_eq!(error.kind(), ErrorKind::Format, "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("the feature {feature:?} is off")), "{text}");
    let step = error.next_step().unwrap();
    assert!(step.contains(&format!("{feature:?} of the crate bty-core")), "{step}");
}

#[test]
fn an_image_is_refused_with_the_feature_that_reads_it() {
    for (magic, feature) in [
        (&b"\xfd7zXZ\0"[..], "xz"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"QFI\xfb\0\0\0\x03", "qcow2"),
        (b"PK\x03\x04", "zip"),
    ] {
        assert_names(&open_file(&[magic]).err().unwrap(), feature);
    }
}

#[test]
fn an_image_in_an_archive_is_refused_with_the_feature_that_reads_it() {
    let mut header = [0; 512];
    header[..11].copy_from_slice(b"disk.img.xz");
    header[124..135].copy_from_slice(b"00000000100"); // size: 64 bytes
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_names(&open_file(&[&header, b"\xfd7zXZ\0"]).err().unwrap(), "xz");
}

#[test]
fn an_address_is_refused_with_the_feature_that_reaches_it() {
    for (reference, feature) in [
        ("https://images.example/a.img", "http"),
        ("http://user:secret@images.example/a.img", "http"),
        ("oras://registry.example/team/image:1", "oci"),
    ] {
        let error = open(reference).err().unwrap();
        assert_names(&error, feature);
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn zstd_images_are_always_read() {
    let mut disk = vec![0; 1 << 20];
    disk[510..512].copy_from_slice(b"\x55\xaa");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img.zst");
    std::fs::write(&path, zstd::encode_all(&disk[..], 1).unwrap()).unwrap();
    assert_eq!(open(path.to_str().unwrap()).unwrap().info().format, Format::Zstd);
}
