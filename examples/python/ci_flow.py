"""Tests an image and packs it for publication: ci_flow.py IMAGE OUT TEXT

Writes the image to a file, boots that in QEMU until TEXT appears on the serial console, and packs
the image. The directory OUT gets report.json, console.log and the packed image, which a CI job
uploads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import bty


def boot(disk: Path, text: str, log: Path, seconds: float = 300) -> bool:
    """Boots a machine from ``disk``; true if ``text`` appears on its console in time."""
    drive = f"file={str(disk).replace(',', ',,')},format=raw,if=virtio"
    # plain emulation works on every host; accel=kvm is faster where the host has it
    command = ["qemu-system-x86_64", "-machine", "accel=tcg", "-m", "512", "-no-reboot", "-nodefaults", "-display", "none"]
    machine = subprocess.Popen([*command, "-serial", "stdio", "-drive", drive], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert machine.stdout is not None
    # ends the loop below, because the console ends with the machine
    timer = threading.Timer(seconds, machine.kill)
    timer.start()
    console = b""
    try:
        while text.encode() not in console:
            piece = os.read(machine.stdout.fileno(), 65536)
            if not piece:
                return False
            console += piece
        return True
    finally:
        timer.cancel()
        machine.kill()
        machine.wait()
        machine.stdout.close()
        log.write_bytes(console)


def main(image: str, out: Path, text: str) -> int:
    out.mkdir(parents=True, exist_ok=True)
    with bty.images.open(image, compute_sha256=True) as opened, tempfile.TemporaryDirectory(dir=out) as directory:
        need = opened.info.min_disk_bytes or opened.read_fully().disk_bytes
        disk = bty.disks.create_file(Path(directory) / "disk", need)
        report = bty.flash(opened, disk)
        (out / "report.json").write_text(json.dumps(report.to_dict(), indent=2))
        if not boot(disk.path, text, out / "console.log"):
            print(f"{image} does not boot: {text!r} is not in {out / 'console.log'}", file=sys.stderr)
            return 1
        packed = bty.pack(opened, out / f"{opened.info.name.split('.')[0]}.img.zst")
    print(f"{packed.path}: boots, {bty.size.human(packed.file_bytes)}, sha256 {packed.sha256}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
    except bty.Error as error:
        sys.exit(f"{error}\n{error.hint or ''}")
