//! Every format, created by its usual tools, flashed, and compared with the output of the reference
//! decoder.

use std::path::Path;
use std::process::Command;

use bty::flash::{FlashOptions, FlashPlan, FlashReport};
use bty::image::{Format, OpenOptions};
use bty::testing::{Faults, MemoryHost};
use bty::{CancelToken, Client, DiskHost, ErrorKind, Image, Result};
use bty_tests::command::tool;
use bty_tests::disk::faulty_disk;
use bty_tests::images::{disk_image, filter, gpt_image, write};

const MIB: usize = 1 << 20;

/// Sizes around every boundary: sectors, buffers of decoders, the first MiB, write buffers.
const SIZES: [usize; 16] = [
    1,
    511,
    512,
    513,
    4095,
    4096,
    4097,
    (64 << 10) - 1,
    (64 << 10) + 1,
    MIB - 1,
    MIB,
    MIB + 1,
    4 * MIB - 1,
    4 * MIB,
    4 * MIB + 1,
    5 * MIB + 512,
];

/// Fewer sizes, for formats that are slow to create.
const FEW_SIZES: [usize; 6] = [1, 513, 4097, MIB - 1, MIB + 1, 4 * MIB + 1];

fn open(path: &Path) -> Result<Image> {
    Image::open(
        &Client::default(),
        path.to_str().unwrap(),
        &OpenOptions::default(),
        &CancelToken::new(),
    )
}

/// Flashes to a disk of 512-byte sectors that the image just fills, and to a larger one of
/// 4096-byte sectors; both must hold `expected`.
fn check(path: &Path, format: Format, expected: &[u8]) {
    let what = format!("{} with {} bytes", path.display(), expected.len());
    let image = open(path).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(image.info().format, format, "{what}");
    if let Some(told) = image.info().disk_bytes {
        assert_eq!(told, expected.len() as u64, "{what}: the size that is told");
    }
    let host = MemoryHost::default();
    let just_fits = faulty_disk(expected.len().next_multiple_of(512), 512, Faults::default());
    let larger =
        faulty_disk(expected.len().next_multiple_of(4096) + (3 << 19), 4096, Faults::default());
    host.add("fits", &just_fits);
    host.add("larger", &larger);
    let report = flash(&image, &host).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(report.is_success(), "{what}: {report:?}");
    assert_eq!(report.disk_bytes, expected.len() as u64, "{what}");
    for (disk, sector) in [(just_fits, 512), (larger, 4096)] {
        let content = disk.content();
        assert!(content[..expected.len()] == *expected, "{what}: other bytes, sectors of {sector}");
        let padding = expected.len()..expected.len().next_multiple_of(sector);
        assert!(content[padding].iter().all(|&b| b == 0), "{what}: the padding is not zero");
        assert!(disk.durable() == content, "{what}: not everything was flushed");
    }
}

fn flash(image: &Image, host: &MemoryHost) -> Result<FlashReport> {
    // some images are too small for a boot sector, or only zeros
    let mut options = FlashOptions::default();
    options.raw = true;
    FlashPlan::new(image.info(), host.list().unwrap(), options).execute(
        image,
        host,
        &(),
        &CancelToken::new(),
    )
}

/// Compresses disk images of `sizes`, flashes them, and compares with the output of the decoder
/// `reference`.
fn check_archives(
    sizes: &[usize],
    format: Format,
    make: impl Fn(&[u8]) -> Vec<u8>,
    reference: &[&str],
) {
    let dir = tempfile::tempdir().unwrap();
    for &size in sizes {
        let disk = disk_image(size);
        let archive = make(&disk);
        let expected = filter(reference, &archive);
        assert!(
            expected == disk,
            "the archive is not what it should be: {reference:?} gives other bytes"
        );
        check(&write(dir.path(), "a.img", &archive), format, &expected);
    }
}

/// Compresses both halves separately and concatenates them; an image of one byte has an empty half.
fn halves(disk: &[u8], make: impl Fn(&[u8]) -> Vec<u8>, between: &[u8]) -> Vec<u8> {
    let (first, second) = disk.split_at(disk.len() / 2);
    [make(first), between.to_vec(), make(second)].concat()
}

