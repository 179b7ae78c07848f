"""Creates disk images that boot with BIOS and UEFI, without mounting: a GPT, GRUB for both, an EFI
system partition, and optionally a root file system."""

import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "media"))

from builder import fat, grub  # noqa: E402

MIB = 1 << 20
SECTOR = 512
ESP_START = 1 * MIB
# where the boot sector finds the core image of GRUB
CORE = 34


def build(image: Path, early: str, files: dict[str, bytes], esp_bytes: int, root: Path | None = None):
    """`early` is the start script of GRUB, `files` are those of the ESP, and `root` is the content
    of the root partition.
    """
    files = {**files, "EFI/BOOT/BOOTX64.EFI": grub.image("x86_64-efi", early, [*grub.MODULES, "ext2"])}
    root_start = ESP_START + esp_bytes
    size = root_start + (root.stat().st_size if root else 0) + MIB
    table = ["-a", "1", "-n", f"1:{CORE}:2047", "-t", "1:ef02", "-n", f"2:{ESP_START // SECTOR}:{root_start // SECTOR - 1}", "-t", "2:ef00", "-c", "2:ESP"]
    if root:
        table += ["-n", f"3:{root_start // SECTOR}:{(size - MIB) // SECTOR - 1}", "-t", "3:8300"]
    with tempfile.TemporaryDirectory() as work:
        part = Path(work) / "image"
        part.touch()
        subprocess.run(["truncate", "-s", str(size), part], check=True)
        subprocess.run(["sgdisk", *table, part], check=True, stdout=subprocess.DEVNULL)
        with open(part, "r+b") as disk:
            boot_sector(disk, early)
            disk.seek(ESP_START)
            disk.write(fat.build(files, esp_bytes, "ESP"))
        if root:
            subprocess.run(["dd", f"if={root}", f"of={part}", "bs=1M", f"seek={root_start // MIB}", "conv=notrunc,sparse", "status=none"], check=True)
        image.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "--sparse=always", part, image], check=True)


def boot_sector(disk, early: str):
    boot, core = grub.LIB / "i386-pc/boot.img", grub.image("i386-pc", early, [*grub.MODULES, *grub.BIOS, "ext2"])
    # the block list of the core image of GRUB
    core = bytearray(core + bytes(-len(core) % SECTOR))
    struct.pack_into("<QHH", core, 0x1F4, CORE + 1, len(core) // SECTOR - 1, 0x820)
    mbr = bytearray(disk.read(SECTOR))
    mbr[:440] = boot.read_bytes()[:440]
    struct.pack_into("<Q", mbr, 0x5C, CORE)
    mbr[0x66:0x68] = b"\x90\x90"
    disk.seek(0)
    disk.write(mbr)
    disk.seek(CORE * SECTOR)
    disk.write(core)
