//! A machine that was flashed before is flashed again, over the network, and fetches only what its
//! disk does not hold.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bty_tests::eventually;
use bty_tests::media::MARKER;
use bty_tests::qemu::{Bus, Firmware, Hardware};
use serde_json::json;

use super::lab::{Lab, PATIENCE, SERIAL};

/// Waits until the cache host has packed the image, which it does by itself.
fn wait_until_packed(lab: &Lab) {
    eventually(PATIENCE, "the image is packed", || {
        let catalog = lab.rack.ns.run(|| lab.rack.web.get("/catalog.toml").expect(200).text());
        catalog.contains("index_sha256").then_some(())
    });
}

/// Changes what a system in use changes: some blocks of its files.
fn use_disk(disk: &Path) {
    let disk = File::options().write(true).open(disk).unwrap();
    for n in 0..20 {
        disk.write_all_at(&[0x5A; 4096], (8 << 20) + n * 40_960).unwrap();
    }
}

fn starts_with_zeros(disk: &Path) -> bool {
    let mut sector = [1; 512];
    File::open(disk).unwrap().read_exact_at(&mut sector, 0).unwrap();
    sector == [0; 512]
}

#[test]
#[ignore = "starts machines: make test-chain"]
fn a_used_disk_is_flashed_by_delta_after_its_power_was_cut_twice() {
    let lab = Lab::with_digest("BIOS, UEFI");
    let disk = lab.disk();
    lab.bind("bty-flash-once", SERIAL);
    let hardware = || lab.hardware(Firmware::Bios).disk(Bus::Nvme, &disk, SERIAL);
    let mut machine = lab.boot_kernel(hardware());
    lab.is_flashed_once(&mut machine, &disk);
    drop(machine);
    wait_until_packed(&lab);
    use_disk(&disk);
    lab.bind_with("bty-flash-once", SERIAL, &json!({ "delta": "always" }));
    for _ in 0..2 {
        let slow = lab.hardware(Firmware::Bios).slow_disk(Bus::Nvme, &disk, SERIAL, 1 << 20);
        let mut machine = lab.boot_kernel(slow);
        machine.wait(PATIENCE, "the wipe", |_| starts_with_zeros(&disk));
        drop(machine);
        assert!(!lab.is_flashed(&disk), "it was not the middle any more");
    }
    let mut machine = lab.boot_kernel(hardware());
    lab.wait_for(&mut machine, "machine.flashed", 2);
    drop(machine);
    assert!(lab.is_flashed(&disk), "the disk is the image");
    let machine = lab.machine();
    let delta = &machine["last_flashed_delta"];
    assert!(delta["kept_bytes"].as_u64() > delta["fetched_bytes"].as_u64(), "{delta}");
    let mut system = lab.power_on(Hardware::new(Firmware::Bios).disk(Bus::Nvme, &disk, SERIAL));
    system.wait(PATIENCE, "the flashed system", |said| said.contains(MARKER));
}