/// A frame that every decoder of zstd and LZ4 must skip.
fn skippable(number: u8, content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).unwrap().to_le_bytes();
    [&[0x50 + number, 0x2a, 0x4d, 0x18], &len[..], content].concat()
}

#[test]
fn raw() {
    let dir = tempfile::tempdir().unwrap();
    for size in SIZES {
        let disk = disk_image(size);
        check(&write(dir.path(), "a.img", &disk), Format::Raw, &disk);
    }
}

#[test]
fn raw_with_holes() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let mut disk = disk_image(5 * MIB + 512);
    // ends with a hole
    disk.truncate(4 * MIB + 300_000);
    disk.resize(8 * MIB + 1, 0);
    let full = write(dir.path(), "full.img", &disk);
    let sparse = dir.path().join("sparse.img");
    tool(&["cp", "--sparse=always", full.to_str().unwrap(), sparse.to_str().unwrap()]);
    assert!(
        std::fs::metadata(&sparse).unwrap().blocks() * 512 < 4 * MIB as u64,
        "the copy has no holes"
    );
    check(&sparse, Format::Raw, &disk);
    let nothing = dir.path().join("nothing.img");
    std::fs::File::create(&nothing).unwrap().set_len(MIB as u64 + 513).unwrap();
    check(&nothing, Format::Raw, &vec![0; MIB + 513]);
}

#[test]
fn gzip() {
    let gzip = |disk: &[u8]| filter(&["gzip", "-1c"], disk);
    check_archives(&SIZES, Format::Gzip, gzip, &["gzip", "-dc"]);
    check_archives(
        &FEW_SIZES,
        Format::Gzip,
        |disk| filter(&["pigz", "-1c", "-p", "2"], disk),
        &["gzip", "-dc"],
    );
    check_archives(&FEW_SIZES, Format::Gzip, |disk| halves(disk, gzip, &[]), &["gzip", "-dc"]);
}

#[test]
fn xz() {
    let xz = |disk: &[u8]| filter(&["xz", "-0c"], disk);
    let blocks = |disk: &[u8]| filter(&["xz", "-0c", "-T2", "--block-size=256KiB"], disk);
    check_archives(&SIZES, Format::Xz, xz, &["xz", "-dc"]);
    check_archives(&FEW_SIZES, Format::Xz, blocks, &["xz", "-dc"]);
    check_archives(&FEW_SIZES, Format::Xz, |disk| halves(disk, xz, &[]), &["xz", "-dc"]);
    // streams may be padded to four bytes
    check_archives(&[4097], Format::Xz, |disk| halves(disk, xz, &[0; 8]), &["xz", "-dc"]);
}

#[test]
fn bzip2() {
    let bzip2 = |disk: &[u8]| filter(&["bzip2", "-1c"], disk);
    check_archives(&SIZES, Format::Bzip2, bzip2, &["bzip2", "-dc"]);
    check_archives(
        &FEW_SIZES,
        Format::Bzip2,
        |disk| filter(&["lbzip2", "-1c", "-n", "2"], disk),
        &["bzip2", "-dc"],
    );
    check_archives(&FEW_SIZES, Format::Bzip2, |disk| halves(disk, bzip2, &[]), &["bzip2", "-dc"]);
}

#[test]
fn zstd() {
    let reference = ["zstd", "-qdc", "--long=27"];
    let zstd = |disk: &[u8]| filter(&["zstd", "-q1c"], disk);
    check_archives(&SIZES, Format::Zstd, zstd, &reference);
    check_archives(
        &FEW_SIZES,
        Format::Zstd,
        |disk| filter(&["zstd", "-q3c", "--long=27"], disk),
        &reference,
    );
    // concatenated frames that contain their size, with skippable frames before, between and after
    // them
    let frames = |disk: &[u8]| {
        let frames = halves(disk, zstd, &skippable(3, b"between"));
        [skippable(0, b""), frames, skippable(15, &[7; 100_000])].concat()
    };
    check_archives(&FEW_SIZES, Format::Zstd, frames, &reference);
}

