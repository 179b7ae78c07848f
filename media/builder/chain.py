"""The product `chain`: iPXE on a stick or CD, which contacts a server and contains nothing else.
UEFI starts iPXE itself, which reads the script beside it; BIOS starts it through GRUB.

The medium for x86_64 starts arm64 machines too; the medium for arm64 starts only these."""

import tempfile
from pathlib import Path

from . import fat, iso
from .debian import Archive

HERE = Path(__file__).resolve().parent.parent / "chain"
MIB = 1 << 20
ESP_BYTES = 4 * MIB
MARK = "bty-chain"
EARLY = f"search --no-floppy --set=root --file /{MARK}\nsource /grub.cfg\n"


def build(out: Path, version: str, archive: Archive):
    root = archive.get("ipxe").root
    ipxe = {path.name: path for path in root.glob("usr/lib/ipxe/**/*") if path.is_file()}
    has_bios = archive.arch == "amd64"
    files = {
        MARK: version.encode() + b"\n",
        "EFI/BOOT/BOOTAA64.EFI": ipxe["ipxe-arm64.efi"].read_bytes(),
        # edited by whoever uses the stick
        "autoexec.ipxe": (HERE / "autoexec.ipxe").read_bytes(),
    }
    if has_bios:
        files |= {
            "EFI/BOOT/BOOTX64.EFI": ipxe["ipxe.efi"].read_bytes(),
            "ipxe.lkrn": ipxe["ipxe.lkrn"].read_bytes(),
            "grub.cfg": (HERE / "grub.cfg").read_bytes(),
            "second.ipxe": (HERE / "second.ipxe").read_bytes(),
        }
        archive.record_installed("grub-pc-bin")
    with tempfile.TemporaryDirectory() as work:
        esp = Path(work) / "esp"
        esp.write_bytes(fat.build(files, ESP_BYTES, "BTY_CHAIN"))
        iso.build(out, "BTY_CHAIN", {"README.txt": (HERE / "README.txt").read_bytes()}, esp, EARLY if has_bios else None)
