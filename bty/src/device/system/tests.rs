use super::*;
use crate::CancelToken;
use crate::extent::{Buffer, Pool};
use std::path::PathBuf;
use std::process::Command;

/// A loop device over a sparse file, detached when dropped.
pub(crate) struct LoopDisk {
    pub(crate) path: PathBuf,
    pub(crate) backing: PathBuf,
    _dir: tempfile::TempDir,
}

impl LoopDisk {
    /// Attaches a loop device. Without root it panics, so that a skipped test is noticed; with
    /// `BTY_TEST_NO_ROOT` set it returns `None` instead.
    pub(crate) fn new(bytes: u64, sector: u32) -> Option<Self> {
        if std::env::var_os("BTY_TEST_NO_ROOT").is_some() {
            eprintln!("skipped: BTY_TEST_NO_ROOT is set");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let backing = dir.path().join("backing");
        File::create(&backing).unwrap().set_len(bytes).unwrap();
        let output = Command::new("losetup")
            .args(["--find", "--show", "--sector-size", &sector.to_string()])
            .arg(&backing)
            .output()
            .expect("losetup (package mount)");
        assert!(
            output.status.success(),
            "this test needs root and loop devices (BTY_TEST_NO_ROOT=1 skips it): {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let path = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        Some(Self { path, backing, _dir: dir })
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

fn buffer(fill: u8) -> Buffer {
    let mut buffer = Pool::new(1).take(&CancelToken::new()).unwrap();
    buffer.fill(fill);
    buffer
}

fn write_all(device: &SystemDevice, mut bytes: &[u8], mut offset: u64) {
    while !bytes.is_empty() {
        let n = device.write_at(bytes, offset).unwrap();
        assert!(n > 0);
        (bytes, offset) = (&bytes[n..], offset + n as u64);
    }
}

/// Reads through an aligned buffer, as the verifier does.
fn read_all(device: &SystemDevice, len: usize, mut offset: u64) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = buffer(0xee);
    while all.len() < len {
        let want = len - all.len();
        let n = device.read_at(&mut buffer[..want], offset).unwrap();
        assert!(n > 0 && n <= want);
        all.extend_from_slice(&buffer[..n]);
        offset += n as u64;
    }
    all
}

#[test]
fn writes_zeroes_and_reads_back_on_loop_devices() {
    for sector in [512, 4096] {
        let Some(disk) = LoopDisk::new(8 << 20, sector) else { return };
        let device = SystemDevice::open(&disk.path, AccessMode::Exclusive).unwrap();
        assert_eq!((device.size_bytes(), device.sector_bytes()), (8 << 20, sector));
        let step = sector as usize;
        let data = buffer(0xa5);
        write_all(&device, &data[..5 * step], 0);
        device.flush().unwrap();
        device.zero_at(u64::from(sector), 3 * u64::from(sector)).unwrap();
        device.flush().unwrap();
        let mut expected = vec![0xa5; 5 * step];
        expected[step..4 * step].fill(0);
        assert_eq!(read_all(&device, 6 * step, 0), [expected, vec![0; step]].concat());
        let last = (8 << 20) - u64::from(sector);
        write_all(&device, &data[..step], last);
        assert_eq!(read_all(&device, step, last), vec![0xa5; step]);
        let beyond = device.write_at(&data[..2 * step], last).unwrap_err();
        assert_eq!(beyond.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
        // an error, since loop devices are not scanned for partitions, but no panic
        let _ = device.reread_table();
    }
}

#[test]
fn refuses_a_second_writer_of_a_block_device_but_not_a_reader() {
    let Some(disk) = LoopDisk::new(1 << 20, 512) else { return };
    let device = SystemDevice::open(&disk.path, AccessMode::Exclusive).unwrap();
    assert_eq!(
        SystemDevice::open(&disk.path, AccessMode::Exclusive).unwrap_err().kind(),
        ErrorKind::Refused
    );
    let reader = SystemDevice::open(&disk.path, AccessMode::ReadOnly).unwrap();
    write_all(&device, &buffer(7)[..4096], 0);
    assert_eq!(read_all(&reader, 4096, 0), [7; 4096]);
    assert!(reader.write_at(&buffer(8)[..4096], 0).is_err());
    assert!(reader.zero_at(0, 4096).is_err());
    drop(device);
    // a child that another test has just forked holds the device until its exec
    let begun = std::time::Instant::now();
    while let Err(error) = SystemDevice::open(&disk.path, AccessMode::Exclusive) {
        assert!(begun.elapsed().as_secs() < 60, "{error}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn refuses_a_write_protected_block_device() {
    let Some(disk) = LoopDisk::new(1 << 20, 512) else { return };
    let protect = |flag| {
        assert!(Command::new("blockdev").arg(flag).arg(&disk.path).status().unwrap().success());
    };
    protect("--setro");
    let opened = SystemDevice::open(&disk.path, AccessMode::Exclusive);
    // the flag would outlive this loop device and break other tests
    protect("--setrw");
    let error = opened.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(format!("{error:#}").ends_with("is read-only"), "{error}");
}

/// A regular file, opened with direct I/O or without.
fn file_device(len: u64, is_direct: bool) -> (tempfile::TempDir, SystemDevice) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    File::create(&path).unwrap().set_len(len).unwrap();
    let mut device = SystemDevice::open(&path, AccessMode::Exclusive).unwrap();
    if !is_direct {
        device.file = File::options().read(true).write(true).open(&path).unwrap();
        device.is_direct = false;
    }
    (dir, device)
}

#[test]
fn writes_files_of_any_length_at_any_sector() {
    for is_direct in [true, false] {
        for len in [1, 511, 512, 4095, 4096, 4097, 12 * 512, 3 * 4096 + 1] {
            let (_dir, device) = file_device(len, is_direct);
            let data = buffer(0x5a);
            let whole = len / 512 * 512;
            assert_eq!(device.size_bytes(), whole, "a disk has whole sectors");
            write_all(&device, &data[..whole as usize], 0);
            device.flush().unwrap();
            assert_eq!(read_all(&device, whole as usize, 0), vec![0x5a; whole as usize], "{len}");
            assert!(device.write_at(&data[..512], whole).is_err(), "a file does not grow");
            assert_eq!(device.file.metadata().unwrap().len(), len);
        }
        let (_dir, device) = file_device(64 << 10, is_direct);
        let mut expected = vec![0; 64 << 10];
        for (offset, len, fill) in
            [(512, 512, 1), (1536, 8192, 2), (9728, 4096 * 3, 3), (512 * 100, 4608, 4)]
        {
            write_all(&device, &buffer(fill)[..len], offset as u64);
            expected[offset..offset + len].fill(fill);
        }
        device.zero_at(2048, 5120).unwrap();
        expected[2048..2048 + 5120].fill(0);
        assert_eq!(read_all(&device, 64 << 10, 0), expected);
    }
}

#[test]
fn refuses_a_file_that_another_flash_has_locked() {
    let (dir, device) = file_device(4096, true);
    let error = SystemDevice::open(&dir.path().join("disk"), AccessMode::Exclusive).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(format!("{error:#}").ends_with("is in use by another process"), "{error}");
    assert!(SystemDevice::open(&dir.path().join("disk"), AccessMode::ReadOnly).is_ok());
    drop(device);
    assert!(SystemDevice::open(&dir.path().join("disk"), AccessMode::Exclusive).is_ok());
}

#[test]
fn refuses_what_is_neither_disk_nor_file() {
    let error = SystemDevice::open(Path::new("/dev/null"), AccessMode::Exclusive).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    let missing =
        SystemDevice::open(Path::new("/dev/no-such-disk"), AccessMode::Exclusive).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Target);
}

#[test]
fn remembers_that_a_device_cannot_make_zeros() {
    let (_dir, mut device) = file_device(4096, true);
    device.lacks_zeroing = AtomicBool::new(true);
    assert_eq!(device.zero_at(0, 512).unwrap_err().kind(), io::ErrorKind::Unsupported);
}
