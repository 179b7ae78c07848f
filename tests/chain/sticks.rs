//! Machines that boot from a stick or a CD.

use std::path::{Path, PathBuf};

use bty_tests::command::tool;
use bty_tests::images::filter;
use bty_tests::media::{MARKER, marker_image, product, stick};
use bty_tests::qemu::{Bus, Firmware, Hardware, Machine};
use bty_tests::rack::{BASE, MAC};
use tempfile::TempDir;

use super::lab::{Lab, PATIENCE, SERIAL, open_shell};

pub(crate) const GIB: u64 = 1 << 30;
/// DHCP with the address of the server, but without a boot file.
pub(crate) const NEXT_SERVER: &str = "dhcp-boot=none,,172.31.77.1";

pub(crate) fn iso(name: &str, firmware: Firmware) -> PathBuf {
    product(name, firmware.arch())
        .into_iter()
        .find(|file| file.extension().is_some_and(|end| end == "iso"))
        .unwrap()
}

/// Flashes with the wizard on the serial line. Returns the directory with the stick and the disk.
pub(crate) fn flash_offline(firmware: Firmware, bus: Bus) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let content = std::fs::read(marker_image()).unwrap();
    std::fs::write(at("marker.img.zst"), filter(&["zstd", "-q3c"], &content)).unwrap();
    stick(
        &iso("usbboot-pc", firmware),
        &at("stick"),
        GIB,
        Some((&at("marker.img.zst"), "marker.img.zst")),
    );
    std::fs::write(at("disk"), vec![0xA5; 96 << 20]).unwrap();

    let mut machine = Hardware::new(firmware)
        .disk(Bus::Usb, &at("stick"), "STICK")
        .disk(bus, &at("disk"), SERIAL)
        .start();
    machine.wait(PATIENCE, "the wizard", |said| said.contains("Pick an image:"));
    assert!(machine.said().contains("the partition has been grown to "), "{}", machine.said());
    machine.type_in("1\r");
    machine.wait(PATIENCE, "the disks", |said| said.contains("Pick the disk to write to:"));
    machine.type_in(&format!("{}\r", number_of(&machine, SERIAL)));
    machine.wait(PATIENCE, "the question", |said| said.contains("Type yes to erase and write:"));
    machine.type_in("yes\r");
    machine.wait(PATIENCE, "the result", |said| said.contains("Reboot now?"));
    drop(machine);

    assert!(
        std::fs::read(at("disk")).unwrap()[..content.len()] == content,
        "the disk is the image"
    );
    images_are_whole(&at("stick"));
    dir
}

pub(crate) fn offline(firmware: Firmware, bus: Bus) {
    let dir = flash_offline(firmware, bus);
    let mut machine = Hardware::new(firmware).disk(bus, &dir.path().join("disk"), SERIAL).start();
    machine.wait(PATIENCE, "the flashed system", |said| said.contains(MARKER));
}

/// The number of the disk with this serial number in the wizard's list.
fn number_of(machine: &Machine, serial: &str) -> String {
    let said = machine.said();
    let line = said.lines().rfind(|line| line.contains(serial) && line.contains("/dev/"));
    let word = line.and_then(|line| {
        line.split_whitespace().find(|word| word.bytes().all(|b| b.is_ascii_digit()))
    });
    word.unwrap_or_else(|| panic!("{serial} is not offered:\n{said}")).to_owned()
}

/// Checks that the grown images partition has no errors, and still contains its file.
fn images_are_whole(stick: &Path) {
    let part = stick.with_file_name("part");
    let table = std::fs::read(stick).unwrap();
    let start = u32::from_le_bytes(table[486..490].try_into().unwrap()) as usize * 512;
    std::fs::write(&part, &table[start..]).unwrap();
    tool(&["fsck.exfat", "-n", part.to_str().unwrap()]);
    let name: Vec<u8> = "marker.img.zst".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(
        table[start..start + (24 << 20)].windows(name.len()).any(|window| window == name),
        "the file is gone"
    );
}

#[test]
#[ignore = "starts machines: make test-chain"]
fn a_stick_flashes_offline_with_bios() {
    offline(Firmware::Bios, Bus::Nvme);
}

pub(crate) fn secure_boot(firmware: Firmware) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stick");
    stick(&iso("usbboot-pc", firmware), &path, GIB, None);
    let mut machine = Hardware::new(firmware).disk(Bus::Usb, &path, "STICK").start();
    machine.wait(PATIENCE, "the wizard", |said| said.contains("Pick an image source:"));
    open_shell(&mut machine);
    machine.type_in("dmesg | grep -i 'secure boot'; exit\r");
    machine.wait(PATIENCE, "Secure Boot", |said| said.contains("Secure boot enabled"));
}

#[test]
#[ignore = "starts machines: make test-chain"]
fn a_stick_is_started_by_secure_boot() {
    secure_boot(Firmware::UefiSecure);
}

/// Creates a rack from which firmware cannot boot, and a machine with the chain medium.
pub(crate) fn chained(firmware: Firmware, bus: Bus, named: bool) -> (Lab, Hardware) {
    let lab = Lab::with_lines(
        |_| if named { String::new() } else { NEXT_SERVER.into() },
        firmware.arch(),
        &[],
    );
    let path = lab.rack.dir().join("chain");
    stick(&iso("chain", firmware), &path, 8 << 20, None);
    if named {
        name_server(&path);
    }
    let hardware = Hardware::new(firmware).disk(bus, &path, "CHAIN").card("tap0", MAC);
    (lab, hardware)
}

/// Runs the machine from the chain medium to the flashed system.
pub(crate) fn chain(firmware: Firmware, bus: Bus, named: bool) {
    let (lab, hardware) = chained(firmware, bus, named);
    let disk = lab.disk();
    lab.bind("bty-flash-once", SERIAL);
    let mut machine = lab.power_on(hardware.disk(Bus::Virtio, &disk, SERIAL));
    machine.wait(PATIENCE, "the flashed system", |said| said.contains(MARKER));
    drop(machine);
    assert!(lab.is_flashed(&disk));
}

/// Edits the script on the stick to set the server, like a person.
fn name_server(stick: &Path) {
    let table = std::fs::read(stick).unwrap();
    let start = u32::from_le_bytes(table[470..474].try_into().unwrap()) * 512;
    let (fat, script) =
        (format!("{}@@{start}", stick.display()), stick.with_file_name("autoexec.ipxe"));
    tool(&["mcopy", "-n", "-i", &fat, "::autoexec.ipxe", script.to_str().unwrap()]);
    let text = std::fs::read_to_string(&script).unwrap();
    let changed =
        text.replace("#set bty-server http://192.0.2.1:8080", &format!("set bty-server {BASE}"));
    assert_ne!(text, changed);
    std::fs::write(&script, changed).unwrap();
    tool(&["mcopy", "-o", "-i", &fat, script.to_str().unwrap(), "::autoexec.ipxe"]);
}

#[test]
#[ignore = "starts machines: make test-chain"]
fn the_chain_stick_asks_dhcp_for_the_server_with_bios() {
    chain(Firmware::Bios, Bus::Usb, false);
}
