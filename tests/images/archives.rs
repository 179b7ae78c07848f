//! Images from pipes, and images in archives that real programs created.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use bty_tests::command::{Outcome, bty, bty_command, tool};
use bty_tests::images::{filter, gpt_image, write};

const MIB: usize = 1 << 20;

/// Runs a shell command in which `$BTY` is the `bty` command.
fn shell(dir: &Path, script: &str) -> Outcome {
    let mut command = std::process::Command::new("bash");
    command
        .args(["-c", script])
        .current_dir(dir)
        .env("BTY", bty_tests::command::bty_path())
        .env("NO_COLOR", "1");
    command.stdin(Stdio::null()).output().unwrap().into()
}

#[test]
fn an_image_comes_through_stdin_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let disk = gpt_image(8 * MIB, 512);
    write(dir.path(), "a.img", &disk);
    write(dir.path(), "a.img.gz", &filter(&["gzip", "-1c"], &disk));
    write(dir.path(), "a.img.xz", &filter(&["xz", "-0c"], &disk));
    write(dir.path(), "a.img.bz2", &filter(&["bzip2", "-1c"], &disk));
    write(dir.path(), "a.img.zst", &filter(&["zstd", "-qc"], &disk));
    write(dir.path(), "a.img.lz4", &filter(&["lz4", "-qc"], &disk));
    tool(&[
        "qemu-img",
        "convert",
        "-O",
        "qcow2",
        dir.path().join("a.img").to_str().unwrap(),
        dir.path().join("a.qcow2").to_str().unwrap(),
    ]);
    for name in ["a.img", "a.img.gz", "a.img.xz", "a.img.bz2", "a.img.zst", "a.img.lz4", "a.qcow2"]
    {
        write(dir.path(), "disk", &vec![0xa5; 9 * MIB]);
        let outcome =
            shell(dir.path(), &format!("cat {name} | $BTY flash - disk --yes --spool-dir ."))
                .expect(0);
        assert!(outcome.stderr.contains("stdin"), "{}", outcome.stderr);
        assert_eq!(
            outcome.stderr.contains("spool directory"),
            name == "a.qcow2",
            "{name}: {}",
            outcome.stderr
        );
        assert!(fs::read(dir.path().join("disk")).unwrap().starts_with(&disk), "{name}");
    }
    // opened by the shell as stdin, and as a file with a size
    for script in ["$BTY flash <(cat a.img.gz) disk --yes", "$BTY flash - disk --yes <a.img"] {
        write(dir.path(), "disk", &vec![0xa5; 9 * MIB]);
        let _ = shell(dir.path(), script).expect(0);
        assert!(fs::read(dir.path().join("disk")).unwrap().starts_with(&disk), "{script}");
    }
}

#[test]
fn a_file_is_created_from_stdin_as_large_as_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let disk = gpt_image(8 * MIB, 512);
    write(dir.path(), "a.img.gz", &filter(&["gzip", "-1c"], &disk));
    for script in [
        "gzip -dc a.img.gz | $BTY flash - new --create --yes",
        "cat a.img.gz | $BTY flash - new --create --yes",
    ] {
        let outcome = shell(dir.path(), script).expect(0);
        assert!(outcome.stderr.contains("copying it to the spool directory"), "{}", outcome.stderr);
        assert!(fs::read(dir.path().join("new")).unwrap() == disk, "{script}");
        fs::remove_file(dir.path().join("new")).unwrap();
    }
}

#[test]
fn stdin_that_is_cut_or_of_another_digest_leaves_nothing_that_boots() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.img.gz", &filter(&["gzip", "-1c"], &gpt_image(8 * MIB, 512)));
    let wrong = "0".repeat(64);
    for (code, script) in [
        (4, "head -c 500000 a.img.gz | $BTY flash - disk --yes".to_owned()),
        (5, format!("cat a.img.gz | $BTY flash - disk --yes --sha256 {wrong}")),
    ] {
        write(dir.path(), "disk", &vec![0xa5; 9 * MIB]);
        let _ = shell(dir.path(), &script).expect(code);
        assert_eq!(fs::read(dir.path().join("disk")).unwrap()[..MIB], vec![0; MIB]);
    }
    let _ = shell(dir.path(), "$BTY image - </dev/null").expect(4);
}

