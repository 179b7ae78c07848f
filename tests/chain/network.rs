//! Machines that boot from the network.

use bty_tests::qemu::{Bus, Firmware};

use super::lab::Lab;

#[test]
fn bios_and_nvme() {
    Lab::new("BIOS, UEFI").flashes(Firmware::Bios, Bus::Nvme);
}

#[test]
fn uefi_and_ahci() {
    Lab::new("one line").flashes(Firmware::Uefi, Bus::Ahci);
}
