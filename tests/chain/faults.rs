//! Faults and delays after a machine has started. These machines start the kernel and the initramfs
//! directly; other modules test firmware and iPXE.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bty_tests::qemu::{Bus, Firmware, Hardware, Machine};
use bty_tests::rack::{BASE, MAC, Rack};
use serde_json::json;

use super::lab::{Lab, PATIENCE, SERIAL};

/// Starts a flash that takes eight seconds because of a slow disk, so that a test can act in the
/// middle.
fn in_the_middle(lab: &Lab) -> (PathBuf, Machine) {
    let disk = lab.disk();
    lab.bind("bty-flash-once", SERIAL);
    let hardware = lab.hardware(Firmware::Bios).slow_disk(Bus::Nvme, &disk, SERIAL, 8 << 20);
    let mut machine = lab.boot_kernel(hardware);
    machine.wait(PATIENCE, "the middle", |_| has_changed(&disk, 8 << 20));
    (disk, machine)
}

/// True if the old data at `offset` has been overwritten.
fn has_changed(disk: &Path, offset: u64) -> bool {
    let mut byte = [0xA5];
    File::open(disk).unwrap().read_exact_at(&mut byte, offset).unwrap();
    byte != [0xA5]
}

#[test]
#[ignore = "starts machines: make test-chain"]
fn a_server_that_is_restarted_in_the_middle_hears_of_the_end() {
    let mut lab = Lab::new("BIOS, UEFI");
    let (disk, mut machine) = in_the_middle(&lab);
    lab.rack.web.kill();
    assert!(
        !has_changed(&disk, lab.content.len() as u64 - (1 << 20)),
        "it was not the middle any more"
    );
    // the flash continues without the server, up to the end of the image
    machine.wait(PATIENCE, "the end of the image", |_| {
        has_changed(&disk, lab.content.len() as u64 - (1 << 20))
    });
    let Rack { ns, web, .. } = &mut lab.rack;
    ns.run(|| web.start_again());
    lab.is_flashed_once(&mut machine, &disk);
}

#[test]
#[ignore = "starts machines: make test-chain"]
fn a_machine_that_loses_power_in_the_middle_does_not_boot_and_is_flashed_again() {
    let lab = Lab::new("BIOS, UEFI");
    let (disk, machine) = in_the_middle(&lab);
    drop(machine);
    assert!(!lab.is_flashed(&disk), "it was not the middle any more");
    assert_eq!(std::fs::read(&disk).unwrap()[..512], [0; 512], "it has no boot sector");
    let mut machine = lab.boot_kernel(lab.hardware(Firmware::Bios).disk(Bus::Nvme, &disk, SERIAL));
    lab.is_flashed_once(&mut machine, &disk);
}

#[test]
#[ignore = "starts machines: make test-chain"]
fn a_disk_that_fails_is_told_and_does_not_boot() {
    let lab = Lab::new("BIOS, UEFI");
    let disk = lab.disk();
    lab.bind("bty-flash-once", SERIAL);
    let sector = (32 << 20) / 512;
    let hardware = lab.hardware(Firmware::Bios).failing_disk(Bus::Nvme, &disk, SERIAL, sector);
    let mut machine = lab.boot_kernel(hardware);
    lab.wait_for(&mut machine, "machine.flash_failed", 1);
    machine.wait(PATIENCE, "the wizard with the reason", |said| said.contains("the plan failed"));
    drop(machine);
    assert_eq!(std::fs::read(&disk).unwrap()[..512], [0; 512], "it has no boot sector");
    assert_eq!(lab.count("machine.flashed"), 0);
}

#[test]
#[ignore = "starts machines: make test-chain"]
fn a_wrong_serial_writes_nothing() {
    let lab = Lab::new("BIOS, UEFI");
    let disk = lab.disk();
    // the bundled plan waits a minute for the disk
    let source =
        include_str!("../../bty-web/src/domain/plans/bty-flash-once.rhai").replace(", 60)", ", 2)");
    lab.rack.ns.run(|| {
        lab.rack.web.send("PUT", "/plans/impatient", &json!({ "source": source })).expect(200)
    });
    lab.bind("impatient", "ANOTHER");
    let mut machine = lab.boot_kernel(lab.hardware(Firmware::Bios).disk(Bus::Nvme, &disk, SERIAL));
    lab.wait_for(&mut machine, "machine.flash_failed", 1);
    machine.wait(PATIENCE, "the wizard with the reason", |said| said.contains("ANOTHER"));
    drop(machine);
    assert!(
        std::fs::read(&disk).unwrap().iter().all(|&byte| byte == 0xA5),
        "something was written"
    );
}

