use super::*;

fn refusal(head: &[u8], inside: Option<Compression>) -> String {
    let error = refuse(head, inside, false, &Location::Stdin).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format);
    format!("{error} | {}", error.next_step().unwrap())
}

/// A header as `tar --format=v7` writes it, for a member of 4 KiB.
fn old_tar() -> Vec<u8> {
    let mut header = vec![0; 4096];
    header[..5].copy_from_slice(b"d.img");
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(b"00000010000\0");
    header[136..148].copy_from_slice(b"14000000000\0");
    // GNU tar writes zeros as the device numbers
    header[329..336].copy_from_slice(b"0000000");
    header[337..344].copy_from_slice(b"0000000");
    let sum: u32 = header[..512].iter().map(|&b| u32::from(b)).sum::<u32>() + 8 * 32;
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[test]
fn a_refusal_names_the_format_and_has_a_hint() {
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    let said = refusal(&tar, Some(Compression::Gzip));
    assert_eq!(
        said,
        "this is a tar archive inside gzip, not a disk image | unpack it (tar -xf) and flash \
         the image inside"
    );
    assert!(refusal(b"  <!DOCTYPE html>", None).contains("web page"));
    assert!(refusal(&[0x1f, 0x8b, 8], Some(Compression::Zstd)).contains("gzip data inside zstd"));
    assert!(
        refusal(&old_tar(), Some(Compression::Gzip))
            .starts_with("this is a tar archive inside gzip")
    );
    // as the tools write them
    assert!(refusal(b"\x1f\x9d\x90\x41\x82", None).contains("compress"));
    assert!(refusal(b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0", None).contains("lzma"));
    assert!(refusal(b"\x5d\0\0\0\x04\0\0\x01\0\0\0\0\0\0", None).contains("lzma"));
}

#[test]
fn every_magic_has_a_description_and_a_hint() {
    for (offset, magic, what, way_out) in FOREIGN {
        let mut head = vec![0; 8192];
        head[*offset..offset + magic.len()].copy_from_slice(magic);
        let said = refusal(&head, None);
        assert_eq!(said, format!("this is {what}, not a disk image | {way_out}"));
        assert_eq!(name_of_file(&head).as_ref(), Some(&(*what).to_owned()));
    }
    for (magic, what, _) in FOOTERS {
        let mut footer = [0; FOOTER_BYTES];
        footer[..magic.len()].copy_from_slice(magic);
        assert!(refuse_footer(&footer).unwrap_err().to_string().contains(what));
    }
}

#[test]
fn text_is_named_by_what_it_looks_like() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 325058560\n";
    assert!(refusal(pointer, None).contains("Git LFS pointer"));
    assert!(refusal(b"-----BEGIN PGP SIGNATURE-----\n\niQ\n", None).contains("signature"));
    let list = format!("{}  d.img\n", "0".repeat(64));
    assert!(refusal(list.as_bytes(), None).contains("list of checksums"));
    assert!(
        refusal(
            b"SHA256 (d.img) = 4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393",
            None
        )
        .contains("checksums")
    );
    assert!(
        refusal(b"404: Not Found", None)
            .starts_with("this is text that begins with \"404: Not Found\", not")
    );
    assert!(
        refusal(b"Found. Redirecting to https://x", Some(Compression::Gzip))
            .contains("inside gzip")
    );
    // cut inside a character
    assert!(refusal(&"größer".as_bytes()[..3], None).contains("text"));
    // the message does not repeat a long line as a whole
    assert!(refusal(&[b'a'; 5000], None).len() < 300);
}

#[test]
fn only_the_hint_for_a_remote_file_speaks_of_an_address() {
    let remote = "http://h/d.img".parse().unwrap();
    for text in [&b"404: Not Found"[..], b"<!DOCTYPE html>"] {
        assert!(!refusal(text, None).contains("address"));
        let error = refuse(text, None, false, &remote).unwrap_err();
        assert!(error.next_step().unwrap().contains("address"));
    }
}

#[test]
fn lets_disks_pass() {
    let refuse =
        |head: &[u8], inside, is_recognized| refuse(head, inside, is_recognized, &Location::Stdin);
    assert!(refuse(&[0; 4096], None, false).is_ok());
    assert!(refuse(&[0xeb, 0x63, 0x90], Some(Compression::Xz), false).is_ok());
    let fat = b"\xeb\x58\x90mkfs.fat\0\x02\x01\x20\0";
    assert!(refuse(fat, None, false).is_ok());
    // boot code that happens to look like the header of lzma or of a program
    assert!(refuse(b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0", None, true).is_ok());
    assert!(refuse(b"MZ\x90\0", None, true).is_ok());
    let mut almost = old_tar();
    almost[20] ^= 1;
    assert!(refuse(&almost, None, false).is_ok());
}
