//! Machines that boot from the network.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bty_tests::media::{MARKER, debian_image, product};
use bty_tests::qemu::{Bus, Firmware, Machine};
use bty_tests::rack::{MAC, Rack};
use serde_json::json;

use super::lab::{Lab, PATIENCE, SERIAL, open_shell};

#[test]
fn bios_and_nvme() {
    Lab::new("BIOS, UEFI").flashes(Firmware::Bios, Bus::Nvme);
}

#[test]
fn uefi_and_virtio() {
    Lab::new("one line").flashes(Firmware::Uefi, Bus::Virtio);
}

#[test]
#[ignore = "long: make test-chain"]
fn uefi_and_ahci() {
    Lab::new("one line").flashes(Firmware::Uefi, Bus::Ahci);
}

#[test]
#[ignore = "long: make test-chain"]
fn uefi_http_boot() {
    Lab::new("HTTP Boot").flashes(Firmware::UefiHttp, Bus::Nvme);
}

#[test]
#[ignore = "long: make test-chain"]
fn one_file_by_uefi_http_boot() {
    one_file("x86_64").flashes(Firmware::UefiHttp, Bus::Nvme);
}

/// Firmware gets the environment itself by HTTP Boot, as one file.
pub(super) fn one_file(arch: &str) -> Lab {
    let files = product("ramdisk", arch);
    let efi = files.iter().find(|file| file.extension().is_some_and(|end| end == "efi")).unwrap();
    let name = efi.file_name().unwrap().to_str().unwrap();
    let program = if arch == "arm64" { "ipxe-arm64.efi" } else { "snponly.efi" };
    Lab::with_lines(|told| section(told, "HTTP Boot").replace(program, name), arch, &[efi])
}

fn section(told: &str, what: &str) -> String {
    told.split("\n\n").find(|section| section.lines().next().unwrap().contains(what)).unwrap().to_owned()
}

/// An installed Debian starts from the disk; by `kexec` without a second time with the firmware.
fn installed(firmware: Firmware, after: &str) {
    let lab = Lab::with(if firmware == Firmware::Bios { "BIOS, UEFI" } else { "one line" }, &debian_image());
    let disk = lab.disk();
    lab.bind_with("bty-flash-once", SERIAL, &json!({ "after": after }));
    let mut machine = lab.power_on(lab.hardware(firmware).disk(Bus::Nvme, &disk, SERIAL));
    machine.wait(PATIENCE, "the flashed system", |said| said.contains(&format!("{MARKER}: systemd")));
    machine.wait_off(PATIENCE);
    let said = machine.said();
    drop(machine);
    // what the system itself does not change: the table, the loaders, the ESP
    let untouched = 9 << 20;
    assert!(std::fs::read(&disk).unwrap()[..untouched] == lab.content[..untouched]);
    assert_eq!(lab.count("machine.flashed"), 1, "{:?}", lab.events());
    assert_eq!(lab.count("netboot.pxe.offered"), 1, "{:?}; the machine said:\n{said}", lab.events());
}

#[test]
#[ignore = "long: make test-chain"]
fn an_installed_debian_is_flashed_and_boots() {
    installed(Firmware::Uefi, "reboot");
}

#[test]
#[ignore = "long: make test-chain"]
fn kexec_goes_straight_into_the_flashed_system() {
    installed(Firmware::Bios, "kexec");
}

#[test]
#[ignore = "long: make test-chain"]
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
        assert_eq!(lab.count("netboot.pxe.offered"), 2 * cycle, "to flash, and to boot the disk: {:?}", lab.events());
    }
}

/// A machine that is being flashed, for eight seconds: its disk is slow, so that the middle is not over before anybody looks.
fn in_the_middle(lab: &Lab) -> (PathBuf, Machine) {
    let disk = lab.disk();
    lab.bind("bty-flash-once", SERIAL);
    let hardware = lab.hardware(Firmware::Bios).slow_disk(Bus::Nvme, &disk, SERIAL, 8 << 20);
    let mut machine = lab.power_on(hardware);
    machine.wait(PATIENCE, "the middle", |_| has_changed(&disk, 8 << 20));
    (disk, machine)
}

/// The old data at `offset` is gone.
fn has_changed(disk: &Path, offset: u64) -> bool {
    let mut byte = [0xA5];
    File::open(disk).unwrap().read_exact_at(&mut byte, offset).unwrap();
    byte != [0xA5]
}

#[test]
#[ignore = "long: make test-chain"]
fn a_server_that_is_restarted_in_the_middle_hears_of_the_end() {
    let mut lab = Lab::new("BIOS, UEFI");
    let (disk, machine) = in_the_middle(&lab);
    lab.rack.web.kill();
    assert!(!has_changed(&disk, lab.content.len() as u64 - (1 << 20)), "it was not the middle any more");
    std::thread::sleep(Duration::from_secs(3));
    let Rack { ns, web, .. } = &mut lab.rack;
    ns.run(|| web.again());
    lab.ends(machine, &disk);
}

#[test]
#[ignore = "long: make test-chain"]
fn a_machine_that_loses_power_in_the_middle_does_not_boot_and_is_flashed_again() {
    let lab = Lab::new("BIOS, UEFI");
    let (disk, machine) = in_the_middle(&lab);
    drop(machine);
    assert!(!lab.is_flashed(&disk), "it was not the middle any more");
    assert_eq!(std::fs::read(&disk).unwrap()[..512], [0; 512], "it has no boot sector");
    let machine = lab.power_on(lab.hardware(Firmware::Bios).disk(Bus::Nvme, &disk, SERIAL));
    lab.ends(machine, &disk);
}