#[test]
fn pzstd() {
    let dir = tempfile::tempdir().unwrap();
    for size in FEW_SIZES {
        let disk = disk_image(size);
        let input = write(dir.path(), "disk", &disk);
        let output = dir.path().join("a.img.zst");
        // pzstd chooses the size of its frames only for files, not for pipes
        tool(&[
            "pzstd",
            "-qf1",
            "-p",
            "2",
            input.to_str().unwrap(),
            "-o",
            output.to_str().unwrap(),
        ]);
        let expected = filter(&["zstd", "-qdc"], &std::fs::read(&output).unwrap());
        assert!(expected == disk);
        check(&output, Format::Zstd, &expected);
    }
}

#[test]
fn lz4() {
    let lz4 = |disk: &[u8]| filter(&["lz4", "-q1c"], disk);
    let linked = |disk: &[u8]| filter(&["lz4", "-q1c", "-BD", "-B4"], disk);
    check_archives(&SIZES, Format::Lz4, lz4, &["lz4", "-qdc"]);
    check_archives(&FEW_SIZES, Format::Lz4, linked, &["lz4", "-qdc"]);
    check_archives(
        &FEW_SIZES,
        Format::Lz4,
        |disk| halves(disk, lz4, &skippable(1, b"x")),
        &["lz4", "-qdc"],
    );
}

/// Converts disk images of `sizes` by `qemu-img convert ARGUMENTS`, flashes them, and compares with
/// the image that `qemu-img` converts back.
fn check_qcow2(sizes: &[usize], arguments: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let (packed, back) = (dir.path().join("a.qcow2"), dir.path().join("back"));
    for &size in sizes {
        let raw = write(dir.path(), "disk", &disk_image(size));
        let mut command = vec!["qemu-img", "convert", "-f", "raw", "-O", "qcow2"];
        command.extend(arguments);
        command.extend([raw.to_str().unwrap(), packed.to_str().unwrap()]);
        tool(&command);
        tool(&[
            "qemu-img",
            "convert",
            "-f",
            "qcow2",
            "-O",
            "raw",
            packed.to_str().unwrap(),
            back.to_str().unwrap(),
        ]);
        let expected = std::fs::read(&back).unwrap();
        // qemu-img supports whole sectors only
        assert_eq!(expected.len(), size.next_multiple_of(512));
        check(&packed, Format::Qcow2, &expected);
    }
}

#[test]
fn qcow2() {
    check_qcow2(&SIZES, &["-o", "compat=1.1"]);
    check_qcow2(&FEW_SIZES, &["-o", "compat=0.10"]);
    check_qcow2(&FEW_SIZES, &["-o", "cluster_size=512"]);
    check_qcow2(&FEW_SIZES, &["-o", "cluster_size=2M"]);
}

#[test]
fn qcow2_compressed() {
    check_qcow2(&FEW_SIZES, &["-c"]);
    check_qcow2(&FEW_SIZES, &["-c", "-o", "compression_type=zstd"]);
    check_qcow2(&[4 * MIB + 1], &["-c", "-o", "cluster_size=512"]);
    check_qcow2(&[4 * MIB + 1], &["-c", "-o", "compression_type=zstd,cluster_size=2M"]);
}

