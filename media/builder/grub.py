"""GRUB images with an embedded start script, built from the GRUB modules of this system."""

import subprocess
import tempfile
from pathlib import Path

MODULES = "part_gpt part_msdos fat iso9660 normal linux search search_fs_file search_label configfile serial terminal echo test sleep regexp".split()
BIOS = ["biosdisk", "linux16"]
LIB = Path("/usr/lib/grub")


def image(target: str, script: str, modules: list[str]) -> bytes:
    with tempfile.TemporaryDirectory() as work:
        early, out = Path(work) / "early.cfg", Path(work) / "out"
        early.write_text(script)
        subprocess.run(["grub-mkimage", "-O", target, "-o", out, "-p", "/grub", "-c", early, *modules], check=True)
        return out.read_bytes()
