"""The product `usbboot-pc`: a stick with everything on it, which works offline."""

import subprocess
import tempfile
from pathlib import Path

from . import fat, iso
from .debian import Archive
from .small import CONSOLES

HERE = Path(__file__).resolve().parent.parent / "stick"
MIB = 1 << 20
ESP_BYTES = 8 * MIB
#: The largest file system that an MBR can express. It is formatted with this size, so that its
#: tables have room to grow, and then truncated.
IMAGES_MAX_BYTES = (1 << 41) - (4 << 20)
#: Size before it has grown, of which the tables take 17 MiB.
IMAGES_BYTES = 32 * MIB
#: GRUB finds the medium by this file, on BIOS and UEFI.
MARK = "bty/stick"
#: Name of the architecture in UEFI and in Debian's GRUB.
EFI = {"amd64": ("x64", "x86_64"), "arm64": ("aa64", "arm64")}
#: Shows the menu on a serial line. UEFI firmware of arm64 does that itself.
SERIAL = {"amd64": "serial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial", "arm64": ""}
EARLY = f"search --no-floppy --set=root --file /{MARK}\nset prefix=($root)/boot/grub\nconfigfile /boot/grub/grub.cfg\n"


def build(out: Path, version: str, archive: Archive, programs: dict[str, Path], files: dict[str, bytes]):
    """Writes the stick. `files` are the kernel and the environments, below `bty/`."""
    menu = (HERE / "grub.cfg").read_text()
    for name, value in {"VERSION": version, "SERIAL": SERIAL[archive.arch], "CONSOLES": CONSOLES[archive.arch]}.items():
        menu = menu.replace(f"@{name}@", value)
    readme = (HERE / "README.txt").read_bytes()
    efi_arch, grub_arch = EFI[archive.arch]
    shim = archive.get("shim-signed").root / f"usr/lib/shim/shim{efi_arch}.efi.signed"
    signed = archive.get(f"grub-efi-{archive.arch}-signed").root / f"usr/lib/grub/{grub_arch}-efi-signed/grub{efi_arch}.efi.signed"
    efi = {
        f"EFI/BOOT/BOOT{efi_arch.upper()}.EFI": shim.read_bytes(),
        f"EFI/BOOT/grub{efi_arch}.efi": signed.read_bytes(),
        # the path at which Debian's signed GRUB looks for its configuration
        "EFI/debian/grub.cfg": EARLY.encode(),
    }
    has_bios = archive.arch == "amd64"
    if has_bios:
        archive.record_installed("grub-pc-bin")
    with tempfile.TemporaryDirectory() as work:
        esp, images = Path(work) / "esp", Path(work) / "images"
        esp.write_bytes(fat.build(efi, ESP_BYTES, "BTY_BOOT"))
        format_images(images, programs["bty-live"])
        content = {**files, **efi, MARK: version.encode() + b"\n", "boot/grub/grub.cfg": menu.encode(), "README.txt": readme}
        iso.build(out, "BTY_USB", content, esp, EARLY if has_bios else None)
        # the partition type of exFAT
        iso.append(out, images, 0x07)


def format_images(path: Path, bty_live: Path):
    """Creates an exFAT file system that can grow in place."""
    with open(path, "wb") as file:
        file.truncate(IMAGES_MAX_BYTES)
    subprocess.run(["mkfs.exfat", "-c", "512K", "-L", "BTY_IMAGES", path], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([bty_live, "fit", path, str(IMAGES_BYTES)], check=True)
