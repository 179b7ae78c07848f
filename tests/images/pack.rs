//! `bty pack`: packed images, as bty and other programs read them.

use std::fs;
use std::path::Path;

use bty_tests::command::{bty, tool};
use bty_tests::images::{disk_image, gpt_image, write};
use bty_tests::server::{Reply, Server};

const MIB: usize = 1 << 20;

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn images_of_every_format_pack_to_the_same_file_that_zstd_reads() {
    let dir = tempfile::tempdir().unwrap();
    let content = gpt_image(24 * MIB, 512);
    let raw = write(dir.path(), "a.img", &content);
    let qcow2 = dir.path().join("a.qcow2");
    tool(&["qemu-img", "convert", "-c", "-O", "qcow2", &text(&raw), &text(&qcow2)]);
    tool(&["xz", "-k", "-0", &text(&raw)]);
    let mut packed: Option<Vec<u8>> = None;
    for name in ["a.img", "a.qcow2", "a.img.xz"] {
        let out = dir.path().join(format!("{name}.packed.img.zst"));
        let source = text(&dir.path().join(name));
        let report = bty(&["pack", &source, "-o", &text(&out), "--json"]).expect(0).last();
        assert_eq!(report["disk_bytes"], 24 * MIB, "{name}");
        tool(&["zstd", "-tq", &text(&out)]);
        let bytes = fs::read(&out).unwrap();
        assert_eq!(report["file_bytes"], bytes.len(), "{name}");
        assert!(packed.get_or_insert_with(|| bytes.clone()) == &bytes, "{name} packs differently");
    }
    let out = text(&dir.path().join("a.img.packed.img.zst"));
    tool(&["zstd", "-qd", &out, "-o", &text(&dir.path().join("b.img"))]);
    assert!(fs::read(dir.path().join("b.img")).unwrap() == content);
    let check = format!("cd {} && sha256sum --quiet -c *.sha256", dir.path().display());
    tool(&["sh", "-c", &check]);
}

#[test]
fn a_packed_image_is_recognized_checked_and_flashed() {
    let dir = tempfile::tempdir().unwrap();
    let content = disk_image(9 * MIB + 512);
    let raw = write(dir.path(), "a.img", &content);
    let out = text(&dir.path().join("a.img.zst"));
    let packing = bty(&["pack", &text(&raw), "-o", &out, "--frame", "32K", "--level", "1"]);
    let packing = packing.expect(0);
    let info = bty(&["image", &out, "--json"]).expect(0).last();
    let index = info["pack_index_sha256"].as_str().unwrap().to_owned();
    assert!(packing.stderr.contains(&index), "{}", packing.stderr);
    assert_eq!(info["disk_bytes"], content.len());
    let checked = bty(&["verify", "--packed", &out, "--json"]).expect(0).last();
    assert_eq!(checked["index_sha256"], index);
    let disk = write(dir.path(), "disk", &vec![0xa5; 10 * MIB]);
    let _ = bty(&["flash", &out, &text(&disk), "--yes"]).expect(0);
    assert!(fs::read(&disk).unwrap()[..content.len()] == content);
}

#[test]
fn a_packed_image_is_flashed_from_a_web_server() {
    let dir = tempfile::tempdir().unwrap();
    let content = disk_image(5 * MIB);
    let raw = write(dir.path(), "a.img", &content);
    let out = dir.path().join("a.img.zst");
    let _ = bty(&["pack", &text(&raw), "-o", &text(&out)]).expect(0);
    let bytes = fs::read(&out).unwrap();
    let server = Server::start(move |request| Reply::file(request, &bytes, "\"v1\""));
    let url = server.url("/a.img.zst");
    let disk = write(dir.path(), "disk", &vec![0xa5; 5 * MIB]);
    let _ = bty(&["flash", &url, &text(&disk), "--yes"]).expect(0);
    assert!(fs::read(&disk).unwrap() == content);
    let _ = bty(&["verify", "--packed", &url]).expect(0);
}

#[test]
fn a_damaged_frame_is_found_before_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let raw = write(dir.path(), "a.img", &disk_image(5 * MIB));
    let out = dir.path().join("a.img.zst");
    let _ = bty(&["pack", &text(&raw), "-o", &text(&out)]).expect(0);
    fs::remove_file(dir.path().join("a.img.zst.sha256")).unwrap();
    let mut bytes = fs::read(&out).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&out, bytes).unwrap();
    let check = bty(&["verify", "--packed", &text(&out)]).expect(5);
    assert!(check.stderr.contains("differs from the index"), "{}", check.stderr);
    let disk = write(dir.path(), "disk", &vec![0xa5; 5 * MIB]);
    let flash = bty(&["flash", &text(&out), &text(&disk), "--yes"]).expect(5);
    assert!(flash.stderr.contains("differs from the index"), "{}", flash.stderr);
    assert_ne!(fs::read(&disk).unwrap()[510..512], [0x55, 0xaa], "it does not boot");
}

#[test]
fn what_cannot_be_packed_is_refused_with_a_next_step() {
    let dir = tempfile::tempdir().unwrap();
    let raw = text(&write(dir.path(), "a.img", &disk_image(MIB)));
    let out = text(&dir.path().join("a.img.zst"));
    let name = bty(&["pack", &raw, "-o", &text(&dir.path().join("b.img"))]).expect(3);
    assert!(name.stderr.contains("end the name in .img.zst"), "{}", name.stderr);
    let frame = bty(&["pack", &raw, "-o", &out, "--frame", "5000"]).expect(2);
    assert!(frame.stderr.contains("power of two"), "{}", frame.stderr);
    let plain = bty(&["verify", "--packed", &raw]).expect(4);
    assert!(plain.stderr.contains("is not a packed image"), "{}", plain.stderr);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
