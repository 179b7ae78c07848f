#!/usr/bin/env python3
"""Makes a disk image that boots with BIOS and UEFI, says something on its consoles, and switches the machine off.

It is what a flashed machine has to boot: Debian's kernel, GRUB, a GPT and an EFI system partition. Made without mounts.
usage: marker.py IMAGE TEXT"""

import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "media"))

from builder import fat, grub  # noqa: E402
from builder.cpio import Tree  # noqa: E402
from builder.debian import Archive  # noqa: E402

MIB = 1 << 20
SECTOR = 512
SIZE, ESP_START = 64 * MIB, 1 * MIB
# where the boot sector finds the rest of GRUB
CORE = 34
ENTRY = """title marker
linux /vmlinuz
initrd /initrd
options console=tty0 console=ttyS0,115200 loglevel=3
"""
CONFIG = """serial --unit=0 --speed=115200
terminal_output serial console
linux /vmlinuz console=tty0 console=ttyS0,115200 loglevel=3
initrd /initrd
boot
"""


def initrd(archive: Archive, text: str) -> bytes:
    tree = Tree()
    for path in ("proc", "dev", "sys"):
        tree.dir(path)
    tree.copy("bin/busybox", archive.get("busybox-static").root / "usr/bin/busybox", 0o755)
    script = f"""#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
echo "{text}"
/bin/busybox sleep 1
exec /bin/busybox poweroff -f
"""
    tree.put("init", script.encode(), 0o755)
    return tree.pack()


def main():
    image, text = Path(sys.argv[1]), sys.argv[2]
    if image.exists() and image.stat().st_mtime > Path(__file__).stat().st_mtime:
        return
    archive = Archive((ROOT / "target/media-work").resolve(), "amd64", "trixie")
    (vmlinuz,) = archive.kernel().root.glob("boot/vmlinuz-*")
    files = {
        "vmlinuz": vmlinuz.read_bytes(),
        "initrd": initrd(archive, text),
        "grub/grub.cfg": CONFIG.encode(),
        "loader/entries/marker.conf": ENTRY.encode(),
        "EFI/BOOT/BOOTX64.EFI": grub.efi("search --no-floppy --set=root --file /loader/entries/marker.conf\nset prefix=($root)/grub\nconfigfile /grub/grub.cfg\n"),
    }
    with tempfile.TemporaryDirectory() as work:
        part = Path(work) / "image"
        part.touch()
        subprocess.run(["truncate", "-s", str(SIZE), part], check=True)
        first, last = ESP_START // SECTOR, (SIZE - MIB) // SECTOR - 1
        table = ["-a", "1", "-n", f"1:{CORE}:2047", "-t", "1:ef02", "-n", f"2:{first}:{last}", "-t", "2:ef00", "-c", "2:ESP"]
        subprocess.run(["sgdisk", *table, part], check=True, stdout=subprocess.DEVNULL)
        boot, core = grub.bios("search --no-floppy --set=root --file /loader/entries/marker.conf\nset prefix=($root)/grub\nconfigfile /grub/grub.cfg\n")
        # the list of the blocks that the rest of GRUB is in
        core = bytearray(core + bytes(-len(core) % SECTOR))
        struct.pack_into("<QHH", core, 0x1F4, CORE + 1, len(core) // SECTOR - 1, 0x820)
        with open(part, "r+b") as disk:
            mbr = bytearray(disk.read(SECTOR))
            mbr[:440] = boot[:440]
            struct.pack_into("<Q", mbr, 0x5C, CORE)
            mbr[0x66:0x68] = b"\x90\x90"
            disk.seek(0)
            disk.write(mbr)
            disk.seek(CORE * SECTOR)
            disk.write(core)
            disk.seek(ESP_START)
            disk.write(fat.build(files, (last - first + 1) * SECTOR, "MARKER"))
        image.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "--sparse=always", part, image], check=True)


main()
