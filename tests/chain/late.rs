//! What is not there yet when the environment starts, and what is there and nobody's business.

use std::path::Path;

use bty_tests::command::tool;
use bty_tests::qemu::{Bus, Firmware, Hardware};
use bty_tests::rack::{BASE, MAC};

use super::lab::{Lab, PATIENCE, SERIAL, open_shell};
use super::network::go_on_with_full;
use super::sticks::stick_that_says;

#[test]
#[ignore = "long: make test-chain"]
fn a_card_that_appears_late_is_used() {
    let lab = Lab::new("one line");
    let (stick, disk) = (stick_that_says(&lab, &format!("bty.server={BASE}\n")), lab.disk());
    lab.bind("bty-flash-once", SERIAL);
    let hardware = Hardware::new(Firmware::Bios).disk(Bus::Usb, &stick, "STICK").disk(Bus::Nvme, &disk, SERIAL);
    let mut machine = lab.power_on(hardware.late_card("tap0", MAC));
    machine.wait(PATIENCE, "the reason", |said| said.contains("network: no card with a driver yet"));
    machine.plug_in();
    lab.wait_for(&mut machine, "machine.flashed", 1);
    drop(machine);
    assert!(lab.is_flashed(&disk), "the disk is the image");
}

#[test]
#[ignore = "long: make test-chain"]
fn a_disk_that_appears_late_is_waited_for() {
    let lab = Lab::new("BIOS, UEFI");
    let disk = lab.disk();
    lab.bind("bty-flash-once", SERIAL);
    let mut machine = lab.power_on(lab.hardware(Firmware::Bios).late_disk(&disk, SERIAL));
    let reason = format!("waiting up to 60 s for the disk serial:{SERIAL}");
    machine.wait(PATIENCE, "the reason", |said| said.contains(&reason));
    machine.plug_in();
    lab.ends(machine, &disk);
}

/// Says how many of them there are; the command itself, which is shown too, does not say it.
const COUNT: &str = "echo assembled here: $(ls /sys/block | grep -cE '^(md|dm-)')\r";

#[test]
#[ignore = "long: make test-chain"]
fn volumes_of_an_old_system_are_not_assembled_and_are_flashed_over() {
    let lab = Lab::new("BIOS, UEFI");
    let disk = lab.disk();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("media/volumes.py");
    tool(&["python3", script.to_str().unwrap(), disk.to_str().unwrap()]);
    let hardware = || lab.hardware(Firmware::Bios).disk(Bus::Nvme, &disk, SERIAL);

    lab.bind("bty-tui", SERIAL);
    let mut machine = lab.power_on(hardware());
    machine.wait(PATIENCE, "the wizard", |said| said.contains("Pick an image:"));
    open_shell(&mut machine);
    machine.type_in(COUNT);
    machine.wait(PATIENCE, "a look", |said| said.contains("assembled here: 0"));
    go_on_with_full(&mut machine);
    // its tools know what they are, so that they could be
    machine.type_in("mdadm --examine /dev/nvme0n1p1; lvs --noheadings old; echo all is $((1 + 1))\r");
    machine.wait(PATIENCE, "tools", |said| said.contains("all is 2"));
    assert!(machine.said().contains("Raid Level : raid1") && machine.said().contains("root old"), "{}", machine.said());
    machine.type_in(COUNT);
    machine.wait(PATIENCE, "another look", |said| said.matches("assembled here: 0").count() == 2);
    drop(machine);

    lab.bind("bty-flash-once", SERIAL);
    lab.ends(lab.power_on(hardware()), &disk);
}
