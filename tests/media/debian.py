#!/usr/bin/env python3
"""Creates a disk image with an installed Debian: kernel, initramfs, systemd, ext4 and an ESP. It
prints TEXT on its console, and powers the machine off.

usage: debian.py IMAGE TEXT"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import disk

from builder.debian import Archive

LABEL = "DEBIAN"
ROOT_BYTES, ESP_BYTES = 640 * disk.MIB, 8 * disk.MIB
EARLY = f"search --no-floppy --set=root --label {LABEL}\nset prefix=($root)/boot/grub\nconfigfile /boot/grub/grub.cfg\n"
CONFIG = f"""serial --unit=0 --speed=115200
terminal_output serial console
linux /vmlinuz root=LABEL={LABEL} ro console=tty0 console=ttyS0,115200 loglevel=4
initrd /initrd.img
boot
"""
UNIT = """[Unit]
Description=Says that this system runs
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo "{text}: $(systemctl --version | head -n 1)" >/dev/console; sleep 1; systemctl --no-block poweroff'

[Install]
WantedBy=multi-user.target
"""


def main():
    image, text = Path(sys.argv[1]), sys.argv[2]
    if image.exists() and image.stat().st_mtime > Path(__file__).stat().st_mtime:
        return
    archive = Archive((disk.ROOT / "target/media-work").resolve(), "amd64", "trixie")
    with tempfile.TemporaryDirectory(dir=archive.dir) as work:
        tree, root = Path(work) / "tree", Path(work) / "root"
        install(archive, tree, text)
        root.touch()
        os.truncate(root, ROOT_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-L", LABEL, "-d", tree, root], check=True)
        disk.build(image, EARLY, {"README": b"the loader only\n"}, ESP_BYTES, root)


def install(archive: Archive, tree: Path, text: str):
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=linux-image-cloud-amd64,initramfs-tools,systemd-sysv,udev"]
    command += ["--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"]
    subprocess.run([*command, archive.suite, tree, archive.source()], check=True)
    for path, content in {"etc/systemd/system/says.service": UNIT.format(text=text), "boot/grub/grub.cfg": CONFIG, "etc/fstab": f"LABEL={LABEL} / ext4 rw 0 1\n"}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(content)
    wants = tree / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "says.service").symlink_to("../says.service")


main()