#[test]
#[ignore = "long: make test-chain"]
fn a_disk_that_fails_is_told_and_does_not_boot() {
    let lab = Lab::new("BIOS, UEFI");
    let disk = lab.disk();
    lab.bind("bty-flash-once", SERIAL);
    let sector = (32 << 20) / 512;
    let hardware = lab.hardware(Firmware::Bios).failing_disk(Bus::Nvme, &disk, SERIAL, sector);
    let mut machine = lab.power_on(hardware);
    lab.wait_for(&mut machine, "machine.flash_failed", 1);
    machine.wait(PATIENCE, "the wizard with the reason", |said| said.contains("the plan failed"));
    drop(machine);
    assert_eq!(std::fs::read(&disk).unwrap()[..512], [0; 512], "it has no boot sector");
    assert_eq!(lab.count("machine.flashed"), 0);
}

#[test]
#[ignore = "long: make test-chain"]
fn a_wrong_serial_writes_nothing() {
    let lab = Lab::new("BIOS, UEFI");
    let disk = lab.disk();
    lab.bind("bty-flash-once", "ANOTHER");
    let mut machine = lab.power_on(lab.hardware(Firmware::Bios).disk(Bus::Nvme, &disk, SERIAL));
    lab.wait_for(&mut machine, "machine.flash_failed", 1);
    machine.wait(PATIENCE, "the wizard with the reason", |said| said.contains("ANOTHER"));
    drop(machine);
    assert!(std::fs::read(&disk).unwrap().iter().all(|&byte| byte == 0xA5), "something was written");
}

#[test]
#[ignore = "long: make test-chain"]
fn an_unknown_machine_ends_in_machines_with_its_inventory() {
    let lab = Lab::new("BIOS, UEFI");
    let disk = lab.disk();
    let hardware = lab.hardware(Firmware::Bios).disk(Bus::Ahci, &disk, SERIAL).clock("2001-02-03");
    let mut machine = lab.power_on(hardware);
    lab.wait_for(&mut machine, "machine.inventory", 1);
    // it boots its disk then, which has nothing
    lab.wait_for(&mut machine, "netboot.pxe.offered", 2);
    assert!(machine.said().contains("behind the server's and has been set"), "{}", machine.said());
    drop(machine);
    let known = lab.machine();
    assert_eq!(known["boot_state"], "inventoried; booting disk", "{known}");
    let disks = &known["known_disks"];
    assert_eq!((&disks[0]["serial"], &disks[0]["size_bytes"]), (&SERIAL.into(), &(96 << 20).into()), "{disks}");
    let lshw = lab.rack.ns.run(|| lab.rack.web.get(&format!("/machines/{MAC}/lshw.json")).expect(200).text());
    let lshw = lshw.replace([' ', '\n'], "");
    for part in
        ["StandardPC", "\"class\":\"processor\"", "\"class\":\"memory\"", "\"class\":\"network\"", MAC, "virtio_net"]
    {
        assert!(lshw.contains(part), "{part} is not in {lshw}");
    }
    assert!(std::fs::read(&disk).unwrap().iter().all(|&byte| byte == 0xA5), "something was written");
}

#[test]
#[ignore = "long: make test-chain"]
fn of_two_cards_the_one_that_has_booted_is_used() {
    let lab = Lab::new("BIOS, UEFI");
    let disk = lab.disk();
    lab.bind("bty-flash-once", SERIAL);
    // the other one is found first by Linux, and has a network behind it too
    let hardware = lab.hardware(Firmware::Bios).card("tap1", "52:54:00:aa:bb:02").disk(Bus::Virtio, &disk, SERIAL);
    let mut machine = lab.power_on(hardware);
    lab.wait_for(&mut machine, "machine.flashed", 1);
    let said = machine.said();
    assert!(said.contains("has 172.31.77.") && said.contains(&format!("({MAC})")), "{said}");
    assert!(!said.contains("(52:54:00:aa:bb:02)"), "{said}");
}

/// From a shell to the full environment, until nothing of it is on its way any more.
pub(super) fn go_on_with_full(machine: &mut Machine) {
    machine.type_in("bty-live full\r");
    let begun = Instant::now();
    machine.wait(PATIENCE, "the full environment", |said| said.contains("root@"));
    println!("the full environment after {:.1?}", begun.elapsed());
    // the prompt is there before all services are
    machine.type_in("timeout 200 systemctl is-system-running --wait; echo booting is $((1 + 1))\r");
    machine.wait(PATIENCE, "the end of booting", |said| said.contains("booting is 2"));
}

#[test]
#[ignore = "long: make test-chain"]
fn a_person_gets_the_full_environment_when_it_is_asked_for() {
    let lab = Lab::new("BIOS, UEFI");
    let (_disk, mut machine) = lab.start("bty-tui");
    machine.wait(PATIENCE, "the wizard", |said| said.contains("Pick an image:"));
    open_shell(&mut machine);
    go_on_with_full(&mut machine);
    machine.type_in("systemctl is-active bty-on-tty1 ssh; nvme list; bty --version; echo all is $((1 + 1))\r");
    machine.wait(PATIENCE, "tools", |said| said.contains("all is 2"));
    let said = machine.said();
    assert!(said.contains("active\nactive") && said.contains("/dev/nvme0n1"), "{said}");
}
