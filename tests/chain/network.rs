//! Machines that boot from the network.

use bty_tests::media::product;
use bty_tests::qemu::{Bus, Firmware};

use super::lab::Lab;

#[test]
#[ignore = "starts machines: make test-chain"]
fn bios_and_nvme() {
    Lab::new("BIOS, UEFI").flashes(Firmware::Bios, Bus::Nvme);
}

#[test]
#[ignore = "starts machines: make test-chain"]
fn uefi_and_virtio() {
    Lab::new("one line").flashes(Firmware::Uefi, Bus::Virtio);
}

/// This version of iPXE passes the initramfs to the kernel only by name.
#[test]
#[ignore = "starts machines: make test-chain"]
fn uefi_and_an_old_ipxe_in_the_rom_of_the_card() {
    Lab::new("BIOS, UEFI").flashes(Firmware::UefiRom, Bus::Nvme);
}

#[test]
#[ignore = "starts machines: make test-chain"]
fn uefi_http_boot() {
    Lab::new("HTTP Boot").flashes(Firmware::UefiHttp, Bus::Nvme);
}

#[test]
#[ignore = "starts machines: make test-chain"]
fn one_file_by_uefi_http_boot() {
    one_file("x86_64").flashes(Firmware::UefiHttp, Bus::Nvme);
}

/// Creates a lab in which firmware loads the live environment as one file by HTTP Boot.
pub(crate) fn one_file(arch: &str) -> Lab {
    let files = product("ramdisk", arch);
    let efi = files.iter().find(|file| file.extension().is_some_and(|end| end == "efi")).unwrap();
    let name = efi.file_name().unwrap().to_str().unwrap();
    let program = if arch == "arm64" { "ipxe-arm64.efi" } else { "snponly.efi" };
    Lab::with_lines(|config| section(config, "HTTP Boot").replace(program, name), arch, &[efi])
}

/// The section of the DHCP configuration whose first line contains `what`.
fn section(config: &str, what: &str) -> String {
    config
        .split("\n\n")
        .find(|section| section.lines().next().unwrap().contains(what))
        .unwrap()
        .to_owned()
}
