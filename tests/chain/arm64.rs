//! Machines with arm64, which QEMU emulates as well. What they are flashed with is for another architecture: it is compared, and not booted.

use std::time::Instant;

use bty_tests::qemu::{Bus, Firmware};

use super::lab::{Lab, SERIAL};
use super::network::one_file;

fn flashes(lab: &Lab, firmware: Firmware) {
    let disk = lab.disk();
    lab.bind("bty-flash-once", SERIAL);
    let begun = Instant::now();
    let mut machine = lab.power_on(lab.hardware(firmware).disk(Bus::Virtio, &disk, SERIAL));
    lab.wait_for(&mut machine, "netboot.pxe.plan", 1);
    let plan = begun.elapsed();
    lab.wait_for(&mut machine, "machine.flashed", 1);
    println!("arm64: plan after {plan:.1?}, flashed after {:.1?}", begun.elapsed());
    drop(machine);
    assert!(lab.is_flashed(&disk), "the disk is the image");
    assert_eq!(lab.machine()["known_disks"][0]["serial"], SERIAL);
}

#[test]
#[ignore = "long: make test-arm64"]
fn by_ipxe() {
    flashes(&Lab::of("BIOS, UEFI", "arm64"), Firmware::Arm);
}

#[test]
#[ignore = "long: make test-arm64"]
fn one_file_by_http_boot() {
    flashes(&one_file("arm64"), Firmware::ArmHttp);
}