#[test]
fn a_terminal_is_no_image() {
    let outcome = bty_tests::command::bty_on_terminal(&["image", "-"], "", &[]);
    assert_eq!(outcome.code, 2, "{}", outcome.stdout);
    assert!(outcome.stdout.contains("stdin is a terminal"), "{}", outcome.stdout);
}

#[test]
fn a_pipe_is_left_alone_when_cancelled() {
    let mut child = bty_command(&["image", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    // waiting for a child closes its stdin
    let _writer = child.stdin.take();
    std::thread::sleep(std::time::Duration::from_millis(500));
    tool(&["kill", "-INT", &child.id().to_string()]);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn the_image_in_an_archive_is_flashed_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let disk = gpt_image(8 * MIB, 512);
    write(dir.path(), "disk.img", &disk);
    write(dir.path(), "README", b"read me");
    let make = "
        zip -q a.zip README disk.img
        tar -cf a.tar README disk.img
        tar -czf a.tar.gz README disk.img
        tar -cJf a.tar.xz README disk.img
        tar --zstd -cf a.tar.zst README disk.img
        tar -cjf a.tar.bz2 README disk.img
        tar --format=oldgnu -Sczf sparse.tar.gz disk.img
        tar --format=posix -czf posix.tar.gz disk.img
        tar --format=v7 -czf v7.tar.gz disk.img
        gzip -1k disk.img && zip -q0 packed.zip disk.img.gz && tar -cf packed.tar disk.img.gz";
    let _ = shell(dir.path(), make).expect(0);
    let archives = [
        "a.zip",
        "a.tar",
        "a.tar.gz",
        "a.tar.xz",
        "a.tar.zst",
        "a.tar.bz2",
        "sparse.tar.gz",
        "posix.tar.gz",
        "v7.tar.gz",
        "packed.zip",
        "packed.tar",
    ];
    for name in archives {
        write(dir.path(), "disk", &vec![0xa5; 9 * MIB]);
        let digest = shell(dir.path(), &format!("sha256sum <{name}")).stdout[..64].to_owned();
        let script =
            format!("$BTY flash {name} disk --yes --sha256 {digest} && $BTY verify {name} disk");
        let outcome = shell(dir.path(), &script).expect(0);
        assert!(outcome.stderr.contains("the digest matches"), "{name}: {}", outcome.stderr);
        assert!(fs::read(dir.path().join("disk")).unwrap().starts_with(&disk), "{name}");
    }
    for name in ["a.zip", "a.tar.gz", "packed.tar"] {
        write(dir.path(), "disk", &vec![0xa5; 9 * MIB]);
        let _ = shell(dir.path(), &format!("cat {name} | $BTY flash - disk --yes --spool-dir ."))
            .expect(0);
        assert!(
            fs::read(dir.path().join("disk")).unwrap().starts_with(&disk),
            "{name} through stdin"
        );
    }
}

#[test]
fn one_of_several_images_in_an_archive_is_chosen_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (gpt_image(7 * MIB, 512), gpt_image(8 * MIB, 512));
    write(dir.path(), "one.img", &one);
    write(dir.path(), "two.img", &two);
    let _ = shell(dir.path(), "zip -q a.zip one.img two.img && tar -czf a.tar.gz one.img two.img")
        .expect(0);
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for archive in ["a.zip", "a.tar.gz"] {
        let refused = bty(&["image", &path(archive)]).expect(2);
        assert!(
            refused.stderr.contains("choose one with ARCHIVE#NAME: one.img, two.img"),
            "{}",
            refused.stderr
        );
        let disk = write(dir.path(), "disk", &vec![0xa5; 9 * MIB]);
        let _ =
            bty(&["flash", &path(&format!("{archive}#two.img")), disk.to_str().unwrap(), "--yes"])
                .expect(0);
        assert!(fs::read(&disk).unwrap().starts_with(&two));
    }
    let refused = bty(&["image", &path("one.img#x")]).expect(2);
    assert!(refused.stderr.contains("is not an archive"), "{}", refused.stderr);
}

#[test]
fn a_trailer_behind_gzip_is_left_out_when_it_is_known_or_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let disk = gpt_image(8 * MIB, 512);
    let record = |data: &[u8]| {
        let size = u32::try_from(data.len() + 16).unwrap().to_be_bytes();
        [data, b"FWx0\x01\x02\x03\x04\x01\0\0\0", &size].concat()
    };
    let packed = filter(&["gzip", "-1c"], &disk);
    let metadata = record(b"\0\0\0\0{ \"metadata_version\": \"1.1\" }\n");
    write(
        dir.path(),
        "openwrt.img.gz",
        &[&packed[..], &metadata, &record(b"# certificate")].concat(),
    );
    write(dir.path(), "odd.img.gz", &[&packed[..], b"whatever this is"].concat());
    for (name, options, note) in [
        ("openwrt.img.gz", "", "firmware metadata of OpenWrt"),
        ("odd.img.gz", "--ignore-trailing", "ignored 16 bytes after the gzip data"),
    ] {
        write(dir.path(), "disk", &vec![0xa5; 9 * MIB]);
        let digest = shell(dir.path(), &format!("sha256sum <{name}")).stdout[..64].to_owned();
        let script = format!("$BTY flash {name} disk --yes {options} --sha256 {digest}");
        let outcome = shell(dir.path(), &script).expect(0);
        assert!(outcome.stderr.contains(note), "{}", outcome.stderr);
        assert!(fs::read(dir.path().join("disk")).unwrap().starts_with(&disk), "{name}");
        let _ = shell(dir.path(), &format!("$BTY verify {name} disk {options}")).expect(0);
    }
    let refused = shell(dir.path(), "$BTY flash odd.img.gz disk --yes").expect(4);
    assert!(refused.stderr.contains("--ignore-trailing"), "{}", refused.stderr);
    for tool in ["xz -0", "zstd -q", "lz4 -q", "bzip2 -1"] {
        write(dir.path(), "disk", &vec![0xa5; 9 * MIB]);
        let _ = shell(
            dir.path(),
            &format!("gzip -dcq openwrt.img.gz 2>/dev/null | {tool} >a; echo trailing >>a"),
        )
        .expect(0);
        let _ = shell(dir.path(), "$BTY flash a disk --yes").expect(4);
        let _ = shell(dir.path(), "$BTY flash a disk --yes --ignore-trailing").expect(0);
        assert!(fs::read(dir.path().join("disk")).unwrap().starts_with(&disk), "{tool}");
    }
}