#[test]
fn an_image_one_sector_too_large_never_boots_and_is_refused_early_where_its_size_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let disk_bytes = disk_image(3 * MIB + 1);
    let raw = write(dir.path(), "a.img", &disk_bytes);
    let qcow2 = dir.path().join("a.qcow2");
    tool(&[
        "qemu-img",
        "convert",
        "-f",
        "raw",
        "-O",
        "qcow2",
        raw.to_str().unwrap(),
        qcow2.to_str().unwrap(),
    ]);
    let pack = |command: &[&str]| write(dir.path(), command[0], &filter(command, &disk_bytes));
    let zst = dir.path().join("sized.zst");
    tool(&["zstd", "-q", raw.to_str().unwrap(), "-o", zst.to_str().unwrap()]);
    for (path, is_size_known) in [
        (raw, true),
        (qcow2, true),
        (zst, true),
        (pack(&["xz", "-0c"]), true),
        (pack(&["gzip", "-1c"]), false),
        (pack(&["bzip2", "-1c"]), false),
        (pack(&["lz4", "-q1c"]), false),
        (pack(&["pigz", "-1c"]), false),
    ] {
        for sector in [512, 4096] {
            let image = open(&path).unwrap();
            let what = format!("{}, sectors of {sector}", path.display());
            // one sector less than the padded image
            let size = disk_bytes.len().next_multiple_of(sector as usize) - sector as usize;
            let disk = faulty_disk(size, sector, Faults::default());
            let old = disk.content();
            let result = flash(&image, &MemoryHost::with(&disk));
            if is_size_known {
                let error = result.expect_err(&what);
                assert_eq!(error.kind(), ErrorKind::Refused, "{what}: {error}");
                assert!(format!("{error:#}").contains("use a larger disk"), "{error}");
                assert!(disk.content() == old, "{what}: something was written");
                continue;
            }
            let failure = result.unwrap().targets[0].failure.clone().expect(&what);
            assert_eq!(failure.kind, ErrorKind::Target, "{what}: {failure:?}");
            assert!(disk.content()[..MIB].iter().all(|&b| b == 0), "{what}: it may boot");
        }
    }
}

/// Returns `message | hint` of the error for opening `path`.
fn refusal(path: &Path) -> String {
    match open(path) {
        Ok(image) => format!("opened as {}", image.info().format),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Format, "{error}");
            format!("{error:#} | {}", error.next_step().unwrap_or("NO NEXT STEP"))
        }
    }
}

