#!/usr/bin/env python3
"""Creates a disk image of 64 MiB that boots Debian's kernel with BIOS and UEFI, prints TEXT on its
consoles, and powers the machine off.

usage: marker.py IMAGE TEXT"""

import sys
from pathlib import Path

import disk

from builder.cpio import Tree
from builder.debian import Archive

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
EARLY = "search --no-floppy --set=root --file /loader/entries/marker.conf\nset prefix=($root)/grub\nconfigfile /grub/grub.cfg\n"


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
    archive = Archive((disk.ROOT / "target/media-work").resolve(), "amd64", "trixie")
    (vmlinuz,) = archive.kernel().root.glob("boot/vmlinuz-*")
    files = {
        "vmlinuz": vmlinuz.read_bytes(),
        "initrd": initrd(archive, text),
        "grub/grub.cfg": CONFIG.encode(),
        "loader/entries/marker.conf": ENTRY.encode(),
    }
    disk.build(image, EARLY, files, 62 * disk.MIB)


main()
