//! arm64 machines. Their image is for another architecture, so that it is compared and not booted.

use std::time::Instant;

use bty_tests::qemu::{Bus, Firmware, Hardware};

use crate::chain::lab::{Lab, SERIAL};
use crate::chain::network::one_file;
use crate::chain::sticks::{chained, flash_offline, secure_boot};

fn flashes(lab: &Lab, hardware: Hardware) {
    let disk = lab.disk();
    lab.bind("bty-flash-once", SERIAL);
    let begun = Instant::now();
    let mut machine = lab.power_on(hardware.disk(Bus::Virtio, &disk, SERIAL));
    lab.wait_for(&mut machine, "netboot.pxe.plan", 1);
    let plan = begun.elapsed();
    lab.wait_for(&mut machine, "machine.flashed", 1);
    println!("arm64: plan after {plan:.1?}, flashed after {:.1?}", begun.elapsed());
    drop(machine);
    assert!(lab.is_flashed(&disk), "the disk is the image");
    let known = &lab.machine()["known_disks"];
    assert!(known.as_array().unwrap().iter().any(|disk| disk["serial"] == SERIAL), "{known}");
}

#[test]
#[ignore = "long: make test-all"]
fn by_ipxe() {
    let lab = Lab::of("BIOS, UEFI", "arm64");
    flashes(&lab, lab.hardware(Firmware::Arm));
}

#[test]
#[ignore = "long: make test-all"]
fn one_file_by_http_boot() {
    let lab = one_file("arm64");
    flashes(&lab, lab.hardware(Firmware::ArmHttp));
}

#[test]
#[ignore = "long: make test-all"]
fn a_stick_flashes_offline() {
    flash_offline(Firmware::Arm, Bus::Virtio);
}

#[test]
#[ignore = "long: make test-all"]
fn a_stick_is_started_by_secure_boot() {
    secure_boot(Firmware::ArmSecure);
}

#[test]
#[ignore = "long: make test-all"]
fn the_chain_stick_names_the_server() {
    let (lab, hardware) = chained(Firmware::Arm, Bus::Usb, true);
    flashes(&lab, hardware);
}