#[test]
fn what_is_no_disk_image_is_refused_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let disk = disk_image(300_000);
    write(dir.path(), "disk.img", &disk);
    let here = dir.path().to_str().unwrap();
    for format in ["vmdk", "vhdx", "vdi", "vpc"] {
        tool(&[
            "qemu-img",
            "convert",
            "-O",
            format,
            at("disk.img").to_str().unwrap(),
            at(format).to_str().unwrap(),
        ]);
    }
    tool(&[
        "qemu-img",
        "convert",
        "-O",
        "qcow2",
        at("disk.img").to_str().unwrap(),
        at("a.qcow2").to_str().unwrap(),
    ]);
    // qemu-img times the key derivation, and fails if the CPU time of the process has not advanced
    let create = |arguments: &[&str]| {
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q"]).args(arguments).current_dir(here);
        assert!((0..50).any(|_| command.status().unwrap().success()), "{command:?}");
    };
    create(&["-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", "backed.qcow2"]);
    let secret = ["--object", "secret,id=s,data=abc", "-f", "qcow2"];
    create(
        &[
            &secret[..],
            &[
                "-o",
                "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
                "luks.qcow2",
                "1M",
            ],
        ]
        .concat(),
    );
    create(&["-f", "qcow2", "-o", "data_file=outside.raw", "outside.qcow2", "1M"]);
    let twice = filter(&["gzip", "-1c"], &filter(&["xz", "-0c"], &disk));
    write(dir.path(), "twice.img.gz", &twice);
    write(
        dir.path(),
        "a.qcow2.gz",
        &filter(&["gzip", "-1c"], &std::fs::read(at("a.qcow2")).unwrap()),
    );
    write(dir.path(), "a.zip", &[b"PK\x03\x04\x14\0\0\0\x08\0", &disk[..]].concat());
    write(dir.path(), "a.7z", &[b"7z\xbc\xaf\x27\x1c\0\x04", &disk[..]].concat());
    write(dir.path(), "login.img", b"\n<!DOCTYPE html>\n<html><body>Please log in</body></html>\n");
    write(dir.path(), "empty.img", b"");
    let names = [
        "a.zip",
        "a.7z",
        "vmdk",
        "vhdx",
        "vdi",
        "vpc",
        "twice.img.gz",
        "a.qcow2.gz",
        "login.img",
        "empty.img",
        "backed.qcow2",
        "luks.qcow2",
        "outside.qcow2",
    ];
    let refusals: Vec<String> =
        names.iter().map(|name| refusal(&at(name)).replace(here, "DIR")).collect();
    insta::assert_snapshot!(refusals.join("\n"), @r"
    examining DIR/a.zip: looking into a zip archive: the archive is damaged: its directory cannot be read: invalid Zip archive: Could not find EOCD | fetch it again, and compare its SHA-256 with the publisher's
    examining DIR/a.7z: this is a 7z archive, not a disk image | unpack it (7z x) and flash the image inside
    examining DIR/vmdk: this is a VMware disk (vmdk), not a disk image | convert it: qemu-img convert -O qcow2 IN OUT
    examining DIR/vhdx: this is a Hyper-V disk (vhdx), not a disk image | convert it: qemu-img convert -O qcow2 IN OUT
    examining DIR/vdi: this is a VirtualBox disk (vdi), not a disk image | convert it: qemu-img convert -O qcow2 IN OUT
    examining DIR/vpc: this is a Virtual PC disk (vhd), not a disk image | convert it: qemu-img convert -f vpc -O qcow2 IN OUT
    examining DIR/twice.img.gz: this is xz data inside gzip, not a disk image | it was compressed twice: decompress it once, then flash it
    examining DIR/a.qcow2.gz: this is a qcow2 image inside gzip, not a disk image | decompress it first; qcow2 has compression of its own (qemu-img convert -c)
    examining DIR/login.img: this is a web page or other text, not a disk image | the download may have failed: look at the file, and fetch it again
    examining DIR/empty.img: the file is empty | fetch it again
    examining DIR/backed.qcow2: opening DIR/backed.qcow2: the image needs a backing file | flatten it first: qemu-img convert -O qcow2 IMAGE FLAT.qcow2
    examining DIR/luks.qcow2: opening DIR/luks.qcow2: the image is encrypted | decrypt it first: qemu-img convert with the secret, to an image without encryption
    examining DIR/outside.qcow2: opening DIR/outside.qcow2: the image keeps its data in another file | join them first: qemu-img convert -O qcow2 IMAGE WHOLE.qcow2
    ");
}

#[test]
fn an_image_made_for_another_sector_size_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut said = Vec::new();
    for (image_sector, disk_sector) in [(512, 4096), (4096, 512), (512, 512), (4096, 4096)] {
        let bytes = gpt_image(8 << 20, image_sector);
        let archive = write(dir.path(), "a.img.zst", &filter(&["zstd", "-qc"], &bytes));
        let image = open(&archive).unwrap();
        assert_eq!(image.info().sector_bytes, Some(image_sector));
        assert_eq!(image.info().partitions[0].start_bytes, MIB as u64);
        let disk = faulty_disk(bytes.len(), disk_sector, Faults::default());
        let host = MemoryHost::with(&disk);
        if image_sector == disk_sector {
            assert!(flash(&image, &host).unwrap().is_success());
            assert!(disk.content() == bytes);
            continue;
        }
        let refusals =
            FlashPlan::new(image.info(), host.list().unwrap(), FlashOptions::default()).validate();
        assert_eq!(refusals.iter().map(|r| r.reason.as_str()).collect::<Vec<_>>(), ["sector_size"]);
        said.push(refusals[0].to_string());
        assert_eq!(flash(&image, &host).unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(disk.log(), [], "something was written");
    }
    insta::assert_snapshot!(said.join("\n"), @r"
    /dev/mem0: the partition table of the image counts in sectors of 512 bytes, but the disk has sectors of 4096, so no partition would be found (use an image made for 4096-byte sectors)
    /dev/mem0: the partition table of the image counts in sectors of 4096 bytes, but the disk has sectors of 512, so no partition would be found (use an image made for 512-byte sectors)
    ");
}
