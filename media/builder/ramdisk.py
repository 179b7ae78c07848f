"""The product `ramdisk`: the small environment as a unified kernel image, for UEFI HTTP Boot and
anything else that starts a single EFI program."""

import os
import subprocess
from pathlib import Path

from .debian import Archive
from .small import CONSOLES

#: Nobody can edit this command line, so the server comes from DHCP.
CMDLINE = "console=tty0 loglevel=5 panic=60 modprobe.blacklist=nouveau,rndis_host nouveau.modeset=0 bty.server=dhcp"
STUBS = {"amd64": "linuxx64.efi.stub", "arm64": "linuxaa64.efi.stub"}


def build(out: Path, version: str, archive: Archive, vmlinuz: bytes, initrd: bytes, work: Path):
    stub = archive.get("systemd-boot-efi").root / "usr/lib/systemd/boot/efi" / STUBS[archive.arch]
    ukify = archive.get("systemd-ukify").root / "usr/bin/ukify"
    library = archive.get("python3-pefile").root / "usr/lib/python3/dist-packages"
    paths = {"linux": work / "ramdisk.vmlinuz", "initrd": work / "ramdisk.initrd"}
    paths["linux"].write_bytes(vmlinuz)
    paths["initrd"].write_bytes(initrd)
    release = f'ID=bty\\nNAME=bty\\nVERSION_ID={version}\\nPRETTY_NAME="bty {version}"\\n'
    options = {"stub": stub, **paths, "cmdline": f"{CMDLINE} {CONSOLES[archive.arch]}", "os-release": release.replace("\\n", "\n"), "output": out}
    options |= {"efi-arch": {"amd64": "x64", "arm64": "aa64"}[archive.arch], "uname": archive.kernel().name.removeprefix("linux-image-")}
    command = ["python3", ukify, "build", *(f"--{name}={value}" for name, value in options.items())]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(library), "SOURCE_DATE_EPOCH": "315532800"})
