//! Further combinations of firmware, disks and images for machines that boot from the network.

use bty_tests::media::{MARKER, debian_image};
use bty_tests::qemu::{Bus, Firmware};
use serde_json::json;

use crate::chain::lab::{Lab, PATIENCE, SERIAL};

#[test]
#[ignore = "long: make test-all"]
fn uefi_and_ahci() {
    Lab::new("one line").flashes(Firmware::Uefi, Bus::Ahci);
}

/// An installed Debian boots from the disk, or by `kexec` without going through the firmware again.
fn installed(firmware: Firmware, after: &str) {
    let lab = Lab::with(
        if firmware == Firmware::Bios { "BIOS, UEFI" } else { "one line" },
        &debian_image(),
    );
    let disk = lab.disk();
    lab.bind_with("bty-flash-once", SERIAL, &json!({ "after": after }));
    let mut machine = lab.power_on(lab.hardware(firmware).disk(Bus::Nvme, &disk, SERIAL));
    machine
        .wait(PATIENCE, "the flashed system", |said| said.contains(&format!("{MARKER}: systemd")));
    machine.wait_off(PATIENCE);
    let said = machine.said();
    drop(machine);
    // the system does not change this part: the partition table, the boot loaders, the ESP
    let untouched = 9 << 20;
    assert!(std::fs::read(&disk).unwrap()[..untouched] == lab.content[..untouched]);
    assert_eq!(lab.count("machine.flashed"), 1, "{:?}", lab.events());
    assert_eq!(
        lab.count("netboot.pxe.offered"),
        1,
        "{:?}; the machine said:\n{said}",
        lab.events()
    );
}

#[test]
#[ignore = "long: make test-all"]
fn an_installed_debian_is_flashed_and_boots() {
    installed(Firmware::Uefi, "reboot");
}

#[test]
#[ignore = "long: make test-all"]
fn kexec_goes_straight_into_the_flashed_system() {
    installed(Firmware::Bios, "kexec");
}

#[test]
#[ignore = "long: make test-all"]
fn flash_always_flashes_at_every_other_boot() {
    let lab = Lab::new("BIOS, UEFI");
    lab.bind("bty-flash-always", SERIAL);
    for cycle in 1..=3 {
        let disk = lab.disk();
        let mut machine = lab.power_on(lab.hardware(Firmware::Bios).disk(Bus::Nvme, &disk, SERIAL));
        machine.wait(PATIENCE, "the flashed system", |said| said.contains(MARKER));
        machine.wait_off(PATIENCE);
        drop(machine);
        assert!(lab.is_flashed(&disk), "cycle {cycle}");
        assert_eq!(lab.count("machine.flashed"), cycle);
        assert_eq!(
            lab.count("netboot.pxe.offered"),
            2 * cycle,
            "to flash, and to boot the disk: {:?}",
            lab.events()
        );
    }
}
