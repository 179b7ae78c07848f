"""The stick with everything on it: `usbboot-pc`."""

import subprocess
import tempfile
from pathlib import Path

from . import fat, iso
from .debian import Archive

HERE = Path(__file__).resolve().parent.parent / "stick"
MIB = 1 << 20
ESP_BYTES = 8 * MIB
#: The largest file system that an MBR has room for: its tables are made for it, and then it is cut off.
IMAGES_MAX_BYTES = (1 << 41) - (4 << 20)
#: What it is before it has grown: the tables take 17 MiB of it.
IMAGES_BYTES = 32 * MIB
#: Both firmwares find what they boot by this file, whatever the medium is called.
MARK = "bty/stick"
EARLY = f"search --no-floppy --set=root --file /{MARK}\nset prefix=($root)/boot/grub\nconfigfile /boot/grub/grub.cfg\n"


def build(out: Path, version: str, archive: Archive, programs: dict[str, Path], files: dict[str, bytes]):
    """`files` are the kernel and the environments, in `bty/`."""
    menu = (HERE / "grub.cfg").read_text().replace("@VERSION@", version).encode()
    readme = (HERE / "README.txt").read_bytes()
    shim = archive.get("shim-signed").root / "usr/lib/shim/shimx64.efi.signed"
    signed = archive.get("grub-efi-amd64-signed").root / "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
    efi = {
        "EFI/BOOT/BOOTX64.EFI": shim.read_bytes(),
        "EFI/BOOT/grubx64.efi": signed.read_bytes(),
        # where that one looks, on sticks and on CDs
        "EFI/debian/grub.cfg": EARLY.encode(),
    }
    archive.note_installed("grub-pc-bin")
    with tempfile.TemporaryDirectory() as work:
        esp, images = Path(work) / "esp", Path(work) / "images"
        esp.write_bytes(fat.build(efi, ESP_BYTES, "BTY_BOOT"))
        format_images(images, programs["bty-live"])
        content = {**files, **efi, MARK: version.encode() + b"\n", "boot/grub/grub.cfg": menu, "README.txt": readme}
        iso.build(out, "BTY_USB", content, esp, EARLY)
        # of the kind that exFAT has
        iso.append(out, images, 0x07)


def format_images(path: Path, bty_live: Path):
    """An exFAT file system that can grow in place."""
    with open(path, "wb") as file:
        file.truncate(IMAGES_MAX_BYTES)
    subprocess.run(["mkfs.exfat", "-c", "512K", "-L", "BTY_IMAGES", path], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([bty_live, "fit", path, str(IMAGES_BYTES)], check=True)