#[test]
fn an_image_fits_a_smaller_disk_when_only_zeros_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    // the partition ends before 6 MiB
    let mut disk = gpt_image(24 * MIB, 512);
    let backup = disk[23 * MIB..].to_vec();
    disk[6 * MIB..].fill(0);
    disk[23 * MIB..].copy_from_slice(&backup);
    write(dir.path(), "a.img", &disk);
    write(dir.path(), "a.img.gz", &filter(&["gzip", "-1c"], &disk));
    disk[20 * MIB] = 1;
    write(dir.path(), "data.img", &disk);
    write(dir.path(), "data.img.gz", &filter(&["gzip", "-1c"], &disk));
    for name in ["a.img", "a.img.gz"] {
        write(dir.path(), "disk", &vec![0xa5; 8 * MIB]);
        if name == "a.img" {
            let refused = shell(dir.path(), "$BTY flash a.img disk --yes").expect(3);
            assert!(refused.stderr.contains("--fit does so"), "{}", refused.stderr);
        }
        let _ = shell(dir.path(), &format!("$BTY flash {name} disk --yes --fit")).expect(0);
        let content = fs::read(dir.path().join("disk")).unwrap();
        assert!(content[MIB..6 * MIB] == disk[MIB..6 * MIB], "{name}");
        let table = tool(&["sgdisk", "--verify", dir.path().join("disk").to_str().unwrap()]);
        assert!(table.contains("No problems found"), "{name}: {table}");
    }
    write(dir.path(), "disk", &vec![0xa5; 8 * MIB]);
    let refused = shell(dir.path(), "$BTY flash data.img disk --yes --fit").expect(3);
    assert!(refused.stderr.contains("has data at offset 20971520"), "{}", refused.stderr);
    assert!(
        fs::read(dir.path().join("disk")).unwrap() == vec![0xa5; 8 * MIB],
        "it was refused before anything was written"
    );
    let _ = shell(dir.path(), "$BTY flash data.img.gz disk --yes --fit").expect(6);
    assert_eq!(fs::read(dir.path().join("disk")).unwrap()[..MIB], vec![0; MIB]);
    write(dir.path(), "tiny", &vec![0xa5; 5 * MIB]);
    let _ = shell(dir.path(), "$BTY flash a.img tiny --yes --fit").expect(3);
}