#[test]
#[ignore = "starts machines: make test-chain"]
fn an_unknown_machine_ends_in_machines_with_its_inventory() {
    let lab = Lab::new("BIOS, UEFI");
    let disk = lab.disk();
    let hardware = lab.hardware(Firmware::Bios).disk(Bus::Ahci, &disk, SERIAL).clock("2001-02-03");
    let mut machine = lab.boot_kernel(hardware);
    lab.wait_for(&mut machine, "machine.inventory", 1);
    assert!(lab.next_boot().contains("sanboot"), "it boots its disk then");
    assert!(machine.said().contains("behind the server's and has been set"), "{}", machine.said());
    drop(machine);
    let known = lab.machine();
    assert_eq!(known["boot_state"], "inventoried; booting disk", "{known}");
    let disks = &known["known_disks"];
    assert_eq!(
        (&disks[0]["serial"], &disks[0]["size_bytes"]),
        (&SERIAL.into(), &(96 << 20).into()),
        "{disks}"
    );
    let lshw = lab
        .rack
        .ns
        .run(|| lab.rack.web.get(&format!("/machines/{MAC}/lshw.json")).expect(200).text());
    let lshw = lshw.replace([' ', '\n'], "");
    for part in [
        "StandardPC",
        "\"class\":\"processor\"",
        "\"class\":\"memory\"",
        "\"class\":\"network\"",
        MAC,
        "virtio_net",
    ] {
        assert!(lshw.contains(part), "{part} is not in {lshw}");
    }
    assert!(
        std::fs::read(&disk).unwrap().iter().all(|&byte| byte == 0xA5),
        "something was written"
    );
}

#[test]
#[ignore = "starts machines: make test-chain"]
fn of_two_cards_the_one_that_has_booted_is_used() {
    let lab = Lab::new("BIOS, UEFI");
    let disk = lab.disk();
    lab.bind("bty-flash-once", SERIAL);
    // Linux finds the other card first, which is connected too
    let hardware = lab.hardware(Firmware::Bios).card("tap1", "52:54:00:aa:bb:02").disk(
        Bus::Virtio,
        &disk,
        SERIAL,
    );
    let mut machine = lab.boot_kernel(hardware);
    lab.wait_for(&mut machine, "machine.flashed", 1);
    let said = machine.said();
    assert!(said.contains("has 172.31.77.") && said.contains(&format!("({MAC})")), "{said}");
    assert!(!said.contains("(52:54:00:aa:bb:02)"), "{said}");
}

#[test]
#[ignore = "starts machines: make test-chain"]
fn a_card_that_appears_late_is_used() {
    let lab = Lab::new("one line");
    let disk = lab.disk();
    lab.bind("bty-flash-once", SERIAL);
    let hardware =
        Hardware::new(Firmware::Bios).disk(Bus::Nvme, &disk, SERIAL).late_card("tap0", MAC);
    let mut machine = lab.boot_kernel_with(hardware, &format!("bty.server={BASE}"));
    machine
        .wait(PATIENCE, "the reason", |said| said.contains("network: no card with a driver yet"));
    machine.plug_in();
    lab.is_flashed_once(&mut machine, &disk);
}

#[test]
#[ignore = "starts machines: make test-chain"]
fn a_disk_that_appears_late_is_waited_for() {
    let lab = Lab::new("BIOS, UEFI");
    let disk = lab.disk();
    lab.bind("bty-flash-once", SERIAL);
    let mut machine = lab.boot_kernel(lab.hardware(Firmware::Bios).late_disk(&disk, SERIAL));
    let reason = format!("waiting up to 60 s for disk serial:{SERIAL}");
    machine.wait(PATIENCE, "the reason", |said| said.contains(&reason));
    machine.plug_in();
    lab.is_flashed_once(&mut machine, &disk);
}
