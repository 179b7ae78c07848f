//! Further media, and other ways to set the server.

use std::path::PathBuf;

use bty_tests::media::{MARKER, stick};
use bty_tests::qemu::{Bus, Firmware, Hardware};
use bty_tests::rack::{BASE, MAC};

use crate::chain::lab::{Lab, PATIENCE, SERIAL, open_shell};
use crate::chain::sticks::{GIB, NEXT_SERVER, chain, iso, offline};

/// A stick with a `bty.txt`.
fn stick_that_says(lab: &Lab, text: &str) -> PathBuf {
    let (path, words) = (lab.rack.dir().join("stick"), lab.rack.dir().join("bty.txt"));
    std::fs::write(&words, text).unwrap();
    stick(&iso("usbboot-pc", Firmware::Bios), &path, GIB, Some((&words, "bty.txt")));
    path
}

#[test]
#[ignore = "long: make test-all"]
fn a_stick_flashes_offline_with_uefi() {
    offline(Firmware::Uefi, Bus::Ahci);
}

#[test]
#[ignore = "long: make test-all"]
fn it_is_a_cd_too() {
    for firmware in [Firmware::Bios, Firmware::Uefi] {
        let mut machine =
            Hardware::new(firmware).disk(Bus::Cd, &iso("usbboot-pc", firmware), "CD").start();
        machine.wait(PATIENCE, "the wizard", |said| said.contains("Pick an image source:"));
    }
}

#[test]
#[ignore = "long: make test-all"]
fn a_file_on_the_stick_names_a_server() {
    let lab = Lab::new("one line");
    let path = stick_that_says(&lab, &format!("# the lab's\r\nbty.server={BASE}\r\n"));
    let disk = lab.disk();
    lab.bind("bty-flash-once", SERIAL);
    let hardware = Hardware::new(Firmware::Uefi).disk(Bus::Usb, &path, "STICK");
    let hardware = hardware.disk(Bus::Nvme, &disk, SERIAL).card("tap0", MAC);
    let mut machine = lab.power_on(hardware);
    // through BootNext, which overrides the boot order once
    machine.wait(PATIENCE, "the flashed system", |said| said.contains(MARKER));
    machine.wait_off(PATIENCE);
    // at later starts, the firmware boots from the stick first
    lab.rack.ns.run(|| machine.power_on_again());
    machine.wait(PATIENCE, "the second start", |said| {
        said.contains("rebooting into the flashed disk")
    });
    machine.wait(PATIENCE, "the flashed system", |said| said.contains(MARKER));
    drop(machine);
    assert!(lab.is_flashed(&disk));
    assert_eq!(lab.count("machine.flashed"), 1);
}

#[test]
#[ignore = "long: make test-all"]
fn the_server_can_be_typed_in() {
    for firmware in [Firmware::Bios, Firmware::Uefi] {
        let lab = Lab::new("one line");
        let path = lab.rack.dir().join("stick");
        stick(&iso("usbboot-pc", firmware), &path, GIB, None);
        let hardware = Hardware::new(firmware).disk(Bus::Usb, &path, "STICK").card("tap0", MAC);
        let mut machine = lab.power_on(hardware);
        machine.wait(PATIENCE, "the menu", |said| said.contains("a server that you enter"));
        // down twice, by ^N: the sequence of an arrow key may arrive in parts
        machine.type_in("\x0e\x0e\r");
        machine.wait(PATIENCE, "the question", |said| said.contains("Address of the server"));
        machine.type_in("172.31.77.2\x7f1:8080\r");
        machine.wait(PATIENCE, "the plan", |said| said.contains("server: http://172.31.77.1:8080"));
        lab.wait_for(&mut machine, "netboot.pxe.plan", 1);
    }
}

#[test]
#[ignore = "long: make test-all"]
fn a_file_on_the_stick_leaves_the_server_to_dhcp_or_to_a_person() {
    let lab = Lab::with_lines(|_| NEXT_SERVER.into(), "x86_64", &[]);
    for (times, who) in (1..).zip(["dhcp", "ask"]) {
        let path = stick_that_says(&lab, &format!("bty.server={who}\n"));
        let hardware =
            Hardware::new(Firmware::Bios).disk(Bus::Usb, &path, "STICK").card("tap0", MAC);
        let mut machine = lab.power_on(hardware);
        if who == "ask" {
            machine.wait(PATIENCE, "the question", |said| said.contains("Address of the server"));
            machine.type_in("172.31.77.1:8080\r");
        }
        machine.wait(PATIENCE, "the server", |said| said.contains(&format!("server: {BASE}")));
        lab.wait_for(&mut machine, "netboot.pxe.plan", times);
    }
}

#[test]
#[ignore = "long: make test-all"]
fn without_an_address_the_screen_says_so_and_a_shell_is_one_key_away() {
    let lab = Lab::new("one line");
    lab.rack.ns.ip("link set tap1 nomaster");
    let path = stick_that_says(&lab, &format!("bty.server={BASE}\n"));
    let hardware = Hardware::new(Firmware::Bios).disk(Bus::Usb, &path, "STICK").card("tap1", MAC);
    let mut machine = lab.power_on(hardware);
    let reason = "eth0: no DHCP server has answered, retrying";
    machine.wait(PATIENCE, "the reason", |said| said.contains(reason));
    open_shell(&mut machine);
    machine.type_in("exit\r");
    machine.wait(PATIENCE, "waiting", |said| said.contains("waiting again"));
    machine.type_in("\r");
    machine.wait(PATIENCE, "the wizard", |said| said.contains("Pick an image"));
}

#[test]
#[ignore = "long: make test-all"]
fn the_chain_stick_names_the_server_with_uefi() {
    chain(Firmware::Uefi, Bus::Usb, true);
}

#[test]
#[ignore = "long: make test-all"]
fn the_chain_cd_asks_dhcp_for_the_server_with_uefi() {
    chain(Firmware::Uefi, Bus::Cd, false);
}
